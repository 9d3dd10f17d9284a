"""Stops a training at the next checkpoint when the process receives SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from storygan_tf.common.errors import TrainingError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingInterruptedError(TrainingError):
    """A signal stopped the training after it was saved; the same command continues it.

    Args:
        position: the last step or epoch that was completed, in words.
        signal: name of the signal that this process received; empty if another worker received it.

    Attributes:
        signal: see the arguments.
    """

    def __init__(self, position: str, signal: str = "") -> None:
        super().__init__(
            f"training was stopped by {signal or 'a signal to another worker'} after {position}. The same command "
            "goes on from the last checkpoint."
        )
        self.signal = signal


class StopOnSignal:
    """Context manager that records the first SIGTERM or SIGINT instead of ending the process.

    The previous handlers are restored after the first signal, so that a second one ends the process, and when the
    context ends. Python allows signal handlers in the main thread only: in other threads this has no effect.

    Attributes:
        signal: name of the signal that was received; empty before.
    """

    def __init__(self) -> None:
        self.signal = ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopOnSignal:
        """Installs the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._record) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restores the previous handlers."""
        self._restore()

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
