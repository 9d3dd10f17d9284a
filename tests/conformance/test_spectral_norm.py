"""The option `spectral_norm`: TensorFlow Addons' wrapper around the discriminators' convolutions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.data.training_input import training_dataset
from storygan_tf.models.layers.spectral_conv import normalise_kernels
from storygan_tf.training.storygan import StoryGAN

PHASE = PhaseConfig(image_batch=4, story_batch=4)


@pytest.fixture
def spectral(shared_gan, config) -> StoryGAN:
    gan = shared_gan(dataclasses.replace(config, spectral_norm=True))
    gan.compile(PHASE, steps=10, run_eagerly=True)
    return gan


def wrappers(gan: StoryGAN) -> list:
    layers = [layer for network in gan.networks for layer in network.submodules]
    return [layer for layer in layers if type(layer).__name__ == "SpectralNormalization"]


def test_a_step_trains_and_every_wrapper_took_part(spectral, stories):
    before = [(layer.u.numpy(), layer.w.numpy()) for layer in wrappers(spectral)]
    assert len(before) == (4 + 1) + (4 + 1)
    history = spectral.fit(training_dataset(stories, PHASE, (1, 0), 0, 1), steps_per_epoch=1, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    for layer, (u, w) in zip(wrappers(spectral), before, strict=True):
        assert not np.array_equal(layer.u, u)
        assert not np.array_equal(layer.w, w)


def test_kernels_converge_to_a_spectral_norm_of_one(spectral):
    """Each update divides by an estimate of the norm, which becomes exact after a few updates."""
    for _ in range(24):
        for network in spectral.networks:
            normalise_kernels(network)
    for layer in wrappers(spectral):
        matrix = layer.w.numpy().reshape(-1, layer.w.shape[-1])
        assert np.linalg.norm(matrix, ord=2) == pytest.approx(1.0, abs=0.05)


def test_an_update_scales_kernels_once_and_no_other_weights(spectral, stories):
    """Recomputes one power iteration from `u`, which runs after the discriminator's update, in no forward pass."""
    still = dataclasses.replace(PHASE, schedule="joint", generator_steps=2, discriminator_learning_rate=0.0)
    spectral.compile(still, steps=10, run_eagerly=True)
    scaled = {id(layer.w): normalised(layer.w.numpy(), layer.u.numpy()) for layer in wrappers(spectral)}
    variables = [variable for network in spectral.networks[1:] for variable in network.trainable_variables]
    before = [variable.numpy() for variable in variables]
    spectral.fit(training_dataset(stories, still, (1, 0), 0, 1), steps_per_epoch=1, verbose=0)
    for variable, then in zip(variables, before, strict=True):
        np.testing.assert_allclose(variable, scaled.get(id(variable), then), rtol=1e-4, atol=1e-7)
    assert len(scaled) == 10


def normalised(kernel: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Returns a normalised kernel by algorithm 1 of Miyato et al., arXiv:1802.05957."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    v = u @ matrix.T
    v /= np.linalg.norm(v)
    u = v @ matrix
    u /= np.linalg.norm(u)
    return kernel / (v @ matrix @ u.T)


def test_a_pass_in_training_mode_does_not_change_the_kernels(spectral):
    before = [layer.w.numpy() for layer in wrappers(spectral)]
    images = tf.random.normal([4, 2, 64, 64, 3])
    spectral.story_discriminator(images, tf.zeros([4, 2, 6]), training=True)
    spectral.image_discriminator(images[:, 0], tf.zeros([4, 6]), tf.zeros([4, 32]), training=True)
    for layer, kernel in zip(wrappers(spectral), before, strict=True):
        np.testing.assert_array_equal(layer.w, kernel)
