"""A training that was stopped goes on as if nothing had happened: to the bit, wherever it stopped."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.training.callbacks.interruption import StopOnSignal
from storygan_tf.training.checkpoints import TrainingCheckpoints
from storygan_tf.training.trainer import TrainingInterruptedError
from storygan_tf.training.training_state import Clock, Rollback, TrainingState, read_history

# The input pipeline is a graph nevertheless.
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


def test_a_signal_ends_the_step_and_saves(training, tmp_path):
    training.phases(SHORT, steps_per_epoch=2)
    undisturbed = training.make(tmp_path / "whole")
    undisturbed.run()
    # The signal comes before the first step is made.
    stopped = training.make(tmp_path / "parts", initial=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TrainingInterruptedError, match="SIGTERM after step 1 of epoch 1 of phase 'short'") as told:
        stopped.run()
    assert told.value.signal == "SIGTERM"
    assert TrainingCheckpoints(tmp_path / "parts" / "checkpoints").newest().state["step"] == 1
    resumed = training.make(tmp_path / "parts")
    resumed.run()
    training.assert_same(undisturbed, resumed)


@pytest.mark.slow
def test_a_signal_at_the_end_of_an_epoch_is_heard(training, tmp_path):
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


def test_time_saves_within_an_epoch_and_the_epochs_end_makes_it_needless(training, tmp_path, monkeypatch):
    training.phases(SHORT, steps_per_epoch=3)
    saved = []
    save = TrainingCheckpoints.save

    def note(self, trackable, state, *, within=False):
        saved.append((state["step"], within))
        return save(self, trackable, state, within=within)

    monkeypatch.setattr(TrainingCheckpoints, "save", note)
    training.make(tmp_path, save_seconds=0).run()
    assert saved == [(0, False), (1, True), (2, True), (0, False)]
    assert list((tmp_path / "checkpoints" / "within_epoch").iterdir()) == []


def test_signals_are_handled_while_it_is_open_and_as_before_afterwards():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopOnSignal() as stop:
        assert stop.signal == ""
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_other_threads_do_not_listen():
    def listen():
        with StopOnSignal():
            handlers.append(signal.getsignal(signal.SIGTERM))

    handlers = []
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


def test_a_state_survives_json():
    rollback = Rollback("short", 2, 3, "losses are not finite", 3, (0.1, 0.2))
    state = TrainingState(1, 2, 3, Clock(1.5, 2, 1.25, 0.5), [{"losses": {"l1": 0.5}}], [rollback])
    assert TrainingState.from_json(state.to_json()) == state


def test_a_clock_gives_stories_a_second_and_the_share_of_waiting():
    clock = Clock()
    clock.add(100.0, 0.0, timed=False)
    assert clock.speed(8) == {}
    clock.add(2.0, 0.5, timed=True)
    clock.add(2.0, 0.3, timed=True)
    assert clock.seconds == 104.0
    assert clock.speed(8) == {"stories_per_second": 4.0, "data_wait": 0.2}
