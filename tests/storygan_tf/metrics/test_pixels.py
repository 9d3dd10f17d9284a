"""Figures over pixels against scipy's Laplacian and plain arithmetic in floats."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from storygan_tf.metrics.pixels import diversity, object_error_sums, object_mask, sharpness_sums

SHAPE = (3, 2, 7, 9, 3)


def some_frames(seed, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def some_mask(seed, part=0.4):
    return np.random.default_rng(seed).random(SHAPE[:-1]) < part


def laplacian(frames):
    """Returns the absolute Laplacian of each frame, averaged over channels: [stories, frames, height, width]."""
    flat = frames.reshape(-1, *frames.shape[2:]).astype(np.float64)
    values = [
        np.mean([np.abs(ndimage.laplace(frame[..., channel], mode="nearest")) for channel in range(3)], axis=0)
        for frame in flat
    ]
    return np.reshape(values, frames.shape[:-1])


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_mask_is_where_any_channel_is_more_than_19_from_the_background(channel):
    background = np.full((4, 5, 3), 100, np.uint8)
    frames = background[np.newaxis].repeat(2, axis=0)
    frames[0, 1, 2, channel], frames[0, 2, 4, channel] = 119, 120
    frames[1, 1, 2, channel], frames[1, 2, 4, channel] = 81, 80
    mask = object_mask(frames, background)
    assert (mask.shape, mask.dtype) == ((2, 4, 5), bool)
    assert np.argwhere(mask).tolist() == [[0, 2, 4], [1, 2, 4]]


def test_mask_does_not_wrap_round():
    black, white = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    assert object_mask(black, white[0]).all()
    assert object_mask(white, black[0]).all()


def test_object_error_is_the_masks_mean_absolute_difference():
    true, frames, mask = some_frames(1), some_frames(2), some_mask(3)
    sums, counts = object_error_sums(true, frames, mask)
    assert sums.dtype == counts.dtype == np.float64
    difference = np.abs(true.astype(np.float64) - frames).mean(axis=-1)
    np.testing.assert_allclose(sums, [values[chosen].sum() for values, chosen in zip(difference, mask, strict=True)])
    np.testing.assert_array_equal(counts, [chosen.sum() for chosen in mask])
    assert sums.sum() / counts.sum() == pytest.approx(difference[mask].mean())


def test_sharpness_agrees_with_scipys_laplacian_borders_included():
    true, frames, mask = some_frames(1), some_frames(2), some_mask(3)
    mask[:, :, [0, -1]] = mask[:, :, :, [0, -1]] = True
    sums = sharpness_sums(true, frames, mask)
    for found, pictures in zip(sums, (frames, true), strict=True):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, (laplacian(pictures) * mask).sum(axis=(1, 2, 3)), rtol=1e-12)


def test_the_sharpest_pixel_does_not_wrap_round():
    frames = np.zeros((1, 1, 5, 5, 3), np.uint8)
    frames[0, 0, 2, 2] = 255
    mask = np.zeros((1, 1, 5, 5), bool)
    mask[0, 0, 2, 2] = True
    np.testing.assert_array_equal(sharpness_sums(255 - frames, frames, mask), [[1020.0], [1020.0]])


def test_an_empty_mask_counts_nothing():
    true, frames, mask = some_frames(1), some_frames(2), np.zeros(SHAPE[:-1], bool)
    np.testing.assert_array_equal(object_error_sums(true, frames, mask), np.zeros((2, 3)))
    np.testing.assert_array_equal(sharpness_sums(true, frames, mask), np.zeros((2, 3)))


def test_diversity_is_the_mean_absolute_difference_of_each_story():
    first, second = some_frames(1), some_frames(2)
    expected = np.abs(first.astype(np.float64) - second).mean(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(diversity(first, second), expected, rtol=1e-12)
    np.testing.assert_array_equal(diversity(first, first), np.zeros(3))
    black = np.zeros(SHAPE, np.uint8)
    np.testing.assert_array_equal(diversity(black, black + np.uint8(255)), [255.0] * 3)


def test_a_storys_sums_do_not_depend_on_its_batch():
    true, frames, mask = some_frames(1), some_frames(2), some_mask(3)
    alone = slice(1, 2)
    for figure in (object_error_sums, sharpness_sums):
        for together, by_itself in zip(
            figure(true, frames, mask), figure(true[alone], frames[alone], mask[alone]), strict=True
        ):
            assert together[1] == by_itself[0]
    assert diversity(true, frames)[1] == diversity(true[alone], frames[alone])[0]


def test_shapes_that_do_not_fit_are_refused():
    true, mask = some_frames(1), some_mask(3)
    with pytest.raises(ValueError, match="object_mask: found pictures of shapes"):
        object_mask(true, true[0, 0, :1])
    for figure in (object_error_sums, sharpness_sums):
        with pytest.raises(ValueError, match=r"shapes \(3, 2, 7, 9, 3\) and \(1, 2, 7, 9, 3\)"):
            figure(true, true[:1], mask)
        with pytest.raises(ValueError, match="mask: found"):
            figure(true, true, mask[:1])
    with pytest.raises(ValueError, match="diversity: found"):
        diversity(true, true[:1])
