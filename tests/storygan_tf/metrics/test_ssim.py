"""SSIM against scikit-image's independent implementation, with the field's constants."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from storygan_tf.metrics.ssim import ssim


def smooth_frames(count, seed):
    """Returns frames with structure: waves of random directions, uint8 [count, 64, 64, 3]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] / 64
    waves = np.sin(
        random.uniform(2, 20, (count, 1, 1, 3)) * x[..., None] + random.uniform(0, 9, (count, 1, 1, 3)) * y[..., None]
    )
    return (127.5 + 100 * waves).round().astype(np.uint8)


def reference(true, other):
    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 255,
        "channel_axis": 2,
    }
    return structural_similarity(true, other, K1=0.01, K2=0.03, **options)


@pytest.mark.parametrize("noise", [3, 20, 80])
def test_ssim_agrees_with_scikit_image(noise):
    true = smooth_frames(4, seed=1)
    random = np.random.default_rng(noise)
    other = np.clip(true + random.normal(0, noise, true.shape), 0, 255).round().astype(np.uint8)
    expected = [reference(*pair) for pair in zip(true, other, strict=True)]
    np.testing.assert_allclose(ssim(true, other), expected, atol=1e-4)


def test_ssim_of_equal_frames_is_one_and_of_stories_has_their_shape():
    stories = smooth_frames(6, seed=2).reshape(2, 3, 64, 64, 3)
    values = ssim(stories, stories)
    assert values.shape == (2, 3)
    np.testing.assert_allclose(values, 1, atol=1e-6)


def test_ssim_takes_0_to_255_whatever_the_type():
    true, other = smooth_frames(2, seed=3), smooth_frames(2, seed=4)
    np.testing.assert_array_equal(ssim(true, other), ssim(true.astype(np.float64), other.astype(np.float32)))


def test_frames_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 64, 64, 3\) and \(3, 64, 64, 3\)"):
        ssim(smooth_frames(2, seed=1), smooth_frames(3, seed=1))
