"""Image generator: renders one frame from one gist vector (table 2.4 of `docs/model.md`)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.models.layers.batch_norm import batch_norm
from storygan_tf.models.layers.upsample_conv import UpsampleConv2D


@keras.saving.register_keras_serializable(package="storygan")
class ImageGenerator(keras.layers.Layer):
    """Renders gist vectors by a 3x3 convolution on a 4x4 map and four upsampling blocks, the last one to RGB.

    Use it on the output of the context encoder. The first three upsampling blocks halve the channels. Every block but
    the last has batch normalisation and ReLU; the last has tanh. Under a 16-bit policy of `keras.mixed_precision` the
    convolutions compute in 16 bits and the output is float32.

    Reference: Li et al., "StoryGAN: A Sequential Conditional GAN for Story Visualization", arXiv:1812.02784,
    section 3.2.

    Args:
        width: channels of the first block; 512 in the paper.

    Input shape: `gists` float [batch, units]; `units` is a multiple of 16 and reshaped to [4, 4, units / 16].

    Output shape: float32 [batch, 64, 64, 3] in [-1, 1].

    Example:
        >>> ImageGenerator(width=64)(tf.zeros([2, 128])).shape
        TensorShape([2, 64, 64, 3])
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
        """Returns the frames, float32 [batch, 64, 64, 3] in [-1, 1]."""
        features = tf.reshape(gists, [-1, 4, 4, gists.shape[-1] // 16])
        for convolution, norm in zip([self.first, *self.blocks], self.norms, strict=True):
            features = tf.nn.relu(norm(convolution(features), training=training))
        return tf.tanh(tf.cast(self.last(features), keras.backend.floatx()))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return super().get_config() | {"width": self.width}
