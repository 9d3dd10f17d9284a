"""The two discriminators (Li et al., section 3.3; the seed's tables 2.5 and 2.6). Both end in logits.

Under a policy of `keras.mixed_precision` their convolutions compute in 16 bits, but those that make logits.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.models.layers.batch_norm import batch_norm


def _convolution(filters: int, size: int, spectral_norm: bool, name: str, **kwargs: Any) -> keras.layers.Layer:
    convolution = keras.layers.Conv2D(filters, size, name=name, **kwargs)
    if not spectral_norm:
        return convolution
    import tensorflow_addons as tfa

    return tfa.layers.SpectralNormalization(convolution, name=f"{name}_spectral")


def _convolve(convolution: keras.layers.Layer, features: tf.Tensor) -> tf.Tensor:
    """Applies a convolution as it is: kernels are normalised by `normalise_kernels`, not in every pass."""
    return convolution(features, training=False) if hasattr(convolution, "normalize_weights") else convolution(features)


def normalise_kernels(discriminator: keras.Model) -> None:
    """Divides each spectrally normalised kernel by its norm, estimated by one power iteration more.

    Called once after each update of a discriminator. TensorFlow Addons' wrapper by itself would do so in every pass in
    training mode: true, drawn and mismatched frames would meet different kernels.
    """
    for layer in discriminator.submodules:
        if hasattr(layer, "normalize_weights"):
            layer.normalize_weights()


@keras.saving.register_keras_serializable(package="storygan")
class ImageTrunk(keras.layers.Layer):
    """Four 4x4 convolutions of stride 2, each with batch normalisation and LeakyReLU(0.2) (Radford et al., DCGAN).

    Use it as the first four rows of either discriminator.

    Args:
        width: channels of the first; each later one has twice as many. 64 in the seed.
        spectral_norm: whether each convolution is spectrally normalised (Miyato et al., arXiv:1802.05957).

    Input shape: float [batch, 64, 64, 3] in [-1, 1].

    Output shape: the maps of all four, float [batch, 32, 32, width] to [batch, 4, 4, 8 * width].
    """

    def __init__(self, width: int = 64, spectral_norm: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.spectral_norm = spectral_norm
        self.convolutions = [
            _convolution(
                width * 2**depth, 4, spectral_norm, f"conv_{depth + 1}", strides=2, padding="same", use_bias=False
            )
            for depth in range(4)
        ]
        self.norms = [batch_norm(f"norm_{depth + 1}") for depth in range(4)]

    def call(self, images: tf.Tensor, training: bool | None = None) -> tuple[tf.Tensor, ...]:
        """Returns the four maps; the last is what the rest of a discriminator reads."""
        maps = [images]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            maps.append(tf.nn.leaky_relu(norm(_convolve(convolution, maps[-1]), training=training), 0.2))
        return tuple(maps[1:])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return super().get_config() | {"width": self.width, "spectral_norm": self.spectral_norm}


@keras.saving.register_keras_serializable(package="storygan")
class ImageDiscriminator(keras.Model):
    """Does this frame show this sentence of this story? (the seed's table 2.5).

    Args:
        width: see `ImageTrunk`.
        spectral_norm: see `ImageTrunk`; every convolution but the last.
        labels: labels that `classify` tells; 0 for no classifier.

    Input shape: `images` float [N, 64, 64, 3] in [-1, 1], `sentences` float [N, sentence_size], `h0` float
    [N, context_size]. No gradient goes back through `h0`: the story encoder learns from the generator's losses.

    Output shape: logits, float [N].
    """

    def __init__(self, width: int = 64, spectral_norm: bool = False, labels: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.spectral_norm = spectral_norm
        self.labels = labels
        self.trunk = ImageTrunk(width, spectral_norm, name="trunk")
        self.joint = _convolution(8 * width, 3, spectral_norm, "joint", padding="same", use_bias=False)
        self.joint_norm = batch_norm("joint_norm")
        self.score_conv = keras.layers.Conv2D(1, 4, name="score", dtype="float32")
        self.label_conv: Any = keras.layers.Conv2D(labels, 4, name="labels", dtype="float32") if labels else None

    def build(self, input_shape: Any) -> None:
        """Makes the classifier's weights, which a call does not use."""
        if self.label_conv is not None:
            with tf.name_scope(self.label_conv.name):
                self.label_conv.build([None, 4, 4, 8 * self.width])
        self.built = True

    def call(self, images: tf.Tensor, sentences: tf.Tensor, h0: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns logits, float [N]."""
        return self.score(self.trunk(images, training=training)[-1], sentences, h0, training)

    def score(
        self, features: tf.Tensor, sentences: tf.Tensor, h0: tf.Tensor, training: bool | None = None
    ) -> tf.Tensor:
        """Returns logits, float [N], of frames whose last trunk map is known, so that it can be shared."""
        condition = tf.concat([sentences, tf.stop_gradient(h0)], axis=-1)
        tiled = tf.tile(condition[:, tf.newaxis, tf.newaxis, :], [1, 4, 4, 1])
        joint = _convolve(self.joint, tf.concat([features, tiled], axis=-1))
        joint = tf.nn.leaky_relu(self.joint_norm(joint, training=training), 0.2)
        return tf.reshape(self.score_conv(joint), [-1])

    def classify(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the logit of each label, float [N, labels], of frames whose last trunk map is known."""
        return tf.reshape(self.label_conv(features), [-1, self.labels])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return {
            "width": self.width,
            "spectral_norm": self.spectral_norm,
            "labels": self.labels,
            "name": self.name,
        }


@keras.saving.register_keras_serializable(package="storygan")
class StoryDiscriminator(keras.Model):
    """Do these frames, in this order, tell this story? `w^T (E_img(X) * E_text(S)) + b` (the seed's table 2.6).

    Args:
        frames: T.
        width: see `ImageTrunk`.
        spectral_norm: see `ImageTrunk`; every convolution.

    Input shape: `stories` float [batch, frames, 64, 64, 3] in [-1, 1], `sentences` float
    [batch, frames, sentence_size].

    Output shape: logits, float [batch].
    """

    def __init__(self, frames: int, width: int = 64, spectral_norm: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.frames = frames
        self.width = width
        self.spectral_norm = spectral_norm
        self.trunk = ImageTrunk(width, spectral_norm, name="trunk")
        self.image_conv = _convolution(32, 4, spectral_norm, "image_conv", strides=2, padding="same", use_bias=False)
        self.image_norm = batch_norm("image_norm")
        self.text_dense = keras.layers.Dense(128 * frames, use_bias=False, name="text_dense", dtype="float32")
        self.text_norm = batch_norm("text_norm")
        self.score_dense = keras.layers.Dense(1, name="score", dtype="float32")

    def call(self, stories: tf.Tensor, sentences: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns logits, float [batch]."""
        product = self.encode_images(stories, training) * self.encode_text(sentences, training)
        return tf.reshape(self.score_dense(product), [-1])

    def encode_images(self, stories: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns E_img, float [batch, 128 * frames]."""
        features = self.trunk(tf.reshape(stories, [-1, *stories.shape[2:]]), training=training)[-1]
        features = self.image_norm(_convolve(self.image_conv, features), training=training)
        return tf.reshape(features, [-1, self.frames * 128])

    def encode_text(self, sentences: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns E_text, float [batch, 128 * frames]."""
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
