"""The convolutional trunk that both discriminators begin with (tables 2.5 and 2.6.1 of `docs/model.md`)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.models.layers.batch_norm import batch_norm
from storygan_tf.models.layers.spectral_conv import apply_convolution, make_convolution


@keras.saving.register_keras_serializable(package="storygan")
class ImageTrunk(keras.layers.Layer):
    """Four 4x4 convolutions of stride 2, each with batch normalisation and LeakyReLU(0.2).

    Use it as the first four rows of either discriminator. Under a 16-bit policy of `keras.mixed_precision` the
    convolutions compute in 16 bits and the outputs are float32.

    Reference: Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
    Networks", arXiv:1511.06434.

    Args:
        width: channels of the first convolution; each later one has twice as many. 64 in the paper.
        spectral_norm: whether the convolutions are spectrally normalised (Miyato et al., arXiv:1802.05957).

    Input shape: `images` float [batch, 64, 64, 3] in [-1, 1].

    Output shape: the feature maps of all four convolutions, float32 [batch, 32, 32, width],
    [batch, 16, 16, 2 * width], [batch, 8, 8, 4 * width] and [batch, 4, 4, 8 * width].

    Example:
        >>> maps = ImageTrunk(width=64)(tf.zeros([2, 64, 64, 3]))
        >>> maps[-1].shape
        TensorShape([2, 4, 4, 512])
    """

    def __init__(self, width: int = 64, spectral_norm: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.spectral_norm = spectral_norm
        self.convolutions = [
            make_convolution(
                width * 2**depth, 4, spectral_norm, f"conv_{depth + 1}", strides=2, padding="same", use_bias=False
            )
            for depth in range(4)
        ]
        self.norms = [batch_norm(f"norm_{depth + 1}") for depth in range(4)]

    def call(self, images: tf.Tensor, training: bool | None = None) -> tuple[tf.Tensor, ...]:
        """Returns the four feature maps, of which the last is the input of the rest of a discriminator."""
        maps = [images]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            maps.append(tf.nn.leaky_relu(norm(apply_convolution(convolution, maps[-1]), training=training), 0.2))
        return tuple(maps[1:])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return super().get_config() | {"width": self.width, "spectral_norm": self.spectral_norm}
