"""95% intervals of Frechet distances, which no bootstrap gives where features are many and stories few.

The jackknife (Tukey 1958; Efron and Stein, "The jackknife estimate of variance", 1981): each group of stories is left
out in turn, and the distances of what remains tell the standard error. A bootstrap draws stories twice, and fewer
different ones make covariances poorer and distances greater: at 192 features of 400 stories its intervals were ten
times too wide, where these held 96 of 100 (measured). Besides, it takes a distance a group and no seed.

The interval is about the distance expected of so many stories, which is above that of infinitely many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from storygan_tf.metrics.frechet import Moments, frechet_distance, pooled

Groups = Sequence[tuple[Moments, Moments]]
"""The moments of the generated and of the true features of each group of stories, at least one vector each."""

FEWEST_GROUPS = 3

_STUDENT = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
"""97.5% points of Student's t with 1, 2, ... degrees of freedom."""

_NORMAL = 1.959964


def group_interval(groups: Groups) -> tuple[float, float] | None:
    """Returns the 95% interval of a Frechet distance, at least 0; None where the groups are too few for one."""
    if not _enough(groups):
        return None
    value, half = _jackknife(_distances(groups))
    return max(value - half, 0.0), value + half


def group_difference_interval(first: Groups, second: Groups) -> tuple[float, float] | None:
    """Returns the 95% interval of the first distance minus the second; None where the groups are too few for one.

    Args:
        first: groups of the one features.
        second: groups of the other features; entry for entry the same stories.

    Raises:
        ValueError: where the numbers of groups differ.
    """
    if len(first) != len(second):
        raise ValueError(f"jackknife: found {len(first)} and {len(second)} groups, expected the same groups.")
    if not (_enough(first) and _enough(second)):
        return None
    value, half = _jackknife(_distances(first) - _distances(second))
    return value - half, value + half


def student(freedom: int) -> float:
    """Returns the 97.5% point of Student's t distribution, to 0.001.

    Args:
        freedom: degrees of freedom, 1 or more.
    """
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    # Abramowitz and Stegun, 26.7.5.
    z = _NORMAL
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _enough(groups: Groups) -> bool:
    """Whether there are enough groups, with 2 vectors left on each side whichever is left out."""
    if len(groups) < FEWEST_GROUPS:
        return False
    counts = np.array([[part.count for part in group] for group in groups])
    return bool((counts.sum(axis=0) - counts >= 2).all())


def _distances(groups: Groups) -> np.ndarray:
    """Returns the distance of all groups, then that without the first, without the second, ...; float64."""
    weights = np.vstack([np.ones(len(groups)), 1 - np.eye(len(groups))])
    generated, true = zip(*groups, strict=True)
    return np.array([frechet_distance(pooled(generated, kept), pooled(true, kept)) for kept in weights])


def _jackknife(values: np.ndarray) -> tuple[float, float]:
    """Returns the figure of all groups, and half the width of its interval."""
    value, without = float(values[0]), values[1:]
    error = math.sqrt((len(without) - 1) * float(np.var(without)))
    return value, student(len(without) - 1) * error
