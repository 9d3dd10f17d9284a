"""Image discriminator: whether one frame shows its sentence in its story (table 2.5 of `docs/model.md`)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.models.image_trunk import ImageTrunk
from storygan_tf.models.layers.batch_norm import batch_norm
from storygan_tf.models.layers.spectral_conv import apply_convolution, make_convolution


@keras.saving.register_keras_serializable(package="storygan")
class ImageDiscriminator(keras.Model):
    """Scores whether a frame shows its sentence in the context of its story.

    Use it for the consistency of each frame with its sentence. The paper's sigmoid is part of the loss
    (`losses.discriminator_loss`), so the output is a logit. No gradient flows back through `h0`: the story encoder
    learns from the generator's losses. With `labels` it also has an auxiliary classifier (Odena et al.,
    arXiv:1610.09585), see `classify`. Under a 16-bit policy of `keras.mixed_precision` the convolutions compute in 16
    bits, except those that compute logits; the outputs are float32.

    Reference: Li et al., "StoryGAN: A Sequential Conditional GAN for Story Visualization", arXiv:1812.02784,
    section 3.3.

    Args:
        width: see `ImageTrunk`.
        spectral_norm: whether all convolutions but the last are spectrally normalised.
        labels: number of labels of the auxiliary classifier; 0 for no classifier.

    Input shape: `images` float [batch, 64, 64, 3] in [-1, 1], `sentences` float [batch, sentence_size], `h0` float
    [batch, context_size].

    Output shape: logits, float32 [batch].

    Example:
        >>> logits = ImageDiscriminator()(tf.zeros([2, 64, 64, 3]), tf.zeros([2, 128]), tf.zeros([2, 128]))
        >>> logits.shape
        TensorShape([2])
    """

    def __init__(self, width: int = 64, spectral_norm: bool = False, labels: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.spectral_norm = spectral_norm
        self.labels = labels
        self.trunk = ImageTrunk(width, spectral_norm, name="trunk")
        self.joint = make_convolution(8 * width, 3, spectral_norm, "joint", padding="same", use_bias=False)
        self.joint_norm = batch_norm("joint_norm")
        whole = keras.backend.floatx()
        self.score_conv = keras.layers.Conv2D(1, 4, name="score", dtype=whole)
        self.label_conv: Any = keras.layers.Conv2D(labels, 4, name="labels", dtype=whole) if labels else None

    def build(self, input_shape: Any) -> None:
        """Creates the weights of the auxiliary classifier, which `call` does not use."""
        if self.label_conv is not None:
            with tf.name_scope(self.label_conv.name):
                self.label_conv.build([None, 4, 4, 8 * self.width])
        self.built = True

    def call(self, images: tf.Tensor, sentences: tf.Tensor, h0: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the logits, float32 [batch]."""
        return self.score(self.trunk(images, training=training)[-1], sentences, h0, training)

    def probability(
        self, images: tf.Tensor, sentences: tf.Tensor, h0: tf.Tensor, training: bool | None = None
    ) -> tf.Tensor:
        """Returns the probability that frames are real, the sigmoid of the logits.

        It has the shape of the paper's output, float [batch, 1, 1, 1] in [0, 1]. The arguments are those of `call`.
        """
        return tf.reshape(tf.sigmoid(self(images, sentences, h0, training=training)), [-1, 1, 1, 1])

    def score(
        self, features: tf.Tensor, sentences: tf.Tensor, h0: tf.Tensor, training: bool | None = None
    ) -> tf.Tensor:
        """Returns the logits of frames whose trunk features are already computed.

        Use it to score the same frames several times with one pass of the trunk.

        Args:
            features: float [batch, 4, 4, 8 * width], the last map of `trunk`.
            sentences: float [batch, sentence_size].
            h0: float [batch, context_size].
            training: whether batch normalisation uses the statistics of the batch.

        Returns:
            float32 [batch].
        """
        condition = tf.concat([sentences, tf.stop_gradient(h0)], axis=-1)
        tiled = tf.tile(condition[:, tf.newaxis, tf.newaxis, :], [1, 4, 4, 1])
        joint = apply_convolution(self.joint, tf.concat([features, tiled], axis=-1))
        joint = tf.nn.leaky_relu(self.joint_norm(joint, training=training), 0.2)
        return tf.reshape(self.score_conv(joint), [-1])

    def classify(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the logits of the labels: the last map of `trunk` [batch, 4, 4, 8 * width] -> [batch, labels]."""
        return tf.reshape(self.label_conv(features), [-1, self.labels])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return {
            "width": self.width,
            "spectral_norm": self.spectral_norm,
            "labels": self.labels,
            "name": self.name,
        }
