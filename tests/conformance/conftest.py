"""A StoryGAN small enough for a test, and stories for it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import small_config, square_stories

from storygan_tf.config.schema import StoryGANConfig
from storygan_tf.data.stories import Stories
from storygan_tf.training.storygan import StoryGAN

# LLVM's optimisation of XLA's code for the CPU takes ten times as long as the rest of a compilation, and does not
# change XLA's own passes. XLA reads the variable when it compiles for the first time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

OPTIONS = {
    "kl_weight": 0.5,
    "l1_weight": 2.0,
    "l2_weight": 1.0,
    "mismatched": True,
    "label_weight": 1.0,
    "generator_label_weight": 0.4,
    "feature_matching_weight": 5.0,
    "average": 0.99,
}
"""Every option of a phase that the paper does not have."""

TINY = small_config(context_size=32, discriminator_width=4)


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(7)


@pytest.fixture(scope="session")
def config() -> StoryGANConfig:
    return TINY


@pytest.fixture(scope="session")
def every_option() -> dict[str, Any]:
    return OPTIONS


@pytest.fixture(scope="session")
def labelling(config) -> StoryGANConfig:
    return dataclasses.replace(config, labels=3)


@pytest.fixture(scope="session")
def labelled(stories) -> Stories:
    """Returns the same stories with three labels a frame: the signs of the first three components of its vector."""
    return dataclasses.replace(stories, labels=(stories.vectors[..., :3] > 0).astype(np.uint8))


@pytest.fixture(scope="module")
def shared_gan() -> Callable[[StoryGANConfig], StoryGAN]:
    """Returns a function that gives a StoryGAN of a configuration with its initial weights.

    The model is built once a module, because that takes longer than most tests. Each call sets its weights back;
    `compile` starts everything else anew.
    """
    built: dict[StoryGANConfig, tuple[StoryGAN, list[tuple[tf.Variable, np.ndarray]]]] = {}

    def get(config: StoryGANConfig) -> StoryGAN:
        if config not in built:
            keras.utils.set_random_seed(7)
            gan = StoryGAN(config)
            built[config] = gan, [(variable, variable.numpy()) for variable in gan.variables]
        gan, values = built[config]
        for variable, value in values:
            variable.assign(value)
        return gan

    return get


@pytest.fixture
def gan(shared_gan, config) -> StoryGAN:
    return shared_gan(config)


@pytest.fixture(scope="session")
def stories(config) -> Stories:
    return square_stories(config, 24, seed=3)
