"""Dynamic filtering: a convolution in which each sample of the batch has its own filters."""

from __future__ import annotations

import tensorflow as tf


def dynamic_filter(signal: tf.Tensor, filters: tf.Tensor, stride: int) -> tf.Tensor:
    """Returns the convolution of each row of `signal` with its own 1-D filters.

    It is the filter operation of Text2Gist (Li et al., arXiv:1812.02784, section 3.2). As usual in neural networks the
    filters are not flipped. The padding is SAME: zeros on both sides, so that the output has `length / stride`
    positions.

    Args:
        signal: float [N, length], one channel; `length` is a multiple of `stride`.
        filters: float [N, filter_length, channels]; `filter_length - stride` is even and not negative.
        stride: distance between two positions.

    Returns:
        float [N, length / stride, channels].
    """
    length, filter_length = signal.shape[-1], filters.shape[1]
    padding = (filter_length - stride) // 2
    padded = tf.pad(signal, [[0, 0], [padding, padding]])
    windows = [padded[:, start : start + filter_length] for start in range(0, length, stride)]
    return tf.einsum("npk,nkc->npc", tf.stack(windows, axis=1), filters)
