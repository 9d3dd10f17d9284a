"""Consistency: whether what was shown in an earlier frame of a story is seen again where it should be."""

from __future__ import annotations

import numpy as np


def consistency_counts(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts the labels that frames share with earlier ones of their story, and those that are seen there.

    A label is shared in every frame but the first that truly shows it, if any earlier true frame showed it already.

    Args:
        true: `[stories, frames, labels]`, bool or 0/1.
        predicted: the same shape.

    Returns:
        Shared labels that are predicted in their frame, and all shared labels; both int64 `[stories]`.

    Raises:
        ValueError: where the shapes differ.
    """
    if true.shape != predicted.shape:
        raise ValueError(f"consistency: found shapes {true.shape} and {predicted.shape}, expected the same shape.")
    there, seen = (np.asarray(flags, bool) for flags in (true, predicted))
    so_far = np.logical_or.accumulate(there, axis=1)
    shared = there[:, 1:] & so_far[:, :-1]
    return (shared & seen[:, 1:]).sum(axis=(1, 2)), shared.sum(axis=(1, 2))
