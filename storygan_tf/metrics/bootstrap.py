"""How far a figure could have fallen otherwise: 95% bootstrap intervals over the judged stories.

Efron, "Bootstrap methods: another look at the jackknife", 1979: stories are drawn again with replacement, as many as
there are, and the middle 95% of the figures of such draws are the interval (the percentile method). Frames of a story
are alike and so are never drawn apart. The same arguments give the same interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_AT_ONCE = 1_000_000
"""Drawn indices that are held at once, so that memory does not grow with stories times replicates."""


def interval(
    numerators: np.ndarray, denominators: np.ndarray, seed: int, replicates: int = 1000
) -> tuple[float, float]:
    """Returns the 95% interval of a figure that is a ratio of sums over stories.

    Args:
        numerators: `[stories]`, what each story adds above the line.
        denominators: `[stories]`, what it adds below, 0 or more.
        seed: of the draws.
        replicates: draws; those whose denominators are all 0 have no figure and are left out.

    Raises:
        ValueError: where there is no story or draw, shapes differ, a number is not finite, or no draw has a figure.
    """
    return _middle(_ratios([(numerators, denominators)], seed, replicates)[:, 0])


def difference_interval(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], seed: int, replicates: int = 1000
) -> tuple[float, float]:
    """Returns the 95% interval of first minus second, two figures of the same stories.

    A draw takes the same stories for both: what makes a story hard for both does not count as a difference.

    Args:
        first: numerators and denominators by story, as of `interval`.
        second: the same of the other figure; entry for entry the same stories.
        seed: of the draws.
        replicates: draws; those in which either figure is missing are left out.

    Raises:
        ValueError: as of `interval`.
    """
    ratios = _ratios([first, second], seed, replicates)
    return _middle(ratios[:, 0] - ratios[:, 1])


def _ratios(pairs: Sequence[tuple[np.ndarray, np.ndarray]], seed: int, replicates: int) -> np.ndarray:
    """Returns the ratios of each draw that has them all, float64 `[draws, pairs]`."""
    columns = [np.asarray(column, np.float64) for pair in pairs for column in pair]
    shapes = {column.shape for column in columns}
    if len(shapes) != 1 or columns[0].ndim != 1 or not columns[0].size:
        raise ValueError(f"bootstrap: found arrays of shapes {sorted(shapes)}, expected [stories], at least 1 story.")
    stories = np.stack(columns, axis=-1)
    if not np.isfinite(stories).all() or (stories[:, 1::2] < 0).any():
        raise ValueError("bootstrap: found a number that is not finite or a denominator below 0, expected neither.")
    sums = np.concatenate([weights @ stories for weights in _weights(len(stories), replicates, seed)])
    numerators, denominators = sums[:, ::2], sums[:, 1::2]
    kept = (denominators > 0).all(axis=1)
    if not kept.any():
        raise ValueError(f"bootstrap: found only zeros as denominators of {len(stories)} stories, expected others.")
    return np.asarray(numerators[kept] / denominators[kept])


def _weights(count: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each of `count` things is drawn, int64 `[some draws, count]`, until all draws are made."""
    if replicates < 1:
        raise ValueError(f"bootstrap: found {replicates} replicates, expected at least 1.")
    random = np.random.default_rng(seed)
    at_once = max(_AT_ONCE // count, 1)
    for start in range(0, replicates, at_once):
        drawn = random.integers(count, size=(min(at_once, replicates - start), count))
        yield np.stack([np.bincount(draw, minlength=count) for draw in drawn])


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
