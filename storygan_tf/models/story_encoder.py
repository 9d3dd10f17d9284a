"""Story encoder: encodes a whole story as the distribution of one vector (table 2.1 of `docs/model.md`)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.models.layers.batch_norm import batch_norm


@keras.saving.register_keras_serializable(package="storygan")
class StoryEncoder(keras.layers.Layer):
    """Maps a story to mean and log variance of `h0`, by Dense + batch normalisation + ReLU and two Dense layers.

    Use it for the initial state of Text2Gist, which `sample` draws: `h0 = mu + sigma * epsilon`.

    References:
        - Li et al., "StoryGAN: A Sequential Conditional GAN for Story Visualization", arXiv:1812.02784, section 3.1.
        - Kingma and Welling, "Auto-Encoding Variational Bayes", arXiv:1312.6114.

    Args:
        units: width of `h0`.

    Input shape: `sentences` float [batch, frames, sentence_size].

    Output shape: `mu` and `log_var`, both float [batch, units].

    Example:
        >>> mu, log_var = StoryEncoder(128)(tf.zeros([2, 4, 128]))
        >>> mu.shape
        TensorShape([2, 128])
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.dense = keras.layers.Dense(units, use_bias=False, name="dense")
        self.norm = batch_norm("norm")
        self.mu = keras.layers.Dense(units, name="mu")
        self.log_var = keras.layers.Dense(units, name="log_var")

    def call(self, sentences: tf.Tensor, training: bool | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `mu` and `log_var`, the logarithm of sigma squared; both float [batch, units]."""
        flat = tf.reshape(sentences, [-1, sentences.shape[1] * sentences.shape[2]])
        hidden = tf.nn.relu(self.norm(self.dense(flat), training=training))
        return self.mu(hidden), self.log_var(hidden)

    @staticmethod
    def sample(mu: tf.Tensor, log_var: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns `h0 = mu + exp(log_var / 2) * epsilon`. All are float [batch, units], `epsilon` standard normal."""
        return mu + tf.exp(0.5 * log_var) * epsilon

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return super().get_config() | {"units": self.units}
