"""Dynamic filtering: each sample is convolved with filters of its own."""

from __future__ import annotations

import tensorflow as tf


def dynamic_filter(signal: tf.Tensor, filters: tf.Tensor, stride: int) -> tf.Tensor:
    """Convolves each row of `signal` with its own bank of 1-D filters (Text2Gist, Li et al., section 3.2).

    As in deep learning's convolutions the filter is not flipped. Padding is SAME: zeros to both sides, so that
    `length / stride` positions come out.

    Args:
        signal: float [N, length], one channel; `length` is a multiple of `stride`.
        filters: float [N, filter_length, channels]; `filter_length - stride` is even and not negative.
        stride: step between positions.

    Returns:
        float [N, length / stride, channels].
    """
    length, filter_length = signal.shape[-1], filters.shape[1]
    padding = (filter_length - stride) // 2
    padded = tf.pad(signal, [[0, 0], [padding, padding]])
    windows = [padded[:, start : start + filter_length] for start in range(0, length, stride)]
    return tf.einsum("npk,nkc->npc", tf.stack(windows, axis=1), filters)
