"""SIGTERM and SIGINT as a wish to stop that is granted at the next good moment."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from storygan_tf.common.errors import TrainingError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingInterruptedError(TrainingError):
    """A training was asked to stop, and stopped where it can go on.

    Attributes:
        signal: name of the signal that this process got; empty where another worker did.
    """

    def __init__(self, where: str, signal: str = "") -> None:
        super().__init__(
            f"training was stopped by {signal or 'a signal to another worker'} after {where}. The same command goes on "
            "from the last checkpoint."
        )
        self.signal = signal


class StopOnSignal:
    """Takes note of SIGTERM and SIGINT while it is open; the second one works as if this was not there.

    Python lets the main thread alone handle signals: elsewhere nothing is changed.

    Attributes:
        signal: name of the signal that came, empty before.
    """

    def __init__(self) -> None:
        self.signal = ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopOnSignal:
        """Begins to listen."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets signals do what they did before."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
