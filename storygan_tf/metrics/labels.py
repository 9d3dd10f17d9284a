"""Figures over the labels that a classifier sees in frames: micro F1 and frame accuracy.

Both follow from counts that add up, so that a long data set is counted a batch at a time.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class LabelCounts:
    """Counts over frames; counts of two sets of frames add up to those of both.

    Attributes:
        true_positives: int64 `[labels]`, frames with the label where it was predicted.
        false_positives: int64 `[labels]`, frames without the label where it was predicted.
        false_negatives: int64 `[labels]`, frames with the label where it was not predicted.
        exact: frames of which every label was right.
        frames: all frames.
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray
    exact: int
    frames: int

    def __add__(self, other: LabelCounts) -> LabelCounts:
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in dataclasses.fields(self))
        return LabelCounts(*(first + second for first, second in pairs))

    @property
    def f1(self) -> float:
        """Micro F1 over all frames and labels, 0..1; 0 where there is no label, neither true nor predicted."""
        twice = 2 * int(self.true_positives.sum())
        both = twice + int(self.false_positives.sum()) + int(self.false_negatives.sum())
        return twice / both if both else 0.0

    @property
    def frame_accuracy(self) -> float:
        """Fraction of frames of which every label is right, 0..1."""
        return self.exact / self.frames if self.frames else 0.0


@dataclasses.dataclass(frozen=True)
class StoryLabelCounts:
    """The same counts story by story, over a story's frames.

    Attributes:
        true_positives: int64 `[stories, labels]`.
        false_positives: int64 `[stories, labels]`.
        false_negatives: int64 `[stories, labels]`.
        exact: int64 `[stories]`.
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray
    exact: np.ndarray


def story_label_counts(true: np.ndarray, predicted: np.ndarray) -> StoryLabelCounts:
    """Compares labels with predicted ones, story by story.

    Args:
        true: `[stories, frames, labels]`, bool or 0/1.
        predicted: the same shape.

    Raises:
        ValueError: where the shapes differ.
    """
    _check(true, predicted)
    there, seen = (np.asarray(flags, bool) for flags in (true, predicted))
    return StoryLabelCounts(
        true_positives=(there & seen).sum(axis=1),
        false_positives=(~there & seen).sum(axis=1),
        false_negatives=(there & ~seen).sum(axis=1),
        exact=(there == seen).all(axis=2).sum(axis=1),
    )


def count_labels(true: np.ndarray, predicted: np.ndarray) -> LabelCounts:
    """Compares labels with predicted ones, over all frames.

    Args:
        true: `[..., labels]`, bool or 0/1.
        predicted: the same shape.

    Raises:
        ValueError: where the shapes differ.
    """
    _check(true, predicted)
    # All frames as those of one story.
    true, predicted = (flags.reshape(1, -1, flags.shape[-1]) for flags in (true, predicted))
    counts = story_label_counts(true, predicted)
    return LabelCounts(
        true_positives=counts.true_positives[0],
        false_positives=counts.false_positives[0],
        false_negatives=counts.false_negatives[0],
        exact=int(counts.exact[0]),
        frames=true.shape[1],
    )


def micro_f1(true: np.ndarray, predicted: np.ndarray) -> float:
    """Returns 2TP / (2TP + FP + FN) over all frames and labels, 0..1 (arguments as of `count_labels`)."""
    return count_labels(true, predicted).f1


def frame_accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the fraction of frames of which every label is right, 0..1 (arguments as of `count_labels`)."""
    return count_labels(true, predicted).frame_accuracy


def _check(true: np.ndarray, predicted: np.ndarray) -> None:
    if true.shape != predicted.shape:
        raise ValueError(f"labels: found shapes {true.shape} and {predicted.shape}, expected the same shape.")
