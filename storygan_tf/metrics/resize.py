"""Resizing of frames with the filters that published evaluations use.

Filters of the same name differ between libraries, and the Frechet distance between the same frames changes with the
filter (Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", arXiv:2104.11222). So each
filter here reproduces that of one library.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import tensorflow as tf
from PIL import Image

from storygan_tf.config.schema import IMAGE_SIZE

Filter = Literal["bilinear", "bilinear-antialias", "bicubic-antialias"]
"""Name of a filter.

- `bilinear`: half-pixel centres without antialiasing, as PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
- `bilinear-antialias` and `bicubic-antialias`: Pillow's filters, rounded to whole grey levels, as torchvision resizes
  images.
"""

_PILLOW = {
    "bilinear-antialias": Image.Resampling.BILINEAR,
    "bicubic-antialias": Image.Resampling.BICUBIC,
}


def to_64(frames: np.ndarray) -> np.ndarray:
    """Resizes frames to 64x64, the size of published evaluations, with Pillow's antialiased bilinear filter.

    Args:
        frames: uint8 `[..., height, width, 3]`. The aspect ratio is not kept.

    Returns:
        uint8 `[..., 64, 64, 3]`; `frames` itself if it has this size.
    """
    if frames.shape[-3:-1] == (IMAGE_SIZE, IMAGE_SIZE):
        return frames
    return _resize_with_pillow(frames, IMAGE_SIZE, Image.Resampling.BILINEAR)


def resize(frames: np.ndarray, size: int, resampling: Filter) -> np.ndarray:
    """Resizes frames to the input size of a network.

    Args:
        frames: uint8 `[..., height, width, 3]`.
        size: height and width of the result.
        resampling: name of the filter.

    Returns:
        float32 `[..., size, size, 3]` in [0, 255].
    """
    if resampling != "bilinear":
        return _resize_with_pillow(frames, size, _PILLOW[resampling]).astype(np.float32)
    flat = frames.reshape(-1, *frames.shape[-3:])
    resized: np.ndarray = tf.image.resize(flat.astype(np.float32), [size, size], "bilinear", antialias=False).numpy()
    return resized.reshape(*frames.shape[:-3], size, size, 3)


def _resize_with_pillow(frames: np.ndarray, size: int, resample: Image.Resampling) -> np.ndarray:
    """Resizes uint8 `[..., height, width, 3]` to uint8 `[..., size, size, 3]`."""
    result = np.empty((*frames.shape[:-3], size, size, 3), np.uint8)
    for index in np.ndindex(frames.shape[:-3]):
        result[index] = Image.fromarray(frames[index]).resize((size, size), resample)
    return result
