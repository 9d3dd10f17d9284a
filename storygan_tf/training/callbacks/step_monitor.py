"""Counts and times the outer steps of an epoch, and stops a training whose losses are not finite."""

from __future__ import annotations

import time
from typing import Any

from storygan_tf.training.callbacks.base import SessionCallback
from storygan_tf.training.callbacks.divergence import DivergenceError, not_finite
from storygan_tf.training.session import TrainingSession

_STEPS_BETWEEN_CHECKS = 20
"""Steps between two checks that losses are finite. On a GPU each check waits for the steps that are being computed."""


class StepMonitor(SessionCallback):
    """Adds each outer step, and how long it took, to the state of the training, and checks the losses.

    The losses are checked after every 20 steps and after the last one of an epoch.
    """

    def __init__(self, session: TrainingSession) -> None:
        super().__init__(session)
        self._began = 0.0
        self._has_graph = False

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Notes when the step begins."""
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts the step.

        Raises:
            DivergenceError: if losses are checked and not finite.
        """
        state = self.session.state
        state.step += 1
        check = state.step % _STEPS_BETWEEN_CHECKS == 0 or state.step == self.session.steps
        diverged = not_finite(self.session.losses()) if check else None
        state.clock.add(time.perf_counter() - self._began, timed=self._has_graph)
        self._has_graph = True
        if diverged:
            raise DivergenceError(diverged)
