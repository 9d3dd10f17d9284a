"""A mini-batch of stories, and the scale of its pictures."""

from __future__ import annotations

from typing import TypedDict

import tensorflow as tf


class Batch(TypedDict):
    """A mini-batch of stories.

    Keys:
        images: uint8 [batch, frames, 64, 64, 3], true frames.
        vectors: float32 [batch, frames, sentence_size].
        labels: uint8 [batch, frames, labels], 0 or 1.
        seed: int64 [batch], of each story's noise.
        frame: int32 [batch], the frame that an image update looks at.
    """

    images: tf.Tensor
    vectors: tf.Tensor
    labels: tf.Tensor
    seed: tf.Tensor
    frame: tf.Tensor


def to_float(images: tf.Tensor) -> tf.Tensor:
    """Returns uint8 frames as float32 in [-1, 1]."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """Returns float frames in [-1, 1] as uint8, rounded."""
    return tf.saturate_cast(tf.round((images + 1.0) * 127.5), tf.uint8)
