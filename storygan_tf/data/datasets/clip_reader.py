"""`ClipReader`: base class of the readers of published data sets whose stories are sequences of video clips."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from storygan_tf.data.datasets.reader import BadValueError, PublishedReader, require
from storygan_tf.data.datasets.story import Reject, Story

FOLLOWING = 4
"""Number of clips that follow the first clip of a story."""

Key = TypeVar("Key", int, str)
"""What the split file lists stories by."""


class ClipReader(PublishedReader, Generic[Key]):
    """Base class of readers of a data set whose stories are a clip and the four clips that follow it.

    Args:
        folder: the data folder.
        max_sentence_length: largest number of characters in a sentence.
        frame_seed: seed of the choice of one frame from each clip.

    Attributes:
        index_file: the file at fault if a story is rejected and the fault is in no other file.
    """

    index_file: str

    def __init__(self, folder: Path, max_sentence_length: int = 1000, frame_seed: int = 0) -> None:
        super().__init__(folder, max_sentence_length)
        self._frame_seed = frame_seed

    def stories(self) -> Iterator[Story | Reject]:
        """Yields the stories of each split, in the order of the split file.

        Raises:
            DataError: if a file of the layout is missing or damaged, or is a pickle that could run code.
        """
        seen: set[Key] = set()
        for split, keys in self._splits.items():
            for key in keys:
                if not self._begins_story(key, split):
                    continue
                try:
                    require(key not in seen, "in the splits more than once", self._split_file)
                    seen.add(key)
                    yield self._story(key, split)
                except BadValueError as error:
                    yield Reject(self._story_id(key), error.file or self.index_file, error.reason)

    @property
    @abc.abstractmethod
    def _split_file(self) -> str:
        """Name of the file that lists the splits."""

    @property
    @abc.abstractmethod
    def _splits(self) -> Mapping[str, Sequence[Key]]:
        """The keys of the stories' first clips, by split."""

    @abc.abstractmethod
    def _story_id(self, key: Key) -> str:
        """Returns the name of the story with a key."""

    @abc.abstractmethod
    def _story(self, key: Key, split: str) -> Story:
        """Returns the story with a key.

        Raises:
            BadValueError: if it cannot be used.
        """

    def _begins_story(self, key: Key, split: str) -> bool:
        """Returns whether there is a story with this key; the others are left out without a reject."""
        del key, split
        return True
