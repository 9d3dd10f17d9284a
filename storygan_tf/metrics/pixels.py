"""Figures over pixels, most of them where the true frame shows something: where it differs from the background.

Whole frames are mostly background, which says nothing about a story. What is returned are sums and counts by story:
figures are ratios of their totals, and intervals resample the stories.
"""

from __future__ import annotations

import numpy as np

_APART = 19
"""Grey levels by which a channel differs from the background where something is there."""


def object_mask(true: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Returns where a frame shows something: where any channel is more than 19 of 255 from the background.

    Args:
        true: `[..., height, width, 3]`, uint8.
        background: `[height, width, 3]`, uint8, the median background of training frames.

    Returns:
        bool `[..., height, width]`.

    Raises:
        ValueError: where the frames' shape is not the background's.
    """
    _check("object_mask", true.shape[-3:], background.shape)
    red, green, blue = np.moveaxis(_difference(true, background) > _APART, -1, 0)
    return np.asarray(red | green | blue)


def object_error_sums(true: np.ndarray, frames: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how far frames are from the true ones on the mask, story by story.

    Args:
        true: `[stories, frames, height, width, 3]`, uint8.
        frames: the same shape and type.
        mask: bool `[stories, frames, height, width]`, as of `object_mask`.

    Returns:
        The sums over the mask of the absolute difference in grey levels (mean over channels), and the numbers of pixels
        in the mask; both float64 `[stories]`.

    Raises:
        ValueError: where the shapes do not fit.
    """
    _check("object_error_sums", true.shape, frames.shape)
    return _masked_sums(_difference(true, frames), mask), mask.sum(axis=(1, 2, 3), dtype=np.float64)


def sharpness_sums(true: np.ndarray, frames: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how much neighbouring pixels differ on the mask, story by story.

    The Laplacian is that of the four neighbours, of each channel by itself; a frame's border is repeated beyond it.

    Args:
        true: `[stories, frames, height, width, 3]`, uint8.
        frames: the same shape and type.
        mask: bool `[stories, frames, height, width]`, as of `object_mask`.

    Returns:
        The sums over the mask of the absolute Laplacian (mean over channels), of `frames` and of `true`; both float64
        `[stories]`.

    Raises:
        ValueError: where the shapes do not fit.
    """
    _check("sharpness_sums", true.shape, frames.shape)
    return _masked_sums(_laplacian(frames), mask), _masked_sums(_laplacian(true), mask)


def diversity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns how far two samples of each story are apart.

    Args:
        first: `[stories, ..., 3]`, uint8.
        second: the same shape and type.

    Returns:
        float64 `[stories]`, the mean absolute difference in grey levels, 0..255.

    Raises:
        ValueError: where the shapes differ.
    """
    _check("diversity", first.shape, second.shape)
    return np.asarray(_difference(first, second).mean(axis=tuple(range(1, first.ndim)), dtype=np.float64))


def _check(what: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    if first != second:
        raise ValueError(f"{what}: found pictures of shapes {first} and {second}, expected the same shape.")


def _difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The absolute difference of uint8, in uint8: the greater minus the smaller never wraps round."""
    return np.asarray(np.maximum(first, second) - np.minimum(first, second))


def _laplacian(frames: np.ndarray) -> np.ndarray:
    """The absolute 4-neighbour Laplacian of `[stories, frames, height, width, 3]`, int16 (it reaches 4 x 255)."""
    padded = np.pad(frames.astype(np.int16), ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    middle = padded[:, :, 1:-1, 1:-1]
    vertical = padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1]
    horizontal = padded[:, :, 1:-1, :-2] + padded[:, :, 1:-1, 2:]
    return np.abs(vertical + horizontal - 4 * middle)


def _masked_sums(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sums the channels' mean over the mask: `[stories, frames, height, width, 3]` -> float64 `[stories]`."""
    _check("mask", values.shape[:-1], mask.shape)
    # Sums of whole numbers are exact in any order, so that a story's sum does not depend on its batch.
    total = (values * mask[..., np.newaxis]).sum(axis=(1, 2, 3, 4), dtype=np.int64)
    return np.asarray(total / values.shape[-1])
