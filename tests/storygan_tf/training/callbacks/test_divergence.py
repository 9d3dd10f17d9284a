"""Divergence: it is detected, the training goes back and, in the end, gives up."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.common.errors import TrainingError
from storygan_tf.config.schema import PhaseConfig
from storygan_tf.data.training_input import StreamSeeds, shuffled_indices
from storygan_tf.training.callbacks import divergence
from storygan_tf.training.callbacks.divergence import (
    certain_discriminators,
    judgement_count,
    mode_collapse,
    not_finite,
    picture_variety,
)
from storygan_tf.training.checkpoints import TrainingCheckpoints
from storygan_tf.training.training_state import TrainingState, read_history

# TensorFlow warns that the input pipeline is a graph nevertheless.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Even though the .tf.config.experimental_run_functions_eagerly:UserWarning"
)

PIXEL = PhaseConfig(name="short", schedule="pixel", epochs=2, story_batch=4, l1_weight=1.0)
JOINT = PhaseConfig(name="joint", schedule="joint", epochs=2, image_batch=4, story_batch=4)


def poison(training, step):
    """Sets the vectors of one story in an outer step of the first phase to NaN."""
    seeds = StreamSeeds.of([training.settings.training.seed, 0], "story")
    (story,) = shuffled_indices(tf.constant([4 * step], tf.int64), 24, seeds.order).numpy()
    training.stories.vectors[story] = np.nan


def test_an_absurd_learning_rate_is_halved_again_and_again_until_it_gives_up(training, tmp_path):
    training.phases(PIXEL)
    settings = ("training.phases.short.generator_learning_rate=1e30", "training.rollbacks=2")
    with pytest.raises(TrainingError) as raised:
        training.make(tmp_path, *settings).run()
    text = str(raised.value)
    assert text.startswith("training diverged at step 2 of epoch 1 of phase 'short': losses are not finite (")
    assert "2 times (training.rollbacks is 2), each time with half the learning rates: 2.5e+29 (generator)" in text
    assert "Lower training.phases.short.generator_learning_rate or" in text
    assert TrainingState.from_json(TrainingCheckpoints(tmp_path / "checkpoints").newest().state).epoch == 0


@pytest.mark.slow
def test_after_giving_up_a_training_with_other_learning_rates_continues(training, tmp_path):
    """Rollbacks at the old rates neither count for the new rates nor halve them."""
    training.phases(PIXEL)
    with pytest.raises(TrainingError):
        training.make(tmp_path, "training.phases.short.generator_learning_rate=1e30", "training.rollbacks=1").run()
    trainer = training.make(tmp_path, "training.phases.short.generator_learning_rate=1e-4", "training.rollbacks=0")
    trainer.run()
    assert [entry["learning_rates"]["generator"] for entry in read_history(tmp_path)] == [1e-4, 1e-4]
    assert float(trainer.gan.optimizers.generator.learning_rate) == pytest.approx(1e-4)


def test_a_poisoned_batch_is_skipped_at_half_the_learning_rates(training, tmp_path, caplog):
    training.phases(PIXEL)
    poison(training, step=3)
    trainer = training.make(tmp_path)
    with caplog.at_level(logging.WARNING):
        trainer.run()
    assert "training diverged at step 2 of epoch 2 of phase 'short': losses are not finite" in caplog.text
    assert "with learning rates of 0.0001 (generator) and 0.0001 (discriminators)" in caplog.text
    first, second = read_history(tmp_path)
    assert "rollbacks" not in first
    (rollback,) = second["rollbacks"]
    assert rollback["step"] == 2
    assert rollback["what"].startswith("losses are not finite (")
    assert [entry["learning_rates"]["generator"] for entry in (first, second)] == [2e-4, 1e-4]
    assert float(trainer.gan.optimizers.generator.learning_rate) == pytest.approx(1e-4)
    assert trainer.state.data_position(PIXEL, 2) == 2


@pytest.mark.slow
def test_a_training_killed_after_going_back_ends_as_the_undisturbed_one(training, tmp_path):
    training.phases(PhaseConfig(name="short", schedule="pixel", epochs=3, story_batch=4, l1_weight=1.0))
    poison(training, step=3)
    undisturbed = training.make(tmp_path / "whole")
    undisturbed.run()
    with pytest.raises(training.killed):
        training.make(tmp_path / "parts").run(training.stop_after(2))
    resumed = training.make(tmp_path / "parts")
    resumed.run()
    training.assert_same(undisturbed, resumed)


@pytest.mark.slow
def test_the_next_phase_has_its_own_learning_rates(training, tmp_path):
    training.phases(PIXEL, PhaseConfig(name="next", schedule="pixel", story_batch=4, l1_weight=1.0))
    poison(training, step=1)
    training.make(tmp_path, "training.phases.short.epochs=1").run()
    assert [entry["learning_rates"]["generator"] for entry in read_history(tmp_path)] == [1e-4, 2e-4]


@pytest.mark.slow
def test_what_has_diverged_is_not_saved_within_an_epoch(training, tmp_path):
    training.phases(PIXEL, steps_per_epoch=3)
    poison(training, step=0)
    with pytest.raises(TrainingError):
        training.make(tmp_path, "training.rollbacks=0", save_seconds=0).run()
    assert list((tmp_path / "checkpoints" / "within_epoch").iterdir()) == []


@pytest.mark.slow
def test_a_discriminator_that_is_always_right_is_named(training, tmp_path, monkeypatch):
    """White pictures are too easy to distinguish from those of a generator that is not updated."""
    monkeypatch.setattr(divergence, "MIN_JUDGEMENTS", 50)
    training.stories.images[:] = 255
    rates = {"generator_learning_rate": 0.0, "discriminator_learning_rate": 0.05}
    training.phases(PhaseConfig("easy", 12, image_batch=25, story_steps=0, **rates), rollbacks=0, steps_per_epoch=1)
    with pytest.raises(TrainingError, match=r"always right \(image_accuracy is 1\.0000 over 50 judgements") as raised:
        training.make(tmp_path).run()
    assert "training.phases.easy.discriminator_learning_rate" in str(raised.value)


@pytest.mark.slow
def test_a_generator_that_draws_the_same_picture_is_brought_back(training, tmp_path):
    training.stories.images[:] = 120 + training.stories.images % 3
    training.phases(JOINT)
    trainer = training.make(tmp_path)

    def break_it(done):
        if done == 1:
            for weight in trainer.gan.generator.image_generator.trainable_variables:
                weight.assign(0.0 * weight)

    trainer.run(break_it)
    first, second = read_history(tmp_path)
    assert first["variety"] > 0.25
    (rollback,) = second["rollbacks"]
    assert rollback["what"].startswith("diversity has collapsed: stories are drawn alike (variety is 0.000, was ")
    assert second["variety"] > 0.25


def test_finite_losses_have_not_diverged():
    assert not_finite({"l1": 0.0, "kl": -3.0}) is None
    assert not_finite({"l1": 0.5, "kl": float("inf"), "l2": float("nan")}).description == (
        "losses are not finite (kl is inf, l2 is nan)"
    )


def test_judgements_are_of_real_and_generated_pictures():
    both = {"image_batch": 5, "story_batch": 7}
    assert judgement_count(PhaseConfig(image_steps=2, **both), 10) == {"image_accuracy": 200, "story_accuracy": 140}
    assert judgement_count(PhaseConfig(schedule="joint", image_steps=2, **both), 10)["image_accuracy"] == 100
    assert judgement_count(PhaseConfig(image_weight=0.0, **both), 10) == {"image_accuracy": 0, "story_accuracy": 140}


@pytest.mark.parametrize(
    ("losses", "steps", "diverged"),
    [
        ({"image_accuracy": 0.99995, "story_accuracy": 0.6}, 100, True),
        ({"image_accuracy": 0.6, "story_accuracy": 1.0}, 100, True),
        ({"image_accuracy": 0.999, "story_accuracy": 0.999}, 100, False),
        ({"image_accuracy": 1.0, "story_accuracy": 1.0}, 20, False),
        ({"l1": 1.0}, 100, False),
    ],
)
def test_an_accuracy_of_1_over_enough_judgements_is_a_divergence(losses, steps, diverged):
    assert bool(certain_discriminators(losses, PhaseConfig(), steps)) is diverged


def history(*varieties):
    return [{"variety": value} for value in varieties]


def test_mode_collapse_needs_a_diverse_past_and_a_phase_with_discriminators():
    adversarial, pixel = PhaseConfig(), PIXEL
    assert mode_collapse(0.09, adversarial, history(0.05, 0.3, None))
    assert mode_collapse(0.11, adversarial, history(0.3)) is None
    assert mode_collapse(0.0, adversarial, history(0.05, 0.2)) is None
    assert mode_collapse(0.0, adversarial, []) is None
    assert mode_collapse(0.0, pixel, history(0.9)) is None
    assert mode_collapse(None, adversarial, history(0.9)) is None


def test_variety_is_the_difference_between_stories_relative_to_the_real_ones():
    true = np.zeros([3, 2, 4, 4, 3], np.uint8)
    true[1], true[2] = 100, 250
    drawn = np.zeros_like(true)
    assert picture_variety(drawn, true) == 0.0
    assert picture_variety(drawn + 7, true) == 0.0
    assert picture_variety(true, true) == 1.0
    drawn[2] = 50  # 0, 50 and 50 against 100, 150 and 250
    assert picture_variety(drawn, true) == pytest.approx(100 / 500)
    assert picture_variety(true[:1], true[:1]) is None
    assert picture_variety(true[:0], true[:0]) is None
    assert picture_variety(true, drawn * 0) is None
