"""Story discriminator: whether a sequence of frames shows a whole story (table 2.6 of `docs/model.md`)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.models.image_trunk import ImageTrunk
from storygan_tf.models.layers.batch_norm import batch_norm
from storygan_tf.models.layers.spectral_conv import apply_convolution, make_convolution


@keras.saving.register_keras_serializable(package="storygan")
class StoryDiscriminator(keras.Model):
    """Scores whether these frames, in this order, show this story: `w^T (E_img(X) * E_text(S)) + b`.

    Use it for the global coherence of a story. The paper's sigmoid is part of the loss (`losses.discriminator_loss`),
    so the output is a logit. Under a 16-bit policy of `keras.mixed_precision` the convolutions compute in 16 bits, the
    rest and the output are float32.

    Reference: Li et al., "StoryGAN: A Sequential Conditional GAN for Story Visualization", arXiv:1812.02784,
    section 3.3.

    Args:
        frames: frames of a story, T.
        width: see `ImageTrunk`.
        spectral_norm: whether all convolutions are spectrally normalised.

    Input shape: `stories` float [batch, frames, 64, 64, 3] in [-1, 1], `sentences` float
    [batch, frames, sentence_size].

    Output shape: logits, float32 [batch].

    Example:
        >>> logits = StoryDiscriminator(frames=4)(tf.zeros([2, 4, 64, 64, 3]), tf.zeros([2, 4, 128]))
        >>> logits.shape
        TensorShape([2])
    """

    def __init__(self, frames: int, width: int = 64, spectral_norm: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.frames = frames
        self.width = width
        self.spectral_norm = spectral_norm
        self.trunk = ImageTrunk(width, spectral_norm, name="trunk")
        self.image_conv = make_convolution(
            32, 4, spectral_norm, "image_conv", strides=2, padding="same", use_bias=False
        )
        self.image_norm = batch_norm("image_norm")
        whole = keras.backend.floatx()
        self.text_dense = keras.layers.Dense(128 * frames, use_bias=False, name="text_dense", dtype=whole)
        self.text_norm = batch_norm("text_norm")
        self.score_dense = keras.layers.Dense(1, name="score", dtype=whole)

    def call(self, stories: tf.Tensor, sentences: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the logits, float32 [batch]."""
        product = self.encode_images(stories, training) * self.encode_text(sentences, training)
        return tf.reshape(self.score_dense(product), [-1])

    def probability(self, stories: tf.Tensor, sentences: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the probability that stories are real, the sigmoid of the logits.

        It has the shape of the paper's output, float [batch, 1] in [0, 1]. The arguments are those of `call`.
        """
        return tf.reshape(tf.sigmoid(self(stories, sentences, training=training)), [-1, 1])

    def encode_images(self, stories: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns `E_img(X)`: float [batch, frames, 64, 64, 3] in [-1, 1] -> float32 [batch, 128 * frames]."""
        features = self.trunk(tf.reshape(stories, [-1, *stories.shape[2:]]), training=training)[-1]
        features = self.image_norm(apply_convolution(self.image_conv, features), training=training)
        return tf.reshape(features, [-1, self.frames * 128])

    def encode_text(self, sentences: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns `E_text(S)`: float [batch, frames, sentence_size] -> float32 [batch, 128 * frames]."""
        flat = tf.reshape(sentences, [-1, sentences.shape[1] * sentences.shape[2]])
        return self.text_norm(self.text_dense(flat), training=training)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return {
            "frames": self.frames,
            "width": self.width,
            "spectral_norm": self.spectral_norm,
            "name": self.name,
        }
