"""Convolutions of the discriminators, with or without spectral normalisation (Miyato et al., arXiv:1802.05957)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def make_convolution(
    filters: int, kernel_size: int, spectral_norm: bool, name: str, **kwargs: Any
) -> keras.layers.Layer:
    """Returns a `Conv2D`, wrapped in TensorFlow Addons' `SpectralNormalization` if `spectral_norm` is true.

    Args:
        filters: number of output channels.
        kernel_size: height and width of the kernel.
        spectral_norm: whether the kernel is spectrally normalised.
        name: name of the `Conv2D`; the wrapper's is `{name}_spectral`.
        **kwargs: further arguments of `keras.layers.Conv2D`.
    """
    convolution = keras.layers.Conv2D(filters, kernel_size, name=name, **kwargs)
    if not spectral_norm:
        return convolution
    import tensorflow_addons as tfa

    return tfa.layers.SpectralNormalization(convolution, name=f"{name}_spectral")


def apply_convolution(convolution: keras.layers.Layer, features: tf.Tensor) -> tf.Tensor:
    """Applies a layer of `make_convolution` without changing its kernel.

    TensorFlow Addons' wrapper normalises its kernel in every call with `training=True`, so that real, generated and
    mismatched frames of one update would meet different kernels. It is therefore called with `training=False` always;
    `normalise_kernels` normalises the kernels once an update.

    Args:
        convolution: a layer that `make_convolution` returned.
        features: float [batch, height, width, channels].

    Returns:
        float [batch, new height, new width, filters].
    """
    return convolution(features, training=False) if hasattr(convolution, "normalize_weights") else convolution(features)


def normalise_kernels(discriminator: keras.Model) -> None:
    """Divides each spectrally normalised kernel by an estimate of its spectral norm.

    Each call runs one more power iteration per kernel, which improves the estimate. Call it once after each update of
    a discriminator. A network without spectral normalisation is left unchanged.
    """
    for layer in discriminator.submodules:
        if hasattr(layer, "normalize_weights"):
            layer.normalize_weights()
