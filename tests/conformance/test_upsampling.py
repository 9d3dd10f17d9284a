"""UpsampleConv2D is nearest upsampling and a 3x3 convolution, forward and backward."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.models.image_generator import ImageGenerator
from storygan_tf.models.layers.upsample_conv import UpsampleConv2D, transposed_kernel

SIZES = [(1, 1, 1, 1), (3, 5, 2, 3), (4, 4, 8, 16), (7, 2, 5, 1), (9, 13, 3, 4)]
"""Height, width, input and output channels."""


def both(inputs: tf.Tensor, outputs: int, use_bias: bool) -> list[list[tf.Tensor]]:
    """Returns, of the two forms with the same weights, output and gradients of input, kernel and bias."""
    ours = UpsampleConv2D(outputs, use_bias)
    convolution = keras.layers.Conv2D(outputs, 3, padding="same", use_bias=use_bias)
    plain = keras.Sequential([keras.layers.UpSampling2D(2), convolution])
    ours(inputs)
    plain(inputs)
    if use_bias:
        ours.bias.assign(tf.random.normal(ours.bias.shape))
    convolution.set_weights(ours.get_weights())
    upstream = tf.random.normal(ours(inputs).shape)
    return [output_and_gradients(layer, inputs, upstream) for layer in (ours, plain)]


def output_and_gradients(layer: keras.layers.Layer, inputs: tf.Tensor, upstream: tf.Tensor) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = layer(inputs)
    return [output, *tape.gradient(output, [inputs, *layer.trainable_variables], upstream)]


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_plain_form(size, use_bias):
    height, width, channels, outputs = size
    ours, plain = both(tf.random.normal([2, height, width, channels]), outputs, use_bias)
    assert len(ours) == 3 + use_bias
    for found, expected in zip(ours, plain, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-5)


def test_transposed_kernel_sums_the_taps_that_meet_one_pixel():
    kernel = tf.reshape(tf.range(1.0, 10.0), [3, 3, 1, 1])
    found = transposed_kernel(kernel)[:, :, 0, 0]
    flipped = kernel.numpy()[::-1, ::-1, 0, 0]
    expected = sum(np.pad(flipped, [[down, 1 - down], [right, 1 - right]]) for down in (0, 1) for right in (0, 1))
    np.testing.assert_array_equal(found, expected)


def test_an_image_generator_of_plain_layers_draws_the_same():
    """Compares with table 2.4 of the original code in Keras layers with the same weights, to 1e-4 after five blocks."""
    generator = ImageGenerator(16)
    gists = tf.random.normal([3, 32])
    generator(gists, training=True)  # moves the moving statistics
    layers: list[keras.layers.Layer] = [keras.layers.Reshape([4, 4, 2])]
    for number, channels in enumerate((16, 8, 4, 2)):
        layers += [keras.layers.UpSampling2D(2)] if number else []
        layers += [
            keras.layers.Conv2D(channels, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(epsilon=1e-5),
            keras.layers.ReLU(),
        ]
    layers += [keras.layers.UpSampling2D(2), keras.layers.Conv2D(3, 3, padding="same", activation="tanh")]
    plain = keras.Sequential(layers)
    plain(gists)
    convolutions = [generator.first, *generator.blocks]
    ordered = [part for pair in zip(convolutions, generator.norms, strict=True) for part in pair] + [generator.last]
    weighted = [layer for layer in layers if layer.weights]
    for layer, own in zip(weighted, ordered, strict=True):
        layer.set_weights(own.get_weights())
    np.testing.assert_allclose(generator(gists, training=False), plain(gists, training=False), atol=1e-4)
