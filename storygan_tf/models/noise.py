"""The noise of a story, made of that story's seed alone.

Pictures therefore depend neither on the batch, nor on the replica, nor on XLA, and a resumed training repeats.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from storygan_tf.config.schema import StoryGANConfig


class Noise(NamedTuple):
    """What is random in a story.

    Attributes:
        story: float32 [batch, context_size], epsilon of `h0 = mu + sigma * epsilon`.
        state: float32 [batch, context_size], the GRU's initial state g_0.
        sentences: float32 [batch, frames, noise_size], joined to the sentence vectors.
    """

    story: tf.Tensor
    state: tf.Tensor
    sentences: tf.Tensor


def story_noise(seeds: tf.Tensor, config: StoryGANConfig) -> Noise:
    """Draws standard normal noise for each story of a batch.

    Args:
        seeds: int64 [batch], a story's seed each.
        config: gives the sizes.
    """
    sizes = [config.context_size, config.context_size, config.frames * config.noise_size]
    signature = tf.TensorSpec([sum(sizes)], tf.float32)
    drawn = tf.map_fn(lambda seed: _normal(seed, sum(sizes)), seeds, fn_output_signature=signature)
    story, state, sentences = tf.split(drawn, sizes, axis=1)
    return Noise(story, state, tf.reshape(sentences, [-1, config.frames, config.noise_size]))


def _normal(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Returns float32 [size] of one int64 seed: Philox (Salmon et al., SC 2011) and Box and Muller (1958).

    `tf.random.stateless_normal` gives other numbers under XLA than without, whatever its algorithm: both make the same
    Philox bits, but other floats of them. So the floats are made here.
    """
    half = (size + 1) // 2
    bits = tf.random.stateless_uniform(
        [2, half], tf.stack([seed, 0]), minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    # 24 bits are what a float32 holds; the half keeps 0 away from the logarithm.
    uniform = (tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) + 0.5) / 2.0**24
    radius, angle = tf.sqrt(-2.0 * tf.math.log(uniform[0])), 2.0 * np.pi * uniform[1]
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)[:size]
