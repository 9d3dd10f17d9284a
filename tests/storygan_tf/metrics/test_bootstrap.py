"""Bootstrap intervals against scipy's, against raw features drawn again, and by how often they hold the truth."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from storygan_tf.metrics import bootstrap
from storygan_tf.metrics.bootstrap import (
    difference_interval,
    interval,
)


def ratio(numerators, denominators, axis=-1):
    return numerators.sum(axis=axis) / denominators.sum(axis=axis)


def some_stories(seed, count=80, rate=0.6):
    """Returns how many labels of each story are right, and how many it has."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 9, count)
    return random.binomial(labels, np.clip(rate + random.normal(0, 0.2, count), 0, 1)), labels


@pytest.mark.parametrize("count", [12, 80])
def test_interval_agrees_with_scipys_percentile_bootstrap(count):
    stories = some_stories(1, count)
    result = stats.bootstrap(
        stories, ratio, paired=True, method="percentile", n_resamples=20_000, random_state=np.random.default_rng(9)
    )
    low, high = interval(*stories, seed=2, replicates=20_000)
    expected = result.confidence_interval
    assert (low, high) == pytest.approx(expected, abs=0.03 * (expected.high - expected.low))
    assert isinstance(low, float)


def test_difference_is_of_the_same_stories_drawn_for_both():
    first, second = some_stories(1), some_stories(2)
    result = stats.bootstrap(
        (*first, *second),
        lambda a, b, c, d, axis=-1: ratio(a, b, axis) - ratio(c, d, axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        random_state=np.random.default_rng(9),
    )
    expected = result.confidence_interval
    found = difference_interval(first, second, seed=2, replicates=20_000)
    assert found == pytest.approx(expected, abs=0.03 * (expected.high - expected.low))


def test_common_difficulty_does_not_widen_a_difference():
    numerators, denominators = some_stories(3, rate=0.5)
    same = difference_interval((numerators, denominators), (numerators, denominators), seed=1)
    assert same == pytest.approx((0, 0), abs=1e-12)
    better = difference_interval((numerators + denominators, denominators), (numerators, denominators), seed=1)
    assert better == pytest.approx((1, 1), abs=1e-12)


def test_about_95_of_100_intervals_hold_the_truth():
    # Stories differ in how many labels they have and in how hard they are; the truth is the expected ratio, 0.6.
    random = np.random.default_rng(4)
    held = 0
    for repetition in range(600):
        labels = random.integers(1, 9, 120)
        low, high = interval(random.binomial(labels, random.beta(6, 4, 120)), labels, repetition, replicates=300)
        held += low <= 0.6 <= high
    # Few stories make the method a little narrow; two and a half standard errors of 600 repetitions are 0.024.
    assert held / 600 == pytest.approx(0.94, abs=0.025)


def test_same_arguments_same_interval_and_another_seed_another():
    stories = some_stories(5)
    assert interval(*stories, seed=1) == interval(*stories, seed=1)
    assert interval(*stories, seed=1) != interval(*stories, seed=2)


def test_one_story_has_no_spread():
    assert interval(np.array([3]), np.array([4]), seed=1) == (0.75, 0.75)


def test_draws_without_a_denominator_are_left_out():
    numerators, denominators = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 2])
    assert interval(numerators, denominators, seed=1) == (0.5, 0.5)
    others = np.array([2, 2, 0, 0])
    assert difference_interval((numerators, denominators), (others, others), seed=1) == (-0.5, -0.5)


def test_memory_does_not_grow_with_the_draws(monkeypatch):
    numerators, denominators = some_stories(6, count=100_000)
    tracemalloc.start()
    large = interval(numerators, denominators, seed=1, replicates=60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6  # all draws at once: 48 MB of indices and as much of weights
    monkeypatch.setattr(bootstrap, "_MAX_INDICES", 1)
    assert interval(numerators, denominators, seed=1, replicates=60) == pytest.approx(large, rel=1e-12)


@pytest.mark.parametrize(
    ("numerators", "denominators", "match"),
    [
        ([], [], "at least 1 story"),
        ([1.0], [1.0, 2.0], r"\(1,\), \(2,\)"),
        ([[1.0]], [[1.0]], r"expected \[stories\]"),
        ([0.0, 1.0], [0.0, 0.0], "only zeros"),
        ([0.0, np.nan], [1.0, 1.0], "not finite"),
        ([1.0, 1.0], [1.0, -1.0], "below 0"),
    ],
)
def test_sums_without_a_ratio_are_refused(numerators, denominators, match):
    with pytest.raises(ValueError, match=match):
        interval(np.array(numerators), np.array(denominators), seed=1)


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="found 0 replicates, expected at least 1"):
        interval(*some_stories(1), 1, 0)
