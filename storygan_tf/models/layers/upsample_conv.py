"""Nearest-neighbour upsampling by 2 and a 3x3 convolution as one operation."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def transposed_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """Returns the 4x4 kernel of the transposed convolution that equals upsampling by 2 and a 3x3 convolution.

    With the upsampled input `u[i] = x[i // 2]` and output `y[i] = sum_d k[d] u[i + d]`, d from -1 to 1, the weight of
    `x[j]` in `y[i]` is `k[2j - i] + k[2j + 1 - i]`: the flipped kernel convolved with ones(2, 2).

    Args:
        kernel: float [3, 3, in, out].

    Returns:
        float [4, 4, out, in], the layout of `tf.nn.conv2d_transpose`.
    """
    flipped = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
    rows = tf.pad(flipped, [[0, 1], [0, 0], [0, 0], [0, 0]]) + tf.pad(flipped, [[1, 0], [0, 0], [0, 0], [0, 0]])
    return tf.pad(rows, [[0, 0], [0, 1], [0, 0], [0, 0]]) + tf.pad(rows, [[0, 0], [1, 0], [0, 0], [0, 0]])


@keras.saving.register_keras_serializable(package="storygan")
class UpsampleConv2D(keras.layers.Layer):
    """Equals `UpSampling2D(2)` followed by `Conv2D(filters, 3, padding="same")`, with 2.25 times fewer multiplications.

    Use it for the blocks of the image generator. The weights are those of the 3x3 convolution; the layer computes one
    transposed convolution of stride 2 (`benchmarks/upsampling.py` compares the forms). Unlike `UpSampling2D` it has a
    gradient under XLA.

    Reference: Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, for the choice of
    nearest-neighbour upsampling.

    Args:
        filters: number of output channels, at least 1.
        use_bias: whether to add a bias; not needed before batch normalisation.

    Raises:
        ValueError: if `filters` is less than 1.

    Input shape: `inputs` float [batch, height, width, channels].

    Output shape: float [batch, 2 * height, 2 * width, filters].

    Example:
        >>> UpsampleConv2D(3)(tf.zeros([1, 4, 4, 8])).shape
        TensorShape([1, 8, 8, 3])
    """

    def __init__(self, filters: int, use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if filters < 1:
            raise ValueError(f"filters: found {filters}, expected at least 1 output channel.")
        self.filters = filters
        self.use_bias = use_bias

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the 3x3 kernel and, if `use_bias`, the bias."""
        self.kernel = self.add_weight("kernel", [3, 3, input_shape[-1], self.filters], initializer="glorot_uniform")
        self.bias = self.add_weight("bias", [self.filters], initializer="zeros") if self.use_bias else None
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns float [batch, 2 * height, 2 * width, filters]."""
        height, width = inputs.shape[1:3]
        shape = [tf.shape(inputs)[0], 2 * height, 2 * width, self.filters]
        outputs = tf.nn.conv2d_transpose(inputs, transposed_kernel(self.kernel), shape, strides=2, padding="SAME")
        outputs = tf.ensure_shape(outputs, [inputs.shape[0], 2 * height, 2 * width, self.filters])
        return outputs if self.bias is None else outputs + self.bias

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return super().get_config() | {"filters": self.filters, "use_bias": self.use_bias}
