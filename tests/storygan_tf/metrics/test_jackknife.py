"""Intervals of Frechet distances: Student's t, coverage, and what is paired."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from storygan_tf.metrics.frechet import Moments, frechet_distance
from storygan_tf.metrics.jackknife import group_difference_interval, group_interval, student_quantile


def some_groups(seed, count=20, stories=10, size=8, shift=0.5):
    """Returns generated and true features of groups, [count, stories, size] each."""
    random = np.random.default_rng(seed)
    return random.normal(shift, 1, (count, stories, size)), random.normal(0, 1, (count, stories, size))


def moments_of(features):
    return [tuple(Moments.from_features(part) for part in group) for group in zip(*features, strict=True)]


def distance_of(generated, true):
    return frechet_distance(*(Moments.from_features(part.reshape(-1, part.shape[-1])) for part in (generated, true)))


@pytest.mark.parametrize("freedom", [1, 2, 5, 6, 9, 19, 100])
def test_students_t(freedom):
    assert student_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), abs=1e-3)


def test_the_interval_is_that_of_the_jackknife_by_hand():
    generated, true = some_groups(1)
    value = distance_of(generated, true)
    without = [distance_of(np.delete(generated, one, 0), np.delete(true, one, 0)) for one in range(20)]
    error = np.sqrt(19 / 20 * ((without - np.mean(without)) ** 2).sum())
    half = scipy.stats.t.ppf(0.975, 19) * error
    assert group_interval(moments_of((generated, true))) == pytest.approx((value - half, value + half), rel=1e-3)


@pytest.mark.parametrize(("size", "stories"), [(2, 10), (48, 20)])
def test_about_95_of_100_intervals_contain_the_mean_distance(size, stories):
    found = []
    for repetition in range(150):
        features = some_groups(repetition, stories=stories, size=size)
        low, high = group_interval(moments_of(features))
        found.append((low, distance_of(*features), high))
    low, values, high = np.transpose(found)
    held = (low <= values.mean()) & (values.mean() <= high)
    # Two standard errors of 150 repetitions are 0.036.
    assert held.mean() == pytest.approx(0.95, abs=0.04)
    assert (high - low).mean() < 6 * values.std()


def test_a_difference_is_of_the_same_groups_and_narrower_than_its_parts():
    generated, true = some_groups(1)
    worse = generated + 0.05
    first, second = moments_of((worse, true)), moments_of((generated, true))
    low, high = group_difference_interval(first, second)
    assert low < distance_of(worse, true) - distance_of(generated, true) < high
    assert low > 0
    parts = [group_interval(groups) for groups in (first, second)]
    assert high - low < min(end - start for start, end in parts) / 2
    assert group_difference_interval(second, first) == pytest.approx((-high, -low))
    assert group_difference_interval(first, first) == (0, 0)


def test_a_distance_is_not_below_nothing():
    low, high = group_interval(moments_of(some_groups(1, shift=0.0)))
    assert 0 <= low < high


def test_too_few_groups_have_no_interval():
    groups = moments_of(some_groups(1))
    assert group_interval(groups[:3]) is not None
    assert group_interval(groups[:2]) is None
    assert group_interval(moments_of(some_groups(1, count=2, stories=1))) is None
    assert group_difference_interval(groups[:2], groups[:2]) is None
    with pytest.raises(ValueError, match="found 20 and 19 groups"):
        group_difference_interval(groups, groups[1:])
