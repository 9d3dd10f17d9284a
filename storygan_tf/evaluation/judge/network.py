"""The two networks of a judge as they are saved and asked: convolutions in plain TensorFlow.

Both see the difference from the median background, so that the empty table is zero everywhere. The label network's
logit of a label is the soft maximum of a map of logits, for a label says that something is there, not where. The object
network sees a crop around the place of an object, and what lies beyond the frame's border is background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from storygan_tf.config.schema import IMAGE_SIZE

CROP = 24
"""Side of what the object network sees, in pixels."""

CONTRAST = 64.0
"""Grey levels that a network sees as 1."""

_FRAMES = tf.TensorSpec([None, IMAGE_SIZE, IMAGE_SIZE, 3], tf.uint8, "frames")
_PLACES = tf.TensorSpec([None, 2], tf.float32, "places")


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution or a dense layer, with whatever normalisation followed it multiplied in.

    Attributes:
        kernel: `[height, width, in, out]`, or `[in, out]` for a dense layer.
        bias: `[out]`.
        stride: of a convolution.
    """

    kernel: np.ndarray
    bias: np.ndarray
    stride: int = 1


class _Layers(tf.Module):
    """Layers with a ReLU after each but the last.

    Attributes:
        weights: all variables, in a fixed order.
    """

    def __init__(self, layers: Sequence[Layer], background: np.ndarray) -> None:
        super().__init__()
        self.background = tf.Variable(background, trainable=False, name="background")
        self.kernels = [tf.Variable(layer.kernel, name=f"kernel_{index}") for index, layer in enumerate(layers)]
        self.biases = [tf.Variable(layer.bias, name=f"bias_{index}") for index, layer in enumerate(layers)]
        self.weights = [self.background, *self.kernels, *self.biases]
        self._strides = [layer.stride for layer in layers]

    def _hidden(self, images: tf.Tensor) -> tf.Tensor:
        """Returns what goes into the last layer."""
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
    """Frames to logits of labels and to features.

    Args:
        layers: convolutions; the last one gives a map of logits for each label.
        background: uint8 `[64, 64, 3]`.

    Attributes:
        scale: by which features are multiplied.
    """

    def __init__(self, layers: Sequence[Layer], background: np.ndarray) -> None:
        super().__init__(layers, background)
        self.scale = tf.Variable(1.0, trainable=False, name="scale")
        self.weights = [*self.weights, self.scale]

    @tf.function(input_signature=[_FRAMES])
    def __call__(self, frames: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Looks at frames: uint8 `[n, 64, 64, 3]` -> logits float32 `[n, L]`, features float32 `[n, D]`."""
        hidden = self._hidden(difference(frames, self.background))
        return soft_maximum(self._last(hidden)), self.scale * tf.reduce_max(hidden, axis=[1, 2])


class ObjectNetwork(_Layers):
    """Places in frames to logits of the values of all attributes, one attribute after the other.

    Args:
        layers: convolutions, then dense layers.
        background: uint8 `[64, 64, 3]`.
    """

    @tf.function(input_signature=[_FRAMES, _PLACES])
    def __call__(self, frames: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """Looks at one place of each frame: uint8 `[m, 64, 64, 3]`, float32 `[m, 2]` -> float32 `[m, values]`."""
        return self._last(self._hidden(crops(difference(frames, self.background), places)))


def difference(frames: tf.Tensor, background: tf.Tensor) -> tf.Tensor:
    """Returns float32 frames of which the background is zero."""
    return (tf.cast(frames, tf.float32) - tf.cast(background, tf.float32)) / CONTRAST


def soft_maximum(maps: tf.Tensor) -> tf.Tensor:
    """`[n, height, width, labels]` -> `[n, labels]`: log of the mean exponential over the places."""
    cells = tf.cast(tf.reduce_prod(tf.shape(maps)[1:3]), maps.dtype)
    return tf.reduce_logsumexp(maps, axis=[1, 2]) - tf.math.log(cells)


def crops(images: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Cuts a square out of each image, bilinear between pixels and zero beyond the border.

    Args:
        images: float32 `[m, height, width, 3]`.
        places: float32 `[m, 2]`, x and y of the squares' centres; the centre of the first pixel is at 0.5.

    Returns:
        float32 `[m, CROP, CROP, 3]`.
    """
    # Output pixel (x, y) is taken from (a0 x + a1 y + a2, b0 x + b1 y + b2), where pixels are counted by their centres.
    first = places - 0.5 - (CROP - 1) / 2
    one, zero = tf.ones_like(first[:, 0]), tf.zeros_like(first[:, 0])
    rows = [one, zero, first[:, 0], zero, one, first[:, 1], zero, zero]
    return transformed(images, tf.stack(rows, axis=1), CROP)


def transformed(images: tf.Tensor, transforms: tf.Tensor, size: int) -> tf.Tensor:
    """Maps images by `tf.raw_ops.ImageProjectiveTransformV3`: `[m, ...]`, `[m, 8]` -> `[m, size, size, 3]`."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
