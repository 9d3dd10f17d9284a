"""`OverlapCounter`: counts what the splits of a data set have in common.

Test stories that share pictures or sentences with training stories make a model look better than it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

_PAIRS = (("val", "train"), ("test", "train"), ("test", "val"))


@dataclasses.dataclass(frozen=True)
class Overlap:
    """What the stories of one split share with those of another split.

    Attributes:
        split: the split.
        other: the split that it is compared with.
        stories: number of stories of `split`.
        same_pictures: number of them with the same pictures, in the same order, as a story of `other`.
        same_sentences: number of them with the same sentences, in the same order, as a story of `other`.
        shared_picture: number of them with at least one picture of a story of `other`.
    """

    split: str
    other: str
    stories: int
    same_pictures: int
    same_sentences: int
    shared_picture: int


@dataclasses.dataclass
class _Split:
    """The stories of a split: for each one the digests of its pictures, and a digest of its sentences."""

    pictures: list[tuple[bytes, ...]] = dataclasses.field(default_factory=list)
    sentences: list[bytes] = dataclasses.field(default_factory=list)

    def shared(self, other: _Split) -> tuple[int, int, int]:
        """Compares the split with another.

        Returns:
            The numbers of stories with the same pictures as a story of `other`, with the same sentences, and with a
            picture in common.
        """
        pictures, sentences = {*other.pictures}, {*other.sentences}
        single = {picture for story in other.pictures for picture in story}
        return (
            sum(story in pictures for story in self.pictures),
            sum(story in sentences for story in self.sentences),
            sum(not single.isdisjoint(story) for story in self.pictures),
        )


class OverlapCounter:
    """Collects stories and counts those that share pictures or sentences with another split."""

    def __init__(self) -> None:
        self._splits: defaultdict[str, _Split] = defaultdict(_Split)

    def add(self, split: str, pictures: Sequence[bytes], sentences: Sequence[str]) -> None:
        """Adds a story.

        Args:
            split: the story's split.
            pictures: a digest of each picture (`storygan_tf.data.datasets.image_sources.source_digest`).
            sentences: the story's sentences; differences in white space are ignored.
        """
        self._splits[split].pictures.append(tuple(pictures))
        content = "\n".join(" ".join(sentence.split()) for sentence in sentences)
        self._splits[split].sentences.append(hashlib.blake2b(content.encode(), digest_size=16).digest())

    def overlaps(self) -> Iterator[Overlap]:
        """Yields the overlap of each pair of splits that both have stories."""
        for split, other in _PAIRS:
            if split in self._splits and other in self._splits:
                stories = self._splits[split]
                yield Overlap(split, other, len(stories.pictures), *stories.shared(self._splits[other]))
