"""How frames change their size: the field's filters, each as the field's programs compute it.

Filters of one name differ between libraries, and a Frechet distance between the same frames differs with them (Parmar
et al., "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", arXiv:2104.11222).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf
from PIL import Image

from storygan_tf.config.schema import IMAGE_SIZE

Filter = Literal["bilinear", "bilinear-antialias", "bicubic-antialias"]
"""`bilinear`: half-pixel centres, no antialias, as PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
`bilinear-antialias` and `bicubic-antialias`: Pillow's, rounded to whole grey levels, as torchvision resizes images."""

_PILLOW = {
    "bilinear-antialias": Image.Resampling.BILINEAR,
    "bicubic-antialias": Image.Resampling.BICUBIC,
}


def to_64(frames: np.ndarray) -> np.ndarray:
    """Brings frames to the size at which the field compares them, by Pillow's antialiased bilinear filter.

    Args:
        frames: `[..., height, width, 3]`, uint8; what is not square is squeezed.

    Returns:
        `[..., 64, 64, 3]`, uint8; `frames` themselves where they are 64x64.
    """
    if frames.shape[-3:-1] == (IMAGE_SIZE, IMAGE_SIZE):
        return frames
    return _by_pillow(frames, IMAGE_SIZE, Image.Resampling.BILINEAR)


def resize(frames: np.ndarray, size: int, how: Filter) -> np.ndarray:
    """Brings frames to the size that a network takes.

    Args:
        frames: `[..., height, width, 3]`, uint8.
        size: height and width of the result.
        how: the filter.

    Returns:
        `[..., size, size, 3]`, float32, 0..255.
    """
    if how != "bilinear":
        return _by_pillow(frames, size, _PILLOW[how]).astype(np.float32)
    flat = frames.reshape(-1, *frames.shape[-3:])
    resized: np.ndarray = tf.image.resize(flat.astype(np.float32), [size, size], "bilinear", antialias=False).numpy()
    return resized.reshape(*frames.shape[:-3], size, size, 3)


def _by_pillow(frames: np.ndarray, size: int, resample: Image.Resampling) -> np.ndarray:
    result = np.empty((*frames.shape[:-3], size, size, 3), np.uint8)
    for index in np.ndindex(frames.shape[:-3]):
        result[index] = Image.fromarray(frames[index]).resize((size, size), resample)
    return result
