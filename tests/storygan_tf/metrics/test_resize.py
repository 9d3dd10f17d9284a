"""The filters are those of the field's programs: against hand-written ones, Pillow, scikit-image and TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.transform
import tensorflow as tf
from PIL import Image

from storygan_tf.metrics.resize import resize, to_64


def frames_of(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def smooth_frames(height: int, width: int) -> np.ndarray:
    """Frames whose neighbouring pixels belong together, as those of pictures do."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + phase) * np.cos(y / 7) for phase in range(3)]
    return (127.5 + 120 * np.stack(waves, axis=-1)).round().astype(np.uint8)[np.newaxis]


def half_pixel_bilinear(frame: np.ndarray, size: int) -> np.ndarray:
    """Resizes by PyTorch's definition of align_corners=False, a pixel at a time."""
    result = np.empty((size, size, 3))
    for row in range(size):
        for column in range(size):
            y, x = (
                max((index + 0.5) * length / size - 0.5, 0)
                for index, length in ((row, frame.shape[0]), (column, frame.shape[1]))
            )
            top, left = int(y), int(x)
            bottom, right = min(top + 1, frame.shape[0] - 1), min(left + 1, frame.shape[1] - 1)
            upper = frame[top, left] * (1 - (x - left)) + frame[top, right] * (x - left)
            lower = frame[bottom, left] * (1 - (x - left)) + frame[bottom, right] * (x - left)
            result[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def triangle(length: int, size: int) -> np.ndarray:
    """Weights `[size, length]` of the antialiased bilinear filter: a triangle as wide as an output pixel."""
    scale = length / size
    reach = max(scale, 1)
    centres = (np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centres[:, np.newaxis])
    weights = np.maximum(1 - distance / reach, 0)
    return weights / weights.sum(axis=1, keepdims=True)


# To 64


@pytest.mark.parametrize("shape", [(128, 128), (96, 128), (72, 96), (50, 61), (300, 64), (32, 32)])
def test_to_64_is_pillows_antialiased_bilinear(shape):
    frames = frames_of(2, *shape)
    expected = [np.asarray(Image.fromarray(frame).resize((64, 64), Image.Resampling.BILINEAR)) for frame in frames]
    result = to_64(frames)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("shape", [(128, 128), (96, 128), (50, 61)])
def test_to_64_against_a_hand_written_triangle_filter(shape):
    frame = frames_of(*shape)
    expected = np.einsum("yh,xw,hwc->yxc", triangle(shape[0], 64), triangle(shape[1], 64), frame / 1.0, optimize=True)
    np.testing.assert_allclose(to_64(frame), expected, atol=1.01)  # Pillow rounds after each of two passes


def test_to_64_keeps_what_has_that_size():
    frames = frames_of(2, 3, 64, 64)
    assert to_64(frames) is frames


def test_to_64_takes_any_leading_axes():
    stories = frames_of(2, 3, 40, 48)
    result = to_64(stories)
    assert result.shape == (2, 3, 64, 64, 3)
    np.testing.assert_array_equal(result[1, 2], to_64(stories[1, 2]))
    assert to_64(stories[:0]).shape == (0, 3, 64, 64, 3)


# To the size of a network


@pytest.mark.parametrize(("length", "size"), [(64, 112), (14, 65), (9, 7), (10, 3), (5, 5)])
def test_bilinear_is_pytorchs_without_aligned_corners(length, size):
    frame = frames_of(length, length)
    result = resize(frame, size, "bilinear")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, half_pixel_bilinear(frame.astype(np.float64), size), atol=3e-3)


@pytest.mark.parametrize("size", [299, 112])
def test_bilinear_agrees_with_scikit_image(size):
    frame = frames_of(64, 64)
    expected = skimage.transform.resize(
        frame.astype(np.float64), (size, size), order=1, mode="edge", anti_aliasing=False
    )
    np.testing.assert_allclose(resize(frame, size, "bilinear"), expected, atol=3e-3)


def test_bilinear_in_numbers_worked_out_by_hand():
    frame = np.array([[0, 100], [0, 100]], np.uint8)[..., np.newaxis].repeat(3, axis=-1)
    np.testing.assert_array_equal(resize(frame, 4, "bilinear")[2, :, 1], [0, 25, 75, 100])


def test_bilinear_does_not_antialias_and_the_others_do():
    """Shrunk to a third, the result is the middle of three pixels if the filter is not widened."""
    frame = np.zeros((9, 9, 3), np.uint8)
    frame[:, 1::3] = 240
    np.testing.assert_array_equal(resize(frame, 3, "bilinear"), 240)
    assert resize(frame, 3, "bilinear-antialias").max() < 120
    assert resize(frame, 3, "bicubic-antialias").max() < 120


@pytest.mark.parametrize(
    ("how", "resample", "method"),
    [
        ("bilinear-antialias", Image.Resampling.BILINEAR, "bilinear"),
        ("bicubic-antialias", Image.Resampling.BICUBIC, tf.image.ResizeMethod.BICUBIC),
    ],
)
@pytest.mark.parametrize("size", [299, 40])
def test_antialiased_filters_are_pillows(how, resample, method, size):
    frames = smooth_frames(64, 64)
    result = resize(frames, size, how)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[0], np.asarray(Image.fromarray(frames[0]).resize((size, size), resample)))
    # TensorFlow's of the same name: the same but for rounding (Keys' cubic has -1/2 in both).
    np.testing.assert_allclose(result, tf.image.resize(frames, [size, size], method, antialias=True), atol=1.6)


def test_bicubic_stays_a_picture():
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[:, 4:] = 255
    result = resize(frame, 64, "bicubic-antialias")
    assert (result.min(), result.max()) == (0, 255)


@pytest.mark.parametrize("how", ["bilinear", "bilinear-antialias", "bicubic-antialias"])
def test_resize_takes_any_leading_axes(how):
    stories = frames_of(2, 3, 16, 16)
    result = resize(stories, 24, how)
    assert result.shape == (2, 3, 24, 24, 3)
    np.testing.assert_array_equal(result[1, 2], resize(stories[1, 2], 24, how))
