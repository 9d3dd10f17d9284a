"""Image generator: one gist vector to one frame (the seed's table 2.4)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.models.layers.batch_norm import batch_norm
from storygan_tf.models.layers.upsample_conv import UpsampleConv2D


@keras.saving.register_keras_serializable(package="storygan")
class ImageGenerator(keras.layers.Layer):
    """A 3x3 convolution on a 4x4 map, three upsampling blocks that halve the channels, and one to RGB with tanh.

    Use it to render gists. Every block but the last has batch normalisation and ReLU. Under a policy of
    `keras.mixed_precision` its convolutions compute in 16 bits; what comes out is float32.

    Args:
        width: channels of the first block; 512 in the seed.

    Input shape: float [batch, units], `units` a multiple of 16: read as [4, 4, units / 16].

    Output shape: float [batch, 64, 64, 3] in [-1, 1].
    """

    def __init__(self, width: int = 512, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        policy = self.dtype_policy
        self.first = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, name="block_4", dtype=policy)
        self.blocks = [
            UpsampleConv2D(width // 2**depth, use_bias=False, name=f"block_{4 * 2**depth}", dtype=policy)
            for depth in (1, 2, 3)
        ]
        self.norms = [batch_norm(f"norm_{4 * 2**depth}") for depth in range(4)]
        self.last = UpsampleConv2D(3, name="rgb", dtype=policy)

    def call(self, gists: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns frames, float [batch, 64, 64, 3] in [-1, 1]."""
        features = tf.reshape(gists, [-1, 4, 4, gists.shape[-1] // 16])
        for convolution, norm in zip([self.first, *self.blocks], self.norms, strict=True):
            features = tf.nn.relu(norm(convolution(features), training=training))
        return tf.tanh(tf.cast(self.last(features), tf.float32))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return super().get_config() | {"width": self.width}
