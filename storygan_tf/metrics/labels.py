"""Metrics of predicted labels: micro F1 and frame accuracy.

Both are computed from counts, which can be summed over batches.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class LabelCounts:
    """Counts of right and wrong labels over frames; `first + second` are the counts over both sets of frames.

    Attributes:
        true_positives: int64 `[labels]`, number of frames that have the label and for which it is predicted.
        false_positives: int64 `[labels]`, number of frames without the label for which it is predicted.
        false_negatives: int64 `[labels]`, number of frames that have the label and for which it is not predicted.
        exact: number of frames of which every label is right.
        frames: number of all frames.
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
        """Micro F1 over all frames and labels, in [0, 1]; 0 if no frame has a label, neither true nor predicted."""
        numerator = 2 * int(self.true_positives.sum())
        denominator = numerator + int(self.false_positives.sum()) + int(self.false_negatives.sum())
        return numerator / denominator if denominator else 0.0

    @property
    def frame_accuracy(self) -> float:
        """Fraction of frames of which every label is right, in [0, 1]; 0 if there is no frame."""
        return self.exact / self.frames if self.frames else 0.0


@dataclasses.dataclass(frozen=True)
class StoryLabelCounts:
    """Counts of right and wrong labels for each story, over the story's frames.

    Attributes:
        true_positives: int64 `[stories, labels]`, number of frames that have the label and for which it is predicted.
        false_positives: int64 `[stories, labels]`, number of frames without the label for which it is predicted.
        false_negatives: int64 `[stories, labels]`, number of frames that have the label and for which it is not
            predicted.
        exact: int64 `[stories]`, number of frames of which every label is right.
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray
    exact: np.ndarray


def story_label_counts(true: np.ndarray, predicted: np.ndarray) -> StoryLabelCounts:
    """Counts right and wrong labels of each story.

    Args:
        true: bool or 0/1, `[stories, frames, labels]`.
        predicted: bool or 0/1 of the same shape.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_shapes(true, predicted)
    labelled, detected = (np.asarray(flags, bool) for flags in (true, predicted))
    return StoryLabelCounts(
        true_positives=(labelled & detected).sum(axis=1),
        false_positives=(~labelled & detected).sum(axis=1),
        false_negatives=(labelled & ~detected).sum(axis=1),
        exact=(labelled == detected).all(axis=2).sum(axis=1),
    )


def count_labels(true: np.ndarray, predicted: np.ndarray) -> LabelCounts:
    """Counts right and wrong labels over all frames.

    Args:
        true: bool or 0/1, `[..., labels]`.
        predicted: bool or 0/1 of the same shape.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_shapes(true, predicted)
    # Counts all frames as the frames of one story.
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
    """Returns 2TP / (2TP + FP + FN) over all frames and labels, in [0, 1].

    Args:
        true: bool or 0/1, `[..., labels]`.
        predicted: bool or 0/1 of the same shape.

    Raises:
        ValueError: if the shapes differ.
    """
    return count_labels(true, predicted).f1


def frame_accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the fraction of frames of which every label is right, in [0, 1].

    Args:
        true: bool or 0/1, `[..., labels]`.
        predicted: bool or 0/1 of the same shape.

    Raises:
        ValueError: if the shapes differ.
    """
    return count_labels(true, predicted).frame_accuracy


def _check_shapes(true: np.ndarray, predicted: np.ndarray) -> None:
    if true.shape != predicted.shape:
        raise ValueError(f"labels: found shapes {true.shape} and {predicted.shape}, expected the same shape.")
