"""The two networks of a judge in the form in which they are saved and run: convolutions in plain TensorFlow.

The input of both is the difference from the median background, so the empty background is zero everywhere. The label
network's logit of a label is the soft maximum of a map of logits, because a label says that an object exists, not
where. The input of the object network is a crop around the place of an object, with background beyond the frame's
border.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from storygan_tf.config.schema import IMAGE_SIZE

CROP = 24
"""Height and width of the object network's input in pixels."""

CONTRAST = 64.0
"""Number of grey levels that are scaled to 1 in a network's input."""

_FRAMES = tf.TensorSpec([None, IMAGE_SIZE, IMAGE_SIZE, 3], tf.uint8, "frames")
_PLACES = tf.TensorSpec([None, 2], tf.float32, "places")


@dataclasses.dataclass(frozen=True)
class Layer:
    """The weights of a convolution or a dense layer.

    Attributes:
        kernel: float32 `[height, width, in, out]` of a convolution, or `[in, out]` of a dense layer.
        bias: float32 `[out]`.
        stride: stride of a convolution.
    """

    kernel: np.ndarray
    bias: np.ndarray
    stride: int = 1


class _Layers(tf.Module):
    """Convolutions and dense layers in sequence, with a ReLU after each except the last.

    Args:
        layers: weights of the layers.
        background: uint8 `[64, 64, 3]`, the median background of the training frames.

    Attributes:
        background: variable with the background.
        kernels: variables with the kernels.
        biases: variables with the biases.
        weights: all variables in a fixed order.
    """

    def __init__(self, layers: Sequence[Layer], background: np.ndarray) -> None:
        super().__init__()
        self.background = tf.Variable(background, trainable=False, name="background")
        self.kernels = [tf.Variable(layer.kernel, name=f"kernel_{index}") for index, layer in enumerate(layers)]
        self.biases = [tf.Variable(layer.bias, name=f"bias_{index}") for index, layer in enumerate(layers)]
        self.weights = [self.background, *self.kernels, *self.biases]
        self._strides = [layer.stride for layer in layers]

    def _hidden(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the input of the last layer for float32 `[n, height, width, 3]`."""
        for index in range(len(self.kernels) - 1):
            images = tf.nn.relu(self._layer(index, images))
        return images

    def _last(self, hidden: tf.Tensor) -> tf.Tensor:
        return self._layer(len(self.kernels) - 1, hidden)

    def _layer(self, index: int, images: tf.Tensor) -> tf.Tensor:
        kernel, bias = self.kernels[index], self.biases[index]
        if kernel.shape.rank == 2:
            return tf.reshape(images, [-1, kernel.shape[0]]) @ kernel + bias
        return tf.nn.conv2d(images, kernel, self._strides[index], "SAME") + bias


class LabelNetwork(_Layers):
    """The network from frames to logits of labels and to features.

    Args:
        layers: convolutions, of which the last one computes a map of logits per label.
        background: uint8 `[64, 64, 3]`, the median background of the training frames.

    Attributes:
        scale: variable by which features are multiplied.
    """

    def __init__(self, layers: Sequence[Layer], background: np.ndarray) -> None:
        super().__init__(layers, background)
        self.scale = tf.Variable(1.0, trainable=False, name="scale")
        self.weights = [*self.weights, self.scale]

    @tf.function(input_signature=[_FRAMES])
    def __call__(self, frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns logits, float32 `[n, L]`, and features, float32 `[n, D]`, of frames, uint8 `[n, 64, 64, 3]`."""
        hidden = self._hidden(difference(frames, self.background))
        return soft_maximum(self._last(hidden)), self.scale * tf.reduce_max(hidden, axis=[1, 2])


class ObjectNetwork(_Layers):
    """The network from places in frames to the logits of the values of all attributes, one attribute after another.

    Args:
        layers: convolutions, then dense layers.
        background: uint8 `[64, 64, 3]`, the median background of the training frames.
    """

    @tf.function(input_signature=[_FRAMES, _PLACES])
    def __call__(self, frames: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """Returns the logits of one place per frame.

        Args:
            frames: uint8 `[m, 64, 64, 3]`.
            places: float32 `[m, 2]`, x and y in pixels.

        Returns:
            float32 `[m, values]`.
        """
        return self._last(self._hidden(crops(difference(frames, self.background), places)))


def difference(frames: tf.Tensor, background: tf.Tensor) -> tf.Tensor:
    """Returns the scaled difference of frames from the background.

    Args:
        frames: uint8 `[n, 64, 64, 3]`.
        background: uint8 `[64, 64, 3]`.

    Returns:
        float32 `[n, 64, 64, 3]`, with 0 for the background and 1 for `CONTRAST` grey levels.
    """
    return (tf.cast(frames, tf.float32) - tf.cast(background, tf.float32)) / CONTRAST


def soft_maximum(maps: tf.Tensor) -> tf.Tensor:
    """Returns the logarithm of the mean exponential over all places.

    Args:
        maps: float32 `[n, height, width, labels]`.

    Returns:
        float32 `[n, labels]`.
    """
    cells = tf.cast(tf.reduce_prod(tf.shape(maps)[1:3]), maps.dtype)
    return tf.reduce_logsumexp(maps, axis=[1, 2]) - tf.math.log(cells)


def crops(images: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Returns a square crop of each image, with bilinear interpolation between pixels and zeros beyond the border.

    Args:
        images: float32 `[m, height, width, 3]`.
        places: float32 `[m, 2]`, x and y of the crops' centres; the centre of the first pixel is at 0.5.

    Returns:
        float32 `[m, CROP, CROP, 3]`.
    """
    # Output pixel (x, y) is input pixel (a0 x + a1 y + a2, b0 x + b1 y + b2), where pixel centres have whole numbers.
    first = places - 0.5 - (CROP - 1) / 2
    one, zero = tf.ones_like(first[:, 0]), tf.zeros_like(first[:, 0])
    rows = [one, zero, first[:, 0], zero, one, first[:, 1], zero, zero]
    return transform(images, tf.stack(rows, axis=1), CROP)


def transform(images: tf.Tensor, transforms: tf.Tensor, size: int) -> tf.Tensor:
    """Returns projective transforms of images, with bilinear interpolation and zeros beyond the border.

    Args:
        images: float32 `[m, height, width, 3]`.
        transforms: float32 `[m, 8]`, coefficients as `tf.raw_ops.ImageProjectiveTransformV3` takes them.
        size: height and width of the result.

    Returns:
        float32 `[m, size, size, 3]`.
    """
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
