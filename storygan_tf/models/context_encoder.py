"""Context encoder: one gist vector per sentence, given the story so far (table 2.2 of `docs/model.md`)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.models.layers.batch_norm import batch_norm
from storygan_tf.models.layers.text2gist import Text2Gist


@keras.saving.register_keras_serializable(package="storygan")
class ContextEncoder(keras.layers.Layer):
    """Dense + batch normalisation + ReLU on each sentence and its noise, a GRU over the sentences, then Text2Gist.

    Use it between the story encoder and the image generator. The GRU is the one of Cho et al. (arXiv:1406.1078,
    `reset_after=False`).

    Reference: Li et al., "StoryGAN: A Sequential Conditional GAN for Story Visualization", arXiv:1812.02784,
    section 3.2.

    Args:
        units: width of the GRU, of the state of Text2Gist and of a gist.
        filter_count: see `Text2Gist`.
        filter_length: see `Text2Gist`.
        gist: see `Text2Gist`.

    Input shape: `sentences` float [batch, frames, sentence_size], `noise` float [batch, frames, noise_size],
    `gru_state` (g_0) and `story_state` (h_0) float [batch, units].

    Output shape: gists, float [batch, frames, units].

    Example:
        >>> encoder = ContextEncoder(128)
        >>> state = tf.zeros([2, 128])
        >>> encoder(tf.zeros([2, 4, 128]), tf.zeros([2, 4, 100]), state, state).shape
        TensorShape([2, 4, 128])
    """

    def __init__(
        self, units: int, filter_count: int = 16, filter_length: int = 64, gist: str = "filter", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.dense = keras.layers.Dense(units, use_bias=False, name="dense")
        self.norm = batch_norm("norm")
        self.gru = keras.layers.GRUCell(units, reset_after=False, name="gru")
        self.text2gist = Text2Gist(units, filter_count, filter_length, gist, name="text2gist")

    def call(
        self,
        sentences: tf.Tensor,
        noise: tf.Tensor,
        gru_state: tf.Tensor,
        story_state: tf.Tensor,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Returns the gists `o_t`, float [batch, frames, units]."""
        frames = sentences.shape[1]
        joined = tf.concat([sentences, noise], axis=-1)
        flat = tf.reshape(joined, [-1, joined.shape[-1]])
        hidden = tf.nn.relu(self.norm(self.dense(flat), training=training))
        features = self._gru_over(tf.reshape(hidden, [-1, frames, self.units]), gru_state)
        gists, _ = self.text2gist(features, story_state, training=training)
        return gists

    def _gru_over(self, inputs: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """Returns the GRU's states over time: [batch, frames, units], [batch, units] -> [batch, frames, units]."""
        outputs = []
        for features in tf.unstack(inputs, axis=1):
            state, _ = self.gru(features, [state])
            outputs.append(state)
        return tf.stack(outputs, axis=1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return super().get_config() | {
            "units": self.units,
            "filter_count": self.text2gist.filter_count,
            "filter_length": self.text2gist.filter_length,
            "gist": self.text2gist.gist,
        }
