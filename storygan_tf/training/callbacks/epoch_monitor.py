"""Ends an epoch: draws storyboards, detects divergence, and records the epoch."""

from __future__ import annotations

from typing import Any

from storygan_tf.data.stories import Stories
from storygan_tf.training.callbacks import divergence
from storygan_tf.training.callbacks.base import SessionCallback
from storygan_tf.training.callbacks.divergence import DivergenceError
from storygan_tf.training.callbacks.training_log import TrainingLog, draw_stories
from storygan_tf.training.session import TrainingSession
from storygan_tf.training.training_state import make_entry


class EpochMonitor(SessionCallback):
    """Adds each epoch to the history and to TensorBoard, unless the training has diverged in it.

    Args:
        session: the training.
        boards: stories that are drawn after each epoch; may be empty.
        log: the files that epochs are recorded in.
    """

    def __init__(self, session: TrainingSession, boards: Stories, log: TrainingLog) -> None:
        super().__init__(session)
        self._boards = boards
        self._log = log

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Records the epoch and moves the state on to the next one.

        Raises:
            DivergenceError: if the training has diverged. The epoch is not recorded.
        """
        session = self.session
        state, phase, steps = session.state, session.phase, session.steps
        losses = {name: float(logs[name]) for name in session.gan.trackers}
        measured = session.gan.validation_trackers
        validation = {name: float(logs[f"val_{name}"]) for name in measured if f"val_{name}" in logs}
        boards = self._boards
        drawn = draw_stories(session.gan, boards.vectors) if boards.ids else boards.images
        variety = divergence.picture_variety(drawn, boards.images)
        entry = make_entry(state, phase, steps, losses, validation=validation, variety=variety)
        diverged = (
            divergence.session_not_finite(session)
            or divergence.certain_discriminators(losses, phase, steps)
            or divergence.mode_collapse(variety, phase, state.history)
        )
        if diverged:
            raise DivergenceError(diverged)
        self._log.write_epoch(len(state.history) + 1, entry, drawn)
        state.end_epoch(entry)
