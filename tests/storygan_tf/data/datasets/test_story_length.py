"""Stories of another length than the model's: the number of frames of a data set, and what becomes of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets import Reject, Story
from storygan_tf.data.datasets.story_length import fit_length, only_length


def story(length: int, name: str = "s") -> Story:
    """Returns a story whose frame n has the sentence, the picture, the label and the object n."""
    numbers = [str(number) for number in range(length)]
    return Story(
        name,
        "train",
        tuple(numbers),
        tuple(Path(number) for number in numbers),
        tuple((number,) for number in numbers),
        tuple(({"shape": number},) for number in numbers),
        "stories.jsonl",
    )


def test_the_only_length_of_the_data():
    reject = Reject("r", "f", "missing image")
    assert only_length([story(3), reject, story(3)], "data") == 3
    assert only_length([reject], "data") is None
    with pytest.raises(DataError) as raised:
        only_length([story(3), story(5), story(3)], "data")
    assert "data folder data: found stories of different numbers of frames (2 of 3, 1 of 5)" in str(raised.value)
    assert "--set model.frames=N" in str(raised.value)


def test_a_story_of_the_right_length_is_unchanged():
    assert fit_length(story(4), 4, "cut") == fit_length(story(4), 4, "split") == [story(4)]


def test_a_longer_story_is_cut_to_its_first_frames():
    (cut,) = fit_length(story(5), 4, "cut")
    assert cut == story(4)


def test_a_longer_story_becomes_several():
    first, second = fit_length(story(5), 2, "split")
    assert (first.story_id, second.story_id) == ("s-part1", "s-part2")
    assert second.sentences == ("2", "3")
    assert second.images == (Path("2"), Path("3"))
    assert second.labels == (("2",), ("3",))
    assert second.objects == (({"shape": "2"},), ({"shape": "3"},))
    assert second.split == "train"
    (alone,) = fit_length(Story("t", None, ("a", "b", "c"), (Path("a"), Path("b"), Path("c"))), 2, "split")
    assert (alone.story_id, alone.labels, alone.objects) == ("t-part1", None, None)


@pytest.mark.parametrize("long_stories", ["cut", "split"])
def test_a_shorter_story_is_rejected(long_stories):
    assert fit_length(story(3), 4, long_stories) == Reject("s", "stories.jsonl", "3 frames, expected 4")
