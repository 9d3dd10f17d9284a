"""Saves checkpoints within an epoch, and ends a training after a signal."""

from __future__ import annotations

import time
from typing import Any

from storygan_tf.training.callbacks.base import SessionCallback
from storygan_tf.training.callbacks.divergence import session_not_finite
from storygan_tf.training.callbacks.interruption import StopOnSignal, TrainingInterruptedError
from storygan_tf.training.distribution import any_worker
from storygan_tf.training.session import TrainingSession


class Checkpointing(SessionCallback):
    """Saves within an epoch if the last checkpoint is too old or a signal was received; not if it has diverged.

    All workers run it at the same point: they save if any of them must.

    Args:
        session: the training.
        stop: records the signals that this process receives.
        seconds: age of the last checkpoint, in seconds, at which another one is saved.
    """

    def __init__(self, session: TrainingSession, stop: StopOnSignal, seconds: float) -> None:
        super().__init__(session)
        self._stop = stop
        self._seconds = seconds

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Saves after a step, except after the last one of an epoch.

        Raises:
            TrainingInterruptedError: if any worker received a signal.
            TrainingError: if the disk is full or not writable.
        """
        session = self.session
        if session.state.step == session.steps:
            return
        overdue = time.monotonic() - session.saved_at > self._seconds
        stopping, overdue = any_worker(session.strategy, [bool(self._stop.signal), overdue])
        if (stopping or overdue) and not session_not_finite(session):
            session.save(within=True)
        if stopping:
            raise interrupted(session, self._stop)


def interrupted(session: TrainingSession, stop: StopOnSignal) -> TrainingInterruptedError:
    """Returns the error that ends a training after a signal."""
    position = "the last epoch" if session.ended else session.state.describe_position(session.phase)
    return TrainingInterruptedError(position, stop.signal)
