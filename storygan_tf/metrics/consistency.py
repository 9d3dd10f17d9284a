"""Consistency: whether labels that recur in the true frames of a story also recur in its generated frames."""

from __future__ import annotations

import numpy as np


def consistency_counts(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts recurring labels, and how many of them are predicted.

    A label of a frame is recurring if the true frame has it and an earlier true frame of the story has it, too. Each
    frame with a recurring label counts.

    Args:
        true: bool or 0/1, `[stories, frames, labels]`, the labels of the true frames.
        predicted: bool or 0/1 of the same shape, the labels that a classifier predicts.

    Returns:
        The number of recurring labels that are predicted in their frame, and the number of all recurring labels, both
        int64 `[stories]`.

    Raises:
        ValueError: if the shapes differ.
    """
    if true.shape != predicted.shape:
        raise ValueError(f"consistency: found shapes {true.shape} and {predicted.shape}, expected the same shape.")
    labelled, detected = (np.asarray(flags, bool) for flags in (true, predicted))
    so_far = np.logical_or.accumulate(labelled, axis=1)
    recurring = labelled[:, 1:] & so_far[:, :-1]
    return (recurring & detected[:, 1:]).sum(axis=(1, 2)), recurring.sum(axis=(1, 2))
