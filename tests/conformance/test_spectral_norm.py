"""The option `spectral_norm`: TensorFlow Addons' wrapper around the discriminators' convolutions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from storygan_tf.config import PhaseConfig
from storygan_tf.stories import training_dataset
from storygan_tf.storygan import StoryGAN

PHASE = PhaseConfig(image_batch=4, story_batch=4)


@pytest.fixture
def spectral(config) -> StoryGAN:
    gan = StoryGAN(dataclasses.replace(config, spectral_norm=True))
    gan.compile(PHASE, steps=10, run_eagerly=True)
    return gan


def wrappers(gan: StoryGAN) -> list:
    layers = [layer for network in gan.networks for layer in network._flatten_layers()]
    return [layer for layer in layers if type(layer).__name__ == "SpectralNormalization"]


def test_a_step_trains_and_every_wrapper_took_part(spectral, stories):
    before = [(layer.u.numpy(), layer.w.numpy()) for layer in wrappers(spectral)]
    assert len(before) == (4 + 1) + (4 + 1)
    history = spectral.fit(training_dataset(stories, PHASE, (1, 0), 0, 1), steps_per_epoch=1, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    for layer, (u, w) in zip(wrappers(spectral), before, strict=True):
        assert not np.array_equal(layer.u, u)
        assert not np.array_equal(layer.w, w)


def test_kernels_come_to_a_spectral_norm_of_one(spectral, stories):
    """The last forward pass of a step divides by an estimate of the norm; a few steps make the estimate good."""
    spectral.compile(dataclasses.replace(PHASE, discriminator_learning_rate=0.0), steps=10, run_eagerly=True)
    spectral.fit(training_dataset(stories, PHASE, (1, 0), 0, 6), steps_per_epoch=6, verbose=0)
    for layer in wrappers(spectral):
        matrix = layer.w.numpy().reshape(-1, layer.w.shape[-1])
        assert np.linalg.norm(matrix, ord=2) == pytest.approx(1.0, abs=0.05)


def test_a_generators_update_scales_the_discriminators_kernels_and_no_more(spectral, stories):
    """The wrapper keeps the normalised kernel in place of the kernel, in every training-mode pass."""
    still = dataclasses.replace(PHASE, discriminator_learning_rate=0.0)
    spectral.compile(still, steps=10, run_eagerly=True)
    before = [variable.numpy() for network in spectral.networks[1:] for variable in network.trainable_variables]
    spectral.fit(training_dataset(stories, still, (1, 0), 0, 1), steps_per_epoch=1, verbose=0)
    after = [variable.numpy() for network in spectral.networks[1:] for variable in network.trainable_variables]
    for then, now in zip(before, after, strict=True):
        scale = np.linalg.norm(now) / max(np.linalg.norm(then), 1e-12)
        np.testing.assert_allclose(now, then * scale, rtol=1e-4, atol=1e-6)
