"""Text2Gist: the recurrent layer that combines each sentence with the story so far (table 2.3 of `docs/model.md`)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.models.layers.batch_norm import batch_norm
from storygan_tf.models.layers.dynamic_filter import dynamic_filter


@keras.saving.register_keras_serializable(package="storygan")
class Text2Gist(keras.layers.Layer):
    r"""A GRU-like recurrence over the sentences whose states are convolved with filters computed from each sentence.

    Use it to turn sentence features `i_t` and the initial state `h_0` of a story into one gist vector `o_t` per
    sentence (Li et al., arXiv:1812.02784, section 3.2):

    .. math::
        z_t &= \sigma(W_z i_t + U_z h_{t-1} + b_z) \\
        r_t &= \sigma(W_r i_t + U_r h_{t-1} + b_r) \\
        h_t &= (1 - z_t) h_{t-1} + z_t \tanh(W_h i_t + U_h (r_t h_{t-1}) + b_h) \\
        o_t &= \mathrm{Filter}(i_t) * h_t

    where Filter is Dense + batch normalisation + tanh, reshaped to `filter_count` filters of `filter_length`, and `*`
    is a 1-D convolution with padding SAME and a stride of `filter_count`.

    Args:
        units: width of the state and of a gist; a multiple of `filter_count`.
        filter_count: number of filters per sentence.
        filter_length: length of each filter.
        gist: `filter`, or `product` for `o_t = i_t h_t` without filters, which requires `features` = `units`.

    Raises:
        ValueError: if `units` is not a multiple of `filter_count`.

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
        """Creates the weights; those of update gate, reset gate and candidate are concatenated in this order."""
        features = input_shape[-1]
        self.kernel = self.add_weight("kernel", [features, 3 * self.units], initializer="glorot_uniform")
        self.recurrent_kernel = self.add_weight(
            "recurrent_kernel", [self.units, 3 * self.units], initializer="orthogonal"
        )
        self.bias = self.add_weight("bias", [3 * self.units], initializer="zeros")
        if self.gist == "filter":
            # Name scopes keep the names of weights unique, as HDF5 files require.
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
        """Returns the next state: projected inputs [batch, 3 * units], state [batch, units] -> [batch, units]."""
        update, reset, candidate = tf.split(gates, 3, axis=-1)
        to_update, to_reset, to_candidate = tf.split(self.recurrent_kernel, 3, axis=-1)
        update = tf.sigmoid(update + state @ to_update)
        reset = tf.sigmoid(reset + state @ to_reset)
        candidate = tf.tanh(candidate + (reset * state) @ to_candidate)
        return (1 - update) * state + update * candidate

    def filters(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the filters of sentences.

        The outputs of the dense layer are reshaped to `filter_count` rows of `filter_length`.

        Args:
            inputs: float [N, features].
            training: whether batch normalisation uses the statistics of the batch.

        Returns:
            float [N, filter_length, filter_count] in [-1, 1].
        """
        flat = tf.tanh(self.filter_norm(self.filter_dense(inputs), training=training))
        rows = tf.reshape(flat, [-1, self.filter_count, self.filter_length])
        return tf.transpose(rows, [0, 2, 1])

    def _read_out(self, inputs: tf.Tensor, states: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Returns the gists, float [batch, frames, units], of inputs and states."""
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
