"""Text2Gist: the cell that joins a sentence with the story so far."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.models.layers.batch_norm import batch_norm
from storygan_tf.models.layers.dynamic_filter import dynamic_filter


@keras.saving.register_keras_serializable(package="storygan")
class Text2Gist(keras.layers.Layer):
    r"""A GRU-like recurrence over the sentences, read out by filters that each sentence makes of itself.

    Use it to turn sentence features `i_t` and a story's initial state `h_0` into one gist vector a sentence
    (Li et al., "StoryGAN", CVPR 2019, section 3.2):

    .. math::
        z_t &= \sigma(W_z i_t + U_z h_{t-1} + b_z) \\
        r_t &= \sigma(W_r i_t + U_r h_{t-1} + b_r) \\
        h_t &= (1 - z_t) h_{t-1} + z_t \tanh(W_h i_t + U_h (r_t h_{t-1}) + b_h) \\
        o_t &= \mathrm{Filter}(i_t) * h_t

    where Filter is Dense + batch normalisation + tanh, reshaped to `filter_count` filters of `filter_length`, and `*`
    is a 1-D convolution with padding SAME and a stride of `filter_count`.

    Args:
        units: width of the state and of a gist; a multiple of `filter_count`.
        filter_count: filters a sentence.
        filter_length: length of each.
        gist: `filter`, or `product` for `o_t = i_t h_t` without filters, which `features` = `units` allows.

    Input shape: `inputs` float [batch, frames, features], `initial_state` float [batch, units].

    Output shape: gists and states, both float [batch, frames, units].

    Example:
        >>> gists, states = Text2Gist(128)(tf.zeros([2, 4, 128]), tf.zeros([2, 128]))
        >>> gists.shape
        TensorShape([2, 4, 128])
    """

    def __init__(
        self, units: int, filter_count: int = 16, filter_length: int = 64, gist: str = "filter", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if units % filter_count:
            raise ValueError(f"units: found {units}, expected a multiple of filter_count = {filter_count}.")
        self.units = units
        self.filter_count = filter_count
        self.filter_length = filter_length
        self.gist = gist
        if gist == "filter":
            self.filter_dense = keras.layers.Dense(filter_count * filter_length, use_bias=False, name="filter_dense")
            self.filter_norm = batch_norm("filter_norm")

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the weights of the three gates, side by side: update, reset, candidate."""
        features = input_shape[-1]
        self.kernel = self.add_weight("kernel", [features, 3 * self.units], initializer="glorot_uniform")
        self.recurrent_kernel = self.add_weight(
            "recurrent_kernel", [self.units, 3 * self.units], initializer="orthogonal"
        )
        self.bias = self.add_weight("bias", [3 * self.units], initializer="zeros")
        if self.gist == "filter":
            # Scopes, so that no two weights have one name, which HDF5 files refuse.
            with tf.name_scope(self.filter_dense.name):
                self.filter_dense.build([None, features])
            with tf.name_scope(self.filter_norm.name):
                self.filter_norm.build([None, self.filter_count * self.filter_length])
        super().build(input_shape)

    def call(
        self, inputs: tf.Tensor, initial_state: tf.Tensor, training: bool | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the gists and the states, both float [batch, frames, units]."""
        projected = tf.tensordot(inputs, self.kernel, 1) + self.bias
        states = []
        state = initial_state
        for gates in tf.unstack(projected, axis=1):
            state = self._step(gates, state)
            states.append(state)
        stacked = tf.stack(states, axis=1)
        return self._read_out(inputs, stacked, training), stacked

    def _step(self, gates: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        update, reset, candidate = tf.split(gates, 3, axis=-1)
        to_update, to_reset, to_candidate = tf.split(self.recurrent_kernel, 3, axis=-1)
        update = tf.sigmoid(update + state @ to_update)
        reset = tf.sigmoid(reset + state @ to_reset)
        candidate = tf.tanh(candidate + (reset * state) @ to_candidate)
        return (1 - update) * state + update * candidate

    def filters(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the filters of sentences: float [N, features] -> float in [-1, 1] [N, filter_length, filter_count].

        The dense layer's outputs are read as `filter_count` rows of `filter_length`, as in the seed's table 2.3.
        """
        flat = tf.tanh(self.filter_norm(self.filter_dense(inputs), training=training))
        rows = tf.reshape(flat, [-1, self.filter_count, self.filter_length])
        return tf.transpose(rows, [0, 2, 1])

    def _read_out(self, inputs: tf.Tensor, states: tf.Tensor, training: bool | None) -> tf.Tensor:
        if self.gist == "product":
            return inputs * states
        filters = self.filters(tf.reshape(inputs, [-1, inputs.shape[-1]]), training)
        gists = dynamic_filter(tf.reshape(states, [-1, self.units]), filters, stride=self.filter_count)
        return tf.reshape(gists, [-1, states.shape[1], self.units])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return super().get_config() | {
            "units": self.units,
            "filter_count": self.filter_count,
            "filter_length": self.filter_length,
            "gist": self.gist,
        }
