"""Structural similarity (SSIM) with the constants of published evaluations.

Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004: an 11x11 Gaussian window
of sigma 1.5, K1 = 0.01, K2 = 0.03, values in [0, 255]. The SSIM of a frame is the mean over channels and window
positions.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def ssim(true: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the structural similarity of each frame to its true frame.

    Args:
        true: uint8 or float `[..., height, width, 3]` in [0, 255], height and width at least 11.
        other: uint8 or float of the same shape and range.

    Returns:
        float32 `[...]` in [-1, 1]; 1 for equal frames.

    Raises:
        ValueError: if the shapes differ.
    """
    if true.shape != other.shape:
        raise ValueError(f"ssim: found frames of shapes {true.shape} and {other.shape}, expected the same shape.")
    first, second = (tf.cast(frames, tf.float32) for frames in (true, other))
    values: np.ndarray = tf.image.ssim(
        first, second, max_val=255.0, filter_size=11, filter_sigma=1.5, k1=0.01, k2=0.03
    ).numpy()
    return values
