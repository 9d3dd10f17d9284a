"""Training by phases: resume, divergence, strategies."""

from __future__ import annotations

import json

import numpy as np
import pytest

from storygan_tf import presets
from storygan_tf.config import PhaseConfig, TrainConfig
from storygan_tf.errors import TrainingError
from storygan_tf.stories import Stories
from storygan_tf.training import Trainer, draw_stories, make_strategy, read_history, steps_per_epoch

STORIES = 6


@pytest.fixture(scope="module")
def stories():
    random = np.random.default_rng(0)
    return Stories(
        ids=[f"s{number}" for number in range(STORIES)],
        sentences=[[f"Sentence {frame} of {number}." for frame in range(4)] for number in range(STORIES)],
        images=random.integers(0, 255, (STORIES, 4, 64, 64, 3), dtype=np.uint8),
        vectors=random.normal(size=(STORIES, 4, 8)).astype(np.float32),
        labels=np.zeros((STORIES, 4, 0), np.uint8),
    )


@pytest.fixture(scope="module")
def settings():
    return presets.load("quick").override(
        [
            "model.sentence_size=8",
            "model.noise_size=2",
            "model.generator_width=8",
            "model.discriminator_width=2",
            "training.steps_per_epoch=2",
            "training.storyboard_stories=2",
            "training.phases.warm_up.epochs=2",
            "training.phases.warm_up.story_batch=4",
            "training.phases.adversarial.epochs=2",
            "training.phases.adversarial.story_batch=4",
            "training.phases.adversarial.image_batch=4",
        ]
    )


@pytest.fixture
def make_trainer(settings, stories):
    def make(work_dir, *overrides):
        return Trainer(settings.override(overrides), stories, stories.first(2), work_dir)

    return make


class KilledError(Exception):
    pass


def stop_after(epochs):
    def on_epoch(done):
        if done == epochs:
            raise KilledError

    return on_epoch


def weights(gan):
    return [value.numpy() for value in gan.weights]


def test_a_training_stopped_after_every_epoch_ends_with_the_weights_of_the_undisturbed_one(make_trainer, tmp_path):
    undisturbed = weights(make_trainer(tmp_path / "whole").run())
    for epochs in (1, 2, 3):
        with pytest.raises(KilledError):
            make_trainer(tmp_path / "parts").run(stop_after(epochs))
    resumed = make_trainer(tmp_path / "parts").run()
    for expected, found in zip(undisturbed, weights(resumed), strict=True):
        np.testing.assert_array_equal(found, expected)
    history = read_history(tmp_path / "parts")
    assert [(entry["phase"], entry["epoch"]) for entry in history] == [
        ("warm_up", 1),
        ("warm_up", 2),
        ("adversarial", 1),
        ("adversarial", 2),
    ]


def test_a_training_that_has_ended_is_not_repeated(make_trainer, tmp_path):
    ended = weights(make_trainer(tmp_path).run())
    again = weights(make_trainer(tmp_path).run(stop_after(1)))
    np.testing.assert_array_equal(again[0], ended[0])


def test_the_seed_decides(make_trainer, tmp_path):
    one = weights(make_trainer(tmp_path / "one", "training.phases.adversarial.epochs=1").run())
    other = weights(make_trainer(tmp_path / "two", "training.phases.adversarial.epochs=1", "training.seed=2").run())
    assert np.abs(one[0] - other[0]).max() > 1e-3


def test_infinite_losses_end_the_training_with_advice(make_trainer, tmp_path):
    with pytest.raises(TrainingError, match=r"epoch 1 of phase 'warm_up'.*generator_learning_rate"):
        make_trainer(tmp_path, "training.phases.warm_up.generator_learning_rate=1e30").run()


def test_a_checkpoint_of_another_model_is_named(make_trainer, tmp_path):
    with pytest.raises(KilledError):
        make_trainer(tmp_path).run(stop_after(1))
    with pytest.raises(TrainingError, match="of another model"):
        make_trainer(tmp_path, "model.generator_width=16").run()


def test_tensorboard_has_losses_and_a_storyboard_of_each_epoch(make_trainer, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_trainer(tmp_path).run()
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"warm_up/l1", "adversarial/image_discriminator", "adversarial/kl", "storyboard"} <= set(tags)
    assert [event.step for event in events.Tensors("storyboard")] == [1, 2, 3, 4]


def test_history_is_json_of_finite_losses(make_trainer, tmp_path):
    make_trainer(tmp_path, "training.phases.adversarial.epochs=1").run()
    history = json.loads((tmp_path / "history.json").read_text())
    assert all(np.isfinite(list(entry["losses"].values())).all() for entry in history)
    assert [entry["step"] for entry in history] == [2, 4, 2]


def test_drawn_stories_are_pictures(make_trainer, stories, tmp_path):
    drawn = draw_stories(make_trainer(tmp_path).gan, stories.vectors[:2])
    assert drawn.shape == (2, 4, 64, 64, 3)
    assert drawn.dtype == np.uint8


def test_steps_of_an_epoch_are_as_configured_or_one_pass():
    phase = PhaseConfig(story_batch=24)
    assert steps_per_epoch(TrainConfig(), phase, 100) == 5
    assert steps_per_epoch(TrainConfig(), phase, 3) == 1
    assert steps_per_epoch(TrainConfig(steps_per_epoch=7), phase, 100) == 7


def test_without_gpus_one_device_is_used():
    assert make_strategy("auto").num_replicas_in_sync == 1
    assert make_strategy("one-device").num_replicas_in_sync == 1
