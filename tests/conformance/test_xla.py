"""A training step of each schedule, and pictures, under `jit_compile=True`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig, StoryGANConfig
from storygan_tf.data.stories import Stories
from storygan_tf.data.training_input import training_dataset
from storygan_tf.training.storygan import StoryGAN

SIZES = {"image_batch": 4, "story_batch": 4}


def test_one_step_under_xla_is_the_eager_one(config, stories):
    """Losses to 1e-3 relative: between its updates Adam's first steps are signs, which enlarge rounding errors."""
    compare(config, stories, PhaseConfig(schedule="pixel", story_batch=4, l1_weight=1.0, decay="linear"))


@pytest.mark.slow
def test_one_step_of_algorithm_1_under_xla_is_the_eager_one(config, stories):
    compare(config, stories, PhaseConfig(**SIZES))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["pixel", "algorithm1", "joint"])
def test_with_all_options_too(labelling, labelled, every_option, schedule):
    """Includes spectral normalisation and the moving average. Losses may differ by 5e-3 after more updates."""
    config = dataclasses.replace(labelling, spectral_norm=True)
    compare(config, labelled, PhaseConfig(schedule=schedule, generator_steps=2, **SIZES, **every_option), rel=5e-3)


def compare(config: StoryGANConfig, stories: Stories, phase: PhaseConfig, rel: float = 1e-3) -> None:
    eager, gan = StoryGAN(config), StoryGAN(config)
    eager.set_weights(gan.get_weights())
    found = []
    for model, how in ((eager, {"run_eagerly": True}), (gan, {"jit_compile": True})):
        model.compile(phase, steps=10, **how)
        data = training_dataset(stories, phase, (1, 0), 0, 1)
        history = model.fit(data, steps_per_epoch=1, verbose=0).history
        found.append({name: values[0] for name, values in history.items()})
    assert gan.jit_compile
    assert found[1] == pytest.approx(found[0], rel=rel)
    for network in ("generator", "averaged"):
        for one, other in zip(*(getattr(each, network).weights for each in (eager, gan)), strict=True):
            if "moving_" not in one.name:
                # Two updates, of little more than one learning rate each, in opposite directions at the worst.
                np.testing.assert_allclose(other, one, atol=5 * phase.generator_learning_rate)


def test_pictures_under_xla_are_the_eager_ones(config, gan):
    """Allows a difference of 1e-4, far below a grey level (1 / 127.5)."""
    vectors = tf.random.normal([5, config.frames, config.sentence_size])
    seed = tf.constant([3, -1, 2**62, 0, 77], tf.int64)

    def draw(vectors: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return gan.generator(vectors, training=False, seed=seed).images

    compiled = tf.function(draw, jit_compile=True)(vectors, seed)
    np.testing.assert_allclose(compiled, draw(vectors, seed), atol=1e-4)
