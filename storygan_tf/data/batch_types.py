"""The type of a mini-batch, and the conversion of its frames between uint8 and float32."""

from __future__ import annotations

from typing import TypedDict

import keras
import tensorflow as tf


class Batch(TypedDict):
    """A mini-batch of stories.

    Keys:
        images: true frames, uint8 [batch, frames, 64, 64, 3].
        vectors: sentence vectors, float32 [batch, frames, sentence_size].
        labels: uint8 [batch, frames, labels], 0 or 1.
        seed: seed of each story's noise, int64 [batch], at least 0.
        frame: index of the frame of each story that an image update uses, int32 [batch].
    """

    images: tf.Tensor
    vectors: tf.Tensor
    labels: tf.Tensor
    seed: tf.Tensor
    frame: tf.Tensor


class ValidationBatch(TypedDict):
    """A batch of held-out stories.

    Keys:
        stories: the stories; their `frame` is not used.
        weight: float32 [batch], 1 for a story that counts, 0 for one that only completes the batch.
    """

    stories: Batch
    weight: tf.Tensor


def to_float(images: tf.Tensor) -> tf.Tensor:
    """Returns frames, uint8 of any shape, as floats in [-1, 1], float32 by default (`keras.backend.floatx`)."""
    return tf.cast(images, keras.backend.floatx()) / 127.5 - 1.0


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """Returns frames, floats of any shape in [-1, 1], as uint8. Values are rounded and clipped."""
    return tf.saturate_cast(tf.round((images + 1.0) * 127.5), tf.uint8)
