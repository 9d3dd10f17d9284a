"""What every client does, whatever its protocol: check requests and cache the model's information.

Needs Pillow, not TensorFlow or gRPC.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Sequence

from serving.call_errors import ServingError
from serving.story_io import ModelInfo, Story, check_stories


class InfoCache:
    """Keeps a model's information until there is a sign that the server has another model or version by now.

    Attributes:
        info: the cached information, or None.
    """

    def __init__(self) -> None:
        self.info: ModelInfo | None = None

    def drop_unless_it_fits(self, stories: Sequence[Sequence[str]]) -> None:
        """Drops the information if a story has another number of sentences than the cached model's stories."""
        info = self.info  # read once: other threads may drop it meanwhile
        if info and any(len(story) != info.frames for story in stories):
            self.info = None

    def drop_other_version(self, version: int | None) -> None:
        """Drops the information if it is not that of `version`, the version that sent the latest response."""
        info = self.info
        if info and info.version != version:
            self.info = None

    @contextlib.contextmanager
    def dropped_by_refusal(self) -> Iterator[None]:
        """Drops the information if the block raises INVALID_ARGUMENT for the request as a whole."""
        try:
            yield
        except ServingError as error:
            if error.status == "INVALID_ARGUMENT" and not error.rows:
                self.info = None
            raise


class BlockingStoryClient(abc.ABC):
    """Base of the synchronous clients. A subclass sends the requests and reads the responses."""

    def __init__(self) -> None:
        self._cache = InfoCache()

    def info(self) -> ModelInfo:
        """Returns the model's information. It is requested once and then cached.

        Raises:
            ServingError: if the server does not answer, or its model is no StoryGAN.
        """
        info = self._cache.info
        if info is None:
            self._cache.info = info = self._request_info()
        return info

    def generate(self, sentences: Sequence[str], seed: int = 0, timeout: float | None = None) -> Story:
        """Draws a story.

        Args:
            sentences: T sentences.
            seed: integer of 64 bits.
            timeout: seconds for the request with all its attempts; None for the client's own timeout.

        Returns:
            The story with its pictures.

        Raises:
            ServingError: if the story cannot be drawn; its status is INVALID_ARGUMENT if the story is at fault.
        """
        return self.generate_many([sentences], [seed], timeout)[0]

    def generate_many(
        self, stories: Sequence[Sequence[str]], seeds: Sequence[int] | None = None, timeout: float | None = None
    ) -> list[Story]:
        """Draws several stories in one request.

        Args:
            stories: [batch] of T sentences each.
            seeds: [batch] integers of 64 bits; None for 0 for every story.
            timeout: seconds for the request with all its attempts; None for the client's own timeout.

        Returns:
            [batch] stories with their pictures.

        Raises:
            ServingError: if a story cannot be drawn. If the model refuses stories, the status is INVALID_ARGUMENT and
                `rows` has the reason for each refused position.
        """
        self._cache.drop_unless_it_fits(stories)
        info = self.info()
        seeds = check_stories(stories, seeds, info.frames)
        with self._cache.dropped_by_refusal():
            return self._request_stories(stories, seeds, info, timeout)

    @abc.abstractmethod
    def _request_info(self) -> ModelInfo:
        """Returns the response to signature `info`."""

    @abc.abstractmethod
    def _request_stories(
        self, stories: Sequence[Sequence[str]], seeds: Sequence[int], info: ModelInfo, timeout: float | None
    ) -> list[Story]:
        """Sends checked stories and returns them with their pictures."""
