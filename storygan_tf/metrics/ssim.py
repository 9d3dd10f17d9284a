"""Structural similarity as the field computes it.

Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004: an 11x11 Gaussian window
of sigma 1.5, K1 = 0.01, K2 = 0.03, on the range 0..255, mean over channels and window positions, frame by frame.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def ssim(true: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the structural similarity of each frame to the true one.

    Args:
        true: `[..., height, width, 3]`, 0..255, uint8 or float; at least 11 pixels each way.
        other: frames of the same shape.

    Returns:
        `[...]`, float32, in [-1, 1]; 1 for equal frames.

    Raises:
        ValueError: where the shapes differ.
    """
    if true.shape != other.shape:
        raise ValueError(f"ssim: found frames of shapes {true.shape} and {other.shape}, expected the same shape.")
    first, second = (tf.cast(frames, tf.float32) for frames in (true, other))
    values: np.ndarray = tf.image.ssim(
        first, second, max_val=255.0, filter_size=11, filter_sigma=1.5, k1=0.01, k2=0.03
    ).numpy()
    return values
