"""How much the splits of a data set have in common: what a test story shares with training flatters a model."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

_PAIRS = (("val", "train"), ("test", "train"), ("test", "val"))


@dataclasses.dataclass(frozen=True)
class Overlap:
    """What the stories of one split share with another split.

    Attributes:
        split: the split.
        other: the one that it is held against.
        stories: stories of `split`.
        same_pictures: those whose pictures are all those of a story of `other`, in their order.
        same_sentences: those whose sentences are.
        shared_picture: those with at least one picture that a story of `other` has.
    """

    split: str
    other: str
    stories: int
    same_pictures: int
    same_sentences: int
    shared_picture: int


@dataclasses.dataclass
class _Split:
    """The stories of a split: digests of each picture, of all of a story's pictures, and of its sentences."""

    pictures: list[tuple[bytes, ...]] = dataclasses.field(default_factory=list)
    sentences: list[bytes] = dataclasses.field(default_factory=list)

    def shared(self, other: _Split) -> tuple[int, int, int]:
        """Returns how many stories have the same pictures, the same sentences, a picture in common."""
        pictures, sentences = {*other.pictures}, {*other.sentences}
        single = {picture for story in other.pictures for picture in story}
        return (
            sum(story in pictures for story in self.pictures),
            sum(story in sentences for story in self.sentences),
            sum(not single.isdisjoint(story) for story in self.pictures),
        )


class OverlapCounter:
    """Is told of story after story, and then what splits have in common."""

    def __init__(self) -> None:
        self._splits: defaultdict[str, _Split] = defaultdict(_Split)

    def add(self, split: str, pictures: Sequence[bytes], sentences: Sequence[str]) -> None:
        """Takes note of a story.

        Args:
            split: the split that it is in.
            pictures: a digest of each picture (`storygan_tf.data.datasets.image_sources.identity_of`).
            sentences: its sentences.
        """
        self._splits[split].pictures.append(tuple(pictures))
        content = "\n".join(" ".join(sentence.split()) for sentence in sentences)
        self._splits[split].sentences.append(hashlib.blake2b(content.encode(), digest_size=16).digest())

    def overlaps(self) -> Iterator[Overlap]:
        """Yields what the splits that are there have in common."""
        for split, other in _PAIRS:
            if split in self._splits and other in self._splits:
                stories = self._splits[split]
                yield Overlap(split, other, len(stories.pictures), *stories.shared(self._splits[other]))
