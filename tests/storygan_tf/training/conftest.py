"""Trainings of a few tiny steps, run eagerly: to build a graph takes longer than the steps."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from small_models import small_config

from storygan_tf.config.schema import PhaseConfig, Settings, StoryGANConfig, TrainConfig
from storygan_tf.data.stories import Stories
from storygan_tf.training.trainer import Trainer

MODEL = small_config(generator_width=8)
WARM_UP = PhaseConfig(name="warm_up", schedule="pixel", epochs=2, story_batch=4, l1_weight=1.0, average=0.9)
ADVERSARIAL = PhaseConfig(name="adversarial", schedule="joint", image_batch=4, story_batch=4, decay="linear")


@pytest.fixture(scope="session")
def config() -> StoryGANConfig:
    """Returns the configuration of a StoryGAN small enough for a test."""
    return MODEL


@pytest.fixture(scope="session")
def stories() -> Stories:
    """Returns eight stories of random frames and vectors, without labels."""
    return random_stories(8)


def random_stories(count: int) -> Stories:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, [count, 2, 64, 64, 3], dtype=np.uint8)
    vectors, labels = random.normal(size=[count, 2, 6]).astype(np.float32), np.zeros([count, 2, 0], np.uint8)
    return Stories([f"s{number:02d}" for number in range(count)], [["a", "b"]] * count, images, vectors, labels)


class KilledError(Exception):
    """Raised between two epochs in place of a kill."""


class Training:
    """Creates trainers on the same stories."""

    killed = KilledError
    settings = Settings(model=MODEL, training=TrainConfig(steps_per_epoch=2, phases=(WARM_UP, ADVERSARIAL)))

    def __init__(self) -> None:
        self.stories = random_stories(24)

    def phases(self, *phases, **values):
        """Sets other phases for the trainers that are created from now on."""
        training = TrainConfig(**{"steps_per_epoch": 2, "phases": phases, **values})
        self.settings = Settings(model=MODEL, training=training)

    def make(self, work_dir, *overrides, **options):
        settings = self.settings.override(overrides)
        return Trainer(settings, self.stories, self.stories.first(2), work_dir, **options)

    @staticmethod
    def stop_after(epochs):
        def on_epoch(done):
            if done == epochs:
                raise KilledError

        return on_epoch

    @staticmethod
    def everything(trainer):
        """Returns the values of all variables of the model and the optimizers."""
        slots = [variable for optimizer in trainer.gan.optimizers for variable in optimizer.variables]
        return [variable.numpy() for variable in (*trainer.gan.weights, *slots)]

    def assert_same(self, one, other):
        for expected, found in zip(self.everything(one), self.everything(other), strict=True):
            np.testing.assert_array_equal(found, expected)
        assert list(map(figures, one.state.history)) == list(map(figures, other.state.history))


def figures(entry):
    """Returns an entry of the history without the keys that depend on the speed of the machine."""
    return {name: entry[name] for name in entry if name not in ("seconds", "stories_per_second")}


@pytest.fixture
def eagerly():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def training(eagerly):
    return Training()
