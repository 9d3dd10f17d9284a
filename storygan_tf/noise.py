"""The noise of a story, made of that story's seed alone.

Pictures therefore depend neither on the batch, nor on the replica, nor on XLA, and a resumed training repeats.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from storygan_tf.config import StoryGANConfig


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

    The algorithm is Philox (Salmon et al., SC 2011): TensorFlow's default gives other numbers eagerly than under XLA.

    Args:
        seeds: int64 [batch], a story's seed each.
        config: gives the sizes.
    """
    sizes = [config.context_size, config.context_size, config.frames * config.noise_size]

    def draw(seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_normal([sum(sizes)], tf.stack([seed, 0]), alg="philox")

    drawn = tf.map_fn(draw, seeds, fn_output_signature=tf.TensorSpec([sum(sizes)], tf.float32))
    story, state, sentences = tf.split(drawn, sizes, axis=1)
    return Noise(story, state, tf.reshape(sentences, [-1, config.frames, config.noise_size]))
