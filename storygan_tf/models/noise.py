"""The noise of a story, a function of the story's seed alone.

Generated frames therefore do not depend on the batch, the replica or XLA, and a resumed training repeats exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from storygan_tf.config.schema import StoryGANConfig


class Noise(NamedTuple):
    """The noise of a batch of stories; standard normal.

    Attributes:
        story: float32 [batch, context_size], epsilon in `h0 = mu + sigma * epsilon`.
        state: float32 [batch, context_size], the GRU's initial state g_0.
        sentences: float32 [batch, frames, noise_size], concatenated with the sentence vectors.
    """

    story: tf.Tensor
    state: tf.Tensor
    sentences: tf.Tensor


def story_noise(seeds: tf.Tensor, config: StoryGANConfig) -> Noise:
    """Returns the noise of each story of a batch.

    Args:
        seeds: int64 [batch], one seed per story.
        config: sizes of the noise.
    """
    sizes = [config.context_size, config.context_size, config.frames * config.noise_size]
    signature = tf.TensorSpec([sum(sizes)], tf.float32)
    drawn = tf.map_fn(lambda seed: _normal(seed, sum(sizes)), seeds, fn_output_signature=signature)
    story, state, sentences = tf.split(tf.cast(drawn, keras.backend.floatx()), sizes, axis=1)
    return Noise(story, state, tf.reshape(sentences, [-1, config.frames, config.noise_size]))


def _normal(seed: tf.Tensor, size: int) -> tf.Tensor:
    """Returns standard normal numbers: int64 scalar `seed` -> float32 [size].

    Random bits come from Philox (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011), which gives
    the same bits with and without XLA. `tf.random.stateless_normal` converts these bits to different numbers under XLA,
    so the transform of Box and Muller (1958) is applied here.
    """
    half = (size + 1) // 2
    bits = tf.random.stateless_uniform(
        [2, half], tf.stack([seed, 0]), minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    # A float32 has 24 bits of precision. Adding 0.5 keeps the argument of the logarithm above 0.
    uniform = (tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) + 0.5) / 2.0**24
    radius, angle = tf.sqrt(-2.0 * tf.math.log(uniform[0])), 2.0 * np.pi * uniform[1]
    return tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=0)[:size]
