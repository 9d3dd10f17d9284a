"""95% bootstrap intervals of metrics over the evaluated stories.

Efron, "Bootstrap methods: another look at the jackknife", 1979: stories are resampled with replacement, as many as
there are, and the interval is the middle 95% of the metric over many such samples (the percentile method). The frames
of a story are correlated, so whole stories are resampled, never single frames. The same arguments give the same
interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_MAX_INDICES = 1_000_000
"""Most resampled indices held in memory at a time, so that memory does not grow with stories times replicates."""


def interval(
    numerators: np.ndarray, denominators: np.ndarray, seed: int, replicates: int = 1000
) -> tuple[float, float]:
    """Returns the 95% interval of a metric that is a ratio of sums over stories.

    Args:
        numerators: float or int `[stories]`, what each story adds to the numerator.
        denominators: float or int `[stories]`, what each story adds to the denominator, 0 or more.
        seed: seed of the resampling.
        replicates: number of bootstrap samples. Samples whose denominators sum to 0 are left out.

    Returns:
        The lower and the upper end of the interval.

    Raises:
        ValueError: if there is no story or no replicate, the shapes differ, a number is not finite, a denominator is
            negative, or the denominators of every sample sum to 0.
    """
    return _percentile_interval(_ratios([(numerators, denominators)], seed, replicates)[:, 0])


def difference_interval(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], seed: int, replicates: int = 1000
) -> tuple[float, float]:
    """Returns the 95% interval of the difference `first - second` of two metrics on the same stories.

    Each bootstrap sample uses the same stories for both metrics, so a story that is hard for both does not widen the
    interval.

    Args:
        first: numerators and denominators of the first metric, each float or int `[stories]`, as in `interval`.
        second: numerators and denominators of the second metric, for the same stories in the same order.
        seed: seed of the resampling.
        replicates: number of bootstrap samples. Samples in which either denominator sums to 0 are left out.

    Returns:
        The lower and the upper end of the interval.

    Raises:
        ValueError: under the conditions that `interval` lists.
    """
    ratios = _ratios([first, second], seed, replicates)
    return _percentile_interval(ratios[:, 0] - ratios[:, 1])


def _ratios(pairs: Sequence[tuple[np.ndarray, np.ndarray]], seed: int, replicates: int) -> np.ndarray:
    """Returns the ratios of the bootstrap samples with only positive denominators, float64 `[samples, pairs]`."""
    columns = [np.asarray(column, np.float64) for pair in pairs for column in pair]
    shapes = {column.shape for column in columns}
    if len(shapes) != 1 or columns[0].ndim != 1 or not columns[0].size:
        raise ValueError(f"bootstrap: found arrays of shapes {sorted(shapes)}, expected [stories], at least 1 story.")
    stories = np.stack(columns, axis=-1)
    if not np.isfinite(stories).all() or (stories[:, 1::2] < 0).any():
        raise ValueError("bootstrap: found a number that is not finite or a denominator below 0, expected neither.")
    sums = np.concatenate([weights @ stories for weights in _resampled_counts(len(stories), replicates, seed)])
    numerators, denominators = sums[:, ::2], sums[:, 1::2]
    kept = (denominators > 0).all(axis=1)
    if not kept.any():
        raise ValueError(f"bootstrap: found only zeros as denominators of {len(stories)} stories, expected others.")
    return np.asarray(numerators[kept] / denominators[kept])


def _resampled_counts(count: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each story occurs in each sample, int64 `[n, count]`, until the n sum to `replicates`."""
    if replicates < 1:
        raise ValueError(f"bootstrap: found {replicates} replicates, expected at least 1.")
    random = np.random.default_rng(seed)
    batch = max(_MAX_INDICES // count, 1)
    for start in range(0, replicates, batch):
        samples = random.integers(count, size=(min(batch, replicates - start), count))
        yield np.stack([np.bincount(sample, minlength=count) for sample in samples])


def _percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Returns the 2.5% and the 97.5% quantile."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
