"""The same random recolouring and shift of all frames of a story (Zhao et al., DiffAugment, arXiv:2006.10738).

The discriminators see true and drawn frames through it, and its gradient goes back to the generator. What is random is
a function of the story's seed, as the noise is (`storygan_tf/noise.py`).
"""

from __future__ import annotations

import tensorflow as tf

from storygan_tf.config import IMAGE_SIZE

SHIFT = IMAGE_SIZE // 8
"""Pixels that a frame moves at the most, up, down, left and right; grey comes in (0 in [-1, 1])."""

_STREAM = 1
"""Second half of the Philox key; the noise's is 0."""


def augment(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Changes brightness, saturation, contrast and place of the frames of each story, alike within one.

    Args:
        images: float32 [batch, ..., 64, 64, 3] in [-1, 1]: single frames or whole stories.
        seeds: int64 [batch], a story's seed each.

    Returns:
        float32 of the same shape, in [-1, 1] or somewhat outside.
    """
    frames = tf.reshape(images, [tf.shape(images)[0], -1, IMAGE_SIZE, IMAGE_SIZE, 3])
    numbers = tf.map_fn(_uniform, seeds, fn_output_signature=tf.TensorSpec([5], tf.float32))
    brightness, saturation, contrast, down, right = tf.unstack(numbers, axis=1)
    frames = _recolour(frames, brightness - 0.5, 2.0 * saturation, contrast + 0.5)
    frames = _shift(_shift(frames, _pixels(down), axis=2), _pixels(right), axis=3)
    return tf.reshape(frames, tf.shape(images))


def _uniform(seed: tf.Tensor) -> tf.Tensor:
    """Returns five numbers from 0 to 1 of one int64 seed, the same with and without XLA; float32 [5]."""
    key = tf.stack([seed, tf.constant(_STREAM, tf.int64)])
    bits = tf.random.stateless_uniform([5], key, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) / 2.0**24


def _recolour(frames: tf.Tensor, brightness: tf.Tensor, saturation: tf.Tensor, contrast: tf.Tensor) -> tf.Tensor:
    """Adds `brightness`, then scales what differs from each pixel's grey, then from the frame's mean; [batch] each."""
    brightness, saturation, contrast = (
        tf.reshape(values, [-1, 1, 1, 1, 1]) for values in (brightness, saturation, contrast)
    )
    frames += brightness
    grey = tf.reduce_mean(frames, axis=-1, keepdims=True)
    frames = (frames - grey) * saturation + grey
    mean = tf.reduce_mean(frames, axis=[2, 3, 4], keepdims=True)
    return (frames - mean) * contrast + mean


def _pixels(numbers: tf.Tensor) -> tf.Tensor:
    """Returns numbers from 0 to 1 as whole pixels from -SHIFT to SHIFT, int32."""
    return tf.cast(tf.floor(numbers * (2 * SHIFT + 1)), tf.int32) - SHIFT


def _shift(frames: tf.Tensor, pixels: tf.Tensor, axis: int) -> tf.Tensor:
    """Moves the frames of each story along rows (axis 2) or columns (3); zeros come in."""
    padding = [[0, 0]] * 5
    padding[axis] = [SHIFT, SHIFT]
    places = tf.range(IMAGE_SIZE)[tf.newaxis] + SHIFT - pixels[:, tf.newaxis]
    ahead = [0, axis, *(number for number in range(1, 5) if number != axis)]
    back = sorted(range(5), key=ahead.__getitem__)
    moved = tf.gather(tf.transpose(tf.pad(frames, padding), ahead), places, axis=1, batch_dims=1)
    return tf.transpose(moved, back)
