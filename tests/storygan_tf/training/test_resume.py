"""A training that was stopped and resumed ends as an uninterrupted one: to the bit, wherever it stopped."""

from __future__ import annotations

import os
import signal

import pytest

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.training.checkpoints import TrainingCheckpoints
from storygan_tf.training.trainer import TrainingInterruptedError
from storygan_tf.training.training_state import read_history

# TensorFlow warns that the input pipeline is a graph nevertheless.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Even though the .tf.config.experimental_run_functions_eagerly:UserWarning"
)

SHORT = PhaseConfig(name="short", schedule="pixel", story_batch=4, l1_weight=1.0)


@pytest.mark.slow
def test_a_training_stopped_after_every_epoch_ends_as_the_undisturbed_one(training, tmp_path):
    undisturbed = training.make(tmp_path / "whole")
    undisturbed.run()
    for epochs in (1, 2):
        with pytest.raises(training.killed):
            training.make(tmp_path / "parts").run(training.stop_after(epochs))
    resumed = training.make(tmp_path / "parts")
    resumed.run()
    training.assert_same(undisturbed, resumed)
    assert read_history(tmp_path / "parts") == resumed.state.history


@pytest.mark.slow
def test_a_phase_that_was_made_shorter_than_it_has_trained_ends_after_one_more_epoch(training, tmp_path):
    training.phases(SHORT, steps_per_epoch=1)
    with pytest.raises(training.killed):
        training.make(tmp_path, "training.phases.short.epochs=4").run(training.stop_after(2))
    training.make(tmp_path, "training.phases.short.epochs=1").run()
    assert [entry["epoch"] for entry in read_history(tmp_path)] == [1, 2, 3]


def test_a_signal_ends_the_step_and_saves(training, tmp_path):
    training.phases(SHORT, steps_per_epoch=2)
    undisturbed = training.make(tmp_path / "whole")
    undisturbed.run()
    # The signal comes before the first step is made.
    stopped = training.make(tmp_path / "parts", initial=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TrainingInterruptedError, match="SIGTERM after step 1 of epoch 1 of phase 'short'") as raised:
        stopped.run()
    assert raised.value.signal == "SIGTERM"
    assert TrainingCheckpoints(tmp_path / "parts" / "checkpoints").newest().state["step"] == 1
    resumed = training.make(tmp_path / "parts")
    resumed.run()
    training.assert_same(undisturbed, resumed)


@pytest.mark.slow
def test_a_signal_at_the_end_of_an_epoch_stops_the_training(training, tmp_path):
    training.phases(SHORT, steps_per_epoch=1)
    with pytest.raises(TrainingInterruptedError, match="after the last epoch"):
        training.make(tmp_path).run(lambda _: os.kill(os.getpid(), signal.SIGTERM))
    training.make(tmp_path).run(training.stop_after(1))


@pytest.mark.slow
def test_an_ended_training_is_not_repeated_but_a_lost_history_is_written_again(training, tmp_path):
    training.phases(SHORT)
    ended = training.make(tmp_path)
    ended.run()
    (tmp_path / "history.json").unlink()
    again = training.make(tmp_path)
    again.run(training.stop_after(1))
    training.assert_same(ended, again)
    assert read_history(tmp_path) == ended.state.history


def test_a_checkpoint_is_saved_within_an_epoch_when_the_last_is_too_old_and_removed_at_its_end(
    training, tmp_path, monkeypatch
):
    training.phases(SHORT, steps_per_epoch=3)
    saved = []
    save = TrainingCheckpoints.save

    def record(self, trackable, state, *, within=False):
        saved.append((state["step"], within))
        return save(self, trackable, state, within=within)

    monkeypatch.setattr(TrainingCheckpoints, "save", record)
    training.make(tmp_path, save_seconds=0).run()
    assert saved == [(0, False), (1, True), (2, True), (0, False)]
    assert list((tmp_path / "checkpoints" / "within_epoch").iterdir()) == []
