"""A checkpoint and what is read from it go on alike, bit for bit, with all options on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig, StoryGANConfig
from storygan_tf.data.stories import Stories
from storygan_tf.data.training_input import training_dataset
from storygan_tf.training.storygan import StoryGAN


def make(config: StoryGANConfig, phase: PhaseConfig) -> StoryGAN:
    gan = StoryGAN(dataclasses.replace(config, spectral_norm=True))
    gan.compile(phase, steps=4)
    return gan


def train(gan: StoryGAN, stories: Stories, start: int, steps: int) -> None:
    for data in training_dataset(stories, gan.phase, (1, 0), start, steps):
        gan.train_step(data)


def state(gan: StoryGAN) -> dict[str, np.ndarray]:
    """Returns all that is trained, moved or counted: weights, statistics, `u`, averages, moments, losses."""
    slots = {f"{name}/{slot.name}": slot for name, each in gan.optimizers._asdict().items() for slot in each.variables}
    return {name: variable.numpy() for name, variable in ({value.name: value for value in gan.weights} | slots).items()}


@pytest.mark.parametrize(
    "schedule", ["pixel", *(pytest.param(name, marks=pytest.mark.slow) for name in ("joint", "algorithm1"))]
)
def test_two_steps_a_checkpoint_and_two_more_are_four(labelling, labelled, every_option, schedule, tmp_path: Path):
    phase = PhaseConfig(schedule=schedule, image_batch=4, story_batch=4, decay="linear", **every_option)
    undisturbed = make(labelling, phase)
    train(undisturbed, labelled, 0, 2)
    tf.train.Checkpoint(trained=undisturbed).write(str(tmp_path / "after_two"))
    train(undisturbed, labelled, 2, 2)
    resumed = make(labelling, phase)
    tf.train.Checkpoint(trained=resumed).read(str(tmp_path / "after_two")).assert_consumed()
    train(resumed, labelled, 2, 2)
    expected, found = state(undisturbed), state(resumed)
    assert any("sn_u" in name for name in found)
    assert any("averaged/" in name for name in found)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_checkpoint_is_read_whether_or_not_the_phase_averages(config, stories, tmp_path: Path):
    phases = [PhaseConfig(schedule="pixel", story_batch=4, l1_weight=1.0, average=average) for average in (0.9, 0.0)]
    one, other = (make(config, phase) for phase in phases)
    train(one, stories, 0, 2)
    tf.train.Checkpoint(trained=one).write(str(tmp_path / "averaging"))
    tf.train.Checkpoint(trained=other).read(str(tmp_path / "averaging")).assert_consumed()
    expected, found = state(one), state(other)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert other.drawn_generator is other.generator
