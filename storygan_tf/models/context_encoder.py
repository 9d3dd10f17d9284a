"""Context encoder: sentences in order, each seen in the light of the story (Li et al., section 3.2; table 2.2)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.models.layers.batch_norm import batch_norm
from storygan_tf.models.layers.text2gist import Text2Gist


@keras.saving.register_keras_serializable(package="storygan")
class ContextEncoder(keras.layers.Layer):
    """Dense + BN + ReLU on sentence and noise, a GRU over the sentences, then Text2Gist.

    Use it between the story encoder and the image generator. The GRU is Cho et al.'s (arXiv:1406.1078,
    `reset_after=False`).

    Args:
        units: width of the GRU, of Text2Gist's state and of a gist.
        filter_count: see `Text2Gist`.
        filter_length: see `Text2Gist`.
        gist: see `Text2Gist`.

    Input shape: `sentences` float [batch, frames, sentence_size], `noise` float [batch, frames, noise_size],
    `gru_state` and `story_state` (g_0 and h_0) float [batch, units].

    Output shape: gists, float [batch, frames, units].
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
        """Returns gists `o_t`, float [batch, frames, units]."""
        frames = sentences.shape[1]
        joined = tf.concat([sentences, noise], axis=-1)
        flat = tf.reshape(joined, [-1, joined.shape[-1]])
        hidden = tf.nn.relu(self.norm(self.dense(flat), training=training))
        features = self._gru_over(tf.reshape(hidden, [-1, frames, self.units]), gru_state)
        gists, _ = self.text2gist(features, story_state, training=training)
        return gists

    def _gru_over(self, inputs: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
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
