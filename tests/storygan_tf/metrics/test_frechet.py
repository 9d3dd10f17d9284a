"""The Frechet distance against scipy's matrix root, against closed forms, and of moments that are added up."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.linalg import sqrtm

from storygan_tf.metrics.frechet import FrechetReference, Moments, frechet_distance, pooled, story_vectors


def some_features(seed, count=200, size=12, shift=0.0):
    """Returns correlated features of different scales, [count, size]."""
    random = np.random.default_rng(seed)
    mix = np.random.default_rng(size).normal(size=(size, size)) * np.exp(random.normal(0, 1, size))
    return random.normal(size=(count, size)) @ mix + shift


def by_scipy(first, second):
    covariances = [np.cov(features, rowvar=False) for features in (first, second)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    apart = first.mean(axis=0) - second.mean(axis=0)
    return apart @ apart + np.trace(covariances[0] + covariances[1] - 2 * root)


def distance(first, second):
    return frechet_distance(Moments.from_features(first), Moments.from_features(second))


def diagonal(mean, variances, count=101):
    return Moments(count, np.array(mean, float), np.diag(np.array(variances, float)) * (count - 1))


@pytest.mark.parametrize(("size", "shift"), [(2, 0.5), (12, 0.0), (12, 3.0), (40, 1.0)])
def test_distance_agrees_with_scipys_matrix_root(size, shift):
    first, second = some_features(1, size=size), some_features(2, count=150, size=size, shift=shift)
    assert distance(first, second) == pytest.approx(by_scipy(first, second), rel=1e-9)


def test_distance_of_single_numbers_is_that_of_their_means_and_deviations():
    first, second = some_features(1, size=1), some_features(2, size=1, shift=0.5)
    expected = (first.mean() - second.mean()) ** 2 + (first.std(ddof=1) - second.std(ddof=1)) ** 2
    assert distance(first, second) == pytest.approx(expected, rel=1e-10)


def test_distance_of_diagonal_gaussians_is_the_closed_form():
    first, second = diagonal([1, 2, 3], [4, 9, 0.25]), diagonal([0, 2, 5], [1, 16, 0.25], count=7)
    assert frechet_distance(first, second) == pytest.approx((1 + 0 + 4) + (1 + 1 + 0), rel=1e-12)


@pytest.mark.parametrize("counts", [(10, 10), (10, 300), (300, 10), (5, 40)])
def test_singular_covariances_of_fewer_vectors_than_features_are_right(counts):
    first, second = (some_features(seed, count, size=60) for seed, count in enumerate(counts, start=1))
    centred = [(features - features.mean(axis=0)) / np.sqrt(len(features) - 1) for features in (first, second)]
    # tr (C1 C2)^(1/2) is the sum of the singular values of X1 X2^T, whatever the ranks.
    shared = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    apart = first.mean(axis=0) - second.mean(axis=0)
    expected = apart @ apart + sum((part**2).sum() for part in centred) - 2 * shared
    assert distance(first, second) == pytest.approx(expected, rel=1e-10)


def test_features_without_variance_are_as_far_as_their_mean_and_the_others_trace():
    constant, features = np.full((9, 12), 0.7), some_features(1)
    expected = ((features.mean(axis=0) - 0.7) ** 2).sum() + features.var(axis=0, ddof=1).sum()
    assert distance(constant, features) == pytest.approx(expected, rel=1e-10)
    assert distance(constant, constant) == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("count", [5, 13, 400])
def test_equal_moments_are_nothing_apart_and_a_distance_is_never_below_nothing(count):
    features = some_features(3, count, size=50, shift=40.0)
    assert 0 <= distance(features, features) <= 1e-12 * features.var(axis=0).sum()
    assert 0 <= distance(features, features[::-1]) <= 1e-9 * features.var(axis=0).sum()


def test_distance_is_the_same_both_ways_and_by_a_reference():
    first, second, third = (Moments.from_features(some_features(seed)) for seed in (1, 2, 3))
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(second, first), rel=1e-12)
    reference = FrechetReference(first)
    assert [reference.distance(other) for other in (second, third)] == [
        frechet_distance(first, other) for other in (second, third)
    ]


def test_moments_are_numpys_mean_and_covariance():
    features = some_features(4)
    moments = Moments.from_features(features.astype(np.float32))
    assert (moments.count, moments.mean.dtype, moments.scatter.dtype) == (200, np.float64, np.float64)
    np.testing.assert_allclose(moments.mean, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        Moments.from_features(features).covariance, np.cov(features, rowvar=False), rtol=1e-11, atol=1e-11
    )


def test_moments_add_up_in_any_grouping():
    features = some_features(5, size=6, shift=100.0)
    parts = [Moments.from_features(part) for part in np.split(features, [1, 30, 30, 120])]
    from_left = functools.reduce(Moments.__add__, parts, Moments.zero(6))
    from_right = functools.reduce(lambda last, part: part + last, reversed(parts))
    whole = Moments.from_features(features)
    for moments in (from_left, from_right):
        assert moments.count == 200
        np.testing.assert_allclose(moments.mean, whole.mean, rtol=1e-13)
        np.testing.assert_allclose(moments.scatter, whole.scatter, rtol=1e-12, atol=1e-12 * whole.scatter.max())
        np.testing.assert_array_equal(moments.scatter, moments.scatter.T)


def test_a_small_covariance_is_exact_next_to_a_great_mean():
    features = 1e6 + 1e-2 * some_features(6)
    parts = [Moments.from_features(part) for part in np.array_split(features, 20)]
    added = functools.reduce(Moments.__add__, parts)
    expected = np.cov(features, rowvar=False)
    np.testing.assert_allclose(added.covariance, expected, rtol=1e-6, atol=1e-8 * expected.max())


def test_weights_say_how_often_a_part_is_held():
    parts = [some_features(seed, count, size=5) for seed, count in ((1, 4), (2, 9), (3, 7))]
    weighted = pooled([Moments.from_features(part) for part in parts], np.array([2, 0, 3]))
    repeated = Moments.from_features(np.concatenate([parts[0]] * 2 + [parts[2]] * 3))
    assert weighted.count == repeated.count == 29
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=1e-12)
    np.testing.assert_allclose(weighted.scatter, repeated.scatter, rtol=1e-11, atol=1e-11)


def test_no_vectors_add_nothing():
    none = Moments.from_features(np.zeros((0, 4), np.float32))
    assert none.count == (none + Moments.zero(4)).count == 0
    some = Moments.from_features(some_features(7, size=4))
    np.testing.assert_array_equal((none + some).scatter, some.scatter)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_2_vectors_have_no_covariance(count):
    few = Moments.from_features(np.ones((count, 3)))
    with pytest.raises(ValueError, match=f"found {count} vectors, expected at least 2"):
        _ = few.covariance
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(Moments.from_features(np.eye(3)), few)


def test_other_shapes_sizes_and_numbers_are_refused():
    with pytest.raises(ValueError, match=r"found shape \(2, 3, 4\)"):
        Moments.from_features(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="not finite"):
        Moments.from_features(np.array([[1.0, np.nan], [0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"sizes \[1, 3\]"):
        Moments.from_features(np.ones((4, 1))) + Moments.from_features(np.ones((4, 3)))
    with pytest.raises(ValueError, match="sizes 1 and 3"):
        distance(np.ones((4, 1)), np.ones((4, 3)))


def test_a_storys_vector_is_its_mean_and_its_mean_absolute_change():
    features = np.array([[[1, 10], [3, 10], [2, 40]], [[0, 0], [0, 0], [0, 0]]], np.float32)
    np.testing.assert_allclose(story_vectors(features), [[2, 20, 1.5, 15], [0, 0, 0, 0]])
    assert story_vectors(features).dtype == np.float64


def test_a_story_of_one_frame_does_not_change():
    np.testing.assert_array_equal(story_vectors(np.array([[[5, 6]], [[7, 8]]])), [[5, 6, 0, 0], [7, 8, 0, 0]])
