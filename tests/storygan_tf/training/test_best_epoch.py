"""The epoch whose weights a training ends with."""

from __future__ import annotations

import numpy as np
import pytest

from storygan_tf.common.errors import ConfigError
from storygan_tf.config.schema import PhaseConfig
from storygan_tf.training.best_epoch import best_epoch
from storygan_tf.training.training_state import read_history

# TensorFlow warns that the input pipeline is a graph nevertheless.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Even though the .tf.config.experimental_run_functions_eagerly:UserWarning"
)

PIXEL = PhaseConfig(name="pixel", schedule="pixel", epochs=3, story_batch=4, l1_weight=1.0)
KEEP = "training.keep_best=l1"


def test_the_best_epoch_is_of_the_phase_and_the_first_of_equal_ones():
    history = [
        {"phase": phase, "validation": {"ssim": value, "l1": value}}
        for phase, value in [("a", 0.1), ("b", 0.4), ("b", 0.7), ("b", 0.7), ("b", 0.4)]
    ]
    assert best_epoch(history, "b", "ssim") == 2
    assert best_epoch(history, "b", "l1") == 1
    assert best_epoch([{"phase": "b"}, *history], "b", "ssim") == 3
    assert best_epoch([{"phase": "b"}], "b", "ssim") is None


def test_without_validation_stories_it_is_refused(training, tmp_path):
    training.phases(PIXEL)
    with pytest.raises(ConfigError, match=r"training\.keep_best: found 'l1' without validation stories"):
        training.make(tmp_path, KEEP)


@pytest.fixture
def validated(training, monkeypatch):
    """Returns the trainings, of three epochs of a step, and a function that sets the values of their validations."""
    training.phases(PIXEL, steps_per_epoch=1)
    values: list[float] = []
    monkeypatch.setattr("storygan_tf.training.storygan.StoryGAN.evaluate", lambda *_, **__: {"l1": values.pop(0)})
    return training, values.extend


@pytest.mark.slow
def test_the_weights_of_the_best_epoch_are_kept_also_after_a_kill(validated, tmp_path):
    """The second of three epochs is the best one; a second training is killed after it, and resumed."""
    training, set_values = validated
    held_out = training.stories.first(4)
    weights = {}
    set_values([0.8, 0.3, 0.5])
    trainer = training.make(tmp_path / "a", KEEP, validation=held_out)
    trainer.run(lambda done: weights.update({done: [weight.numpy() for weight in trainer.gan.weights]}))
    for found, expected in zip(trainer.gan.weights, weights[2], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert any(np.abs(a - b).max() for a, b in zip(weights[2], weights[3], strict=True))
    assert [entry.get("kept", False) for entry in read_history(tmp_path / "a")] == [False, True, False]
    again = training.make(tmp_path / "a", KEEP, validation=held_out)
    again.run()
    training.assert_same(trainer, again)

    set_values([0.8, 0.3])
    with pytest.raises(training.killed):
        training.make(tmp_path / "b", KEEP, validation=held_out).run(training.stop_after(2))
    set_values([0.5])
    resumed = training.make(tmp_path / "b", KEEP, validation=held_out)
    resumed.run()
    training.assert_same(trainer, resumed)


def test_without_its_checkpoint_the_last_weights_are_kept(validated, tmp_path, caplog):
    training, set_values = validated

    def damage(done):
        if done == 2:
            (state,) = (tmp_path / "checkpoints" / "best").glob("*/state.json")
            state.write_text("{")

    set_values([0.1, 0.2, 0.3])
    training.make(tmp_path, KEEP, validation=training.stories.first(4)).run(damage)
    assert "the checkpoint of the best epoch is missing" in caplog.text
    assert not any("kept" in entry for entry in read_history(tmp_path))
