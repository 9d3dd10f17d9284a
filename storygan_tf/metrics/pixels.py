"""Metrics of pixels, most of them restricted to objects, where the true frame differs from the background.

Most of a frame is background, which depicts nothing of its story. The functions return sums and counts per story: a
metric is the ratio of their totals, and its interval resamples the stories.
"""

from __future__ import annotations

import numpy as np

_BACKGROUND_TOLERANCE = 19
"""Most grey levels by which each channel of a background pixel may differ from the median background."""


def object_mask(true: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Returns which pixels show an object: those of which any channel differs from the background by more than 19.

    Args:
        true: uint8 `[..., height, width, 3]`, true frames.
        background: uint8 `[height, width, 3]`, the median background of the training frames.

    Returns:
        bool `[..., height, width]`.

    Raises:
        ValueError: if the frames and the background have different sizes.
    """
    _check_same_shape("object_mask", true.shape[-3:], background.shape)
    red, green, blue = np.moveaxis(_absolute_difference(true, background) > _BACKGROUND_TOLERANCE, -1, 0)
    return np.asarray(red | green | blue)


def object_error_sums(true: np.ndarray, frames: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each story's sum of absolute errors within the mask, and the number of its pixels in the mask.

    Args:
        true: uint8 `[stories, frames, height, width, 3]`, true frames.
        frames: uint8 of the same shape, generated frames.
        mask: bool `[stories, frames, height, width]`, as `object_mask` returns it.

    Returns:
        The sums over the mask of the absolute difference in grey levels, averaged over channels, and the numbers of
        pixels in the mask, both float64 `[stories]`.

    Raises:
        ValueError: if the shapes do not match.
    """
    _check_same_shape("object_error_sums", true.shape, frames.shape)
    return _masked_sums(_absolute_difference(true, frames), mask), mask.sum(axis=(1, 2, 3), dtype=np.float64)


def sharpness_sums(true: np.ndarray, frames: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each story's sums of the absolute Laplacian within the mask, of the generated and of the true frames.

    The Laplacian is the 4-neighbour one, applied to each channel. Pixels beyond the border repeat those at the border.

    Args:
        true: uint8 `[stories, frames, height, width, 3]`, true frames.
        frames: uint8 of the same shape, generated frames.
        mask: bool `[stories, frames, height, width]`, as `object_mask` returns it.

    Returns:
        The sums over the mask of the absolute Laplacian, averaged over channels, of `frames` and of `true`, both
        float64 `[stories]`.

    Raises:
        ValueError: if the shapes do not match.
    """
    _check_same_shape("sharpness_sums", true.shape, frames.shape)
    return _masked_sums(_laplacian(frames), mask), _masked_sums(_laplacian(true), mask)


def diversity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the mean absolute difference between two samples of each story.

    Args:
        first: uint8 `[stories, ..., 3]`, the first samples.
        second: uint8 of the same shape, the second samples.

    Returns:
        float64 `[stories]`, grey levels in [0, 255].

    Raises:
        ValueError: if the shapes differ.
    """
    _check_same_shape("diversity", first.shape, second.shape)
    return np.asarray(_absolute_difference(first, second).mean(axis=tuple(range(1, first.ndim)), dtype=np.float64))


def _check_same_shape(name: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    if first != second:
        raise ValueError(f"{name}: found pictures of shapes {first} and {second}, expected the same shape.")


def _absolute_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the absolute difference of uint8 arrays as uint8."""
    # The greater value minus the smaller one does not overflow.
    return np.asarray(np.maximum(first, second) - np.minimum(first, second))


def _laplacian(frames: np.ndarray) -> np.ndarray:
    """Returns the absolute 4-neighbour Laplacian of uint8 `[stories, frames, height, width, 3]` as int16."""
    padded = np.pad(frames.astype(np.int16), ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    middle = padded[:, :, 1:-1, 1:-1]
    vertical = padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1]
    horizontal = padded[:, :, 1:-1, :-2] + padded[:, :, 1:-1, 2:]
    return np.abs(vertical + horizontal - 4 * middle)


def _masked_sums(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sums the mean over channels within the mask: int `[stories, frames, height, width, 3]` -> float64 `[stories]`."""
    _check_same_shape("mask", values.shape[:-1], mask.shape)
    # Sums of integers are exact in any order, so the sum of a story does not depend on its batch.
    total = (values * mask[..., np.newaxis]).sum(axis=(1, 2, 3, 4), dtype=np.int64)
    return np.asarray(total / values.shape[-1])
