"""What all clients share: one request for the model's information, checks, and when the information is fetched anew."""

from __future__ import annotations

import pytest

from serving.base_client import BlockingStoryClient
from serving.call_errors import ServingError
from serving.story_io import ModelInfo, Story


class FakeClient(BlockingStoryClient):
    """Serves a model with stories of `frames` sentences and counts the requests for its information."""

    def __init__(self, frames: int = 2) -> None:
        super().__init__()
        self.frames = frames
        self.info_requests = 0
        self.error: ServingError | None = None
        self.sent: list = []

    def _request_info(self):
        self.info_requests += 1
        return ModelInfo(self.frames, (), frozenset(), {}, version=1)

    def _request_stories(self, stories, seeds, info, timeout):
        self.sent.append((stories, seeds, info.frames, timeout))
        if self.error:
            raise self.error
        return [Story(tuple(story), None, (), ()) for story in stories]


def test_the_information_is_requested_once():
    client = FakeClient()
    for _ in range(3):
        client.generate(["a", "b"], seed=5, timeout=9)
    assert client.info().frames == 2
    assert client.info_requests == 1
    assert client.sent == [([["a", "b"]], [5], 2, 9)] * 3


def test_stories_of_another_length_fetch_it_anew():
    client = FakeClient()
    client.info()
    client.frames = 3
    client.generate(["a", "b", "c"])
    assert (client.info_requests, client.sent[0][2]) == (2, 3)


@pytest.mark.parametrize(
    ("error", "requests"),
    [
        (ServingError("INVALID_ARGUMENT", "another model"), 2),
        (ServingError("INVALID_ARGUMENT", "a blank sentence", {0: "blank"}), 1),
        (ServingError("UNAVAILABLE", "busy"), 1),
    ],
)
def test_a_request_that_is_refused_as_a_whole_fetches_it_anew(error, requests):
    client = FakeClient()
    client.error = error
    with pytest.raises(ServingError):
        client.generate(["a", "b"])
    client.info()
    assert client.info_requests == requests


def test_another_version_fetches_it_anew():
    client = FakeClient()
    client.info()
    client._cache.drop_other_version(1)
    client.info()
    assert client.info_requests == 1
    client._cache.drop_other_version(2)
    client.info()
    assert client.info_requests == 2


@pytest.mark.parametrize(
    ("stories", "seeds", "words"),
    [
        ([["a", "b"], ["a"]], None, "story 2: found 1 sentences, expected 2"),
        (["ab"], None, "expected a list of sentences"),
        ([], None, "found no story"),
        ([["a", 3]], None, "found a sentence that is no text"),
        ([["a", "\ud800"]], None, "found a sentence that is no text"),
        ([["a", "b"]], [1, 2], "found 2 seeds for 1 stories"),
        ([["a", "b"]], [2**63], "expected a whole number of 64 bits"),
    ],
)
def test_stories_are_checked_before_anything_is_sent(stories, seeds, words):
    client = FakeClient()
    with pytest.raises(ServingError, match=f"INVALID_ARGUMENT: .*{words}"):
        client.generate_many(stories, seeds)
    assert client.sent == []
