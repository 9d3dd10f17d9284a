"""Where TFX's and Beam's logs go while a command works, so that the terminal stays for what the user asked for."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from absl import logging as absl_logging

from pipeline.compat import hidden_command_line

STANDARD_ERROR = 2


class _LogFile(logging.FileHandler):
    """A log file that says nothing where it cannot be written: a full disk is told by the step that meets it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so.
        """Does nothing."""


@contextlib.contextmanager
def log_to_file(path: Path, *handlers: logging.Handler) -> Iterator[None]:
    """Sends all logs to a file, and to `handlers`; hides the command line from TFX, which parses it."""
    root, verbosity = logging.getLogger(), absl_logging.get_verbosity()
    hook = threading.excepthook
    before = list(root.handlers)
    file = _LogFile(path)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.handlers = [file, *handlers]
    # Where a job ends, Beam's threads lose the connection that they wait on.
    threading.excepthook = _log_exception
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        with hidden_command_line():
            yield
    finally:
        root.handlers = before
        threading.excepthook = hook
        absl_logging.set_verbosity(verbosity)
        file.close()


@contextlib.contextmanager
def stderr_to_file(path: Path) -> Iterator[None]:
    """Sends to a log file what this process and those that it starts write to standard error.

    Worker processes complain there while they end, in an order that nobody chose. A crash of this process is still told
    where standard error was.
    """
    sys.stderr.flush()
    with os.fdopen(os.dup(STANDARD_ERROR), "wb") as kept, path.open("ab") as file:
        handles_crashes = not faulthandler.is_enabled()
        if handles_crashes:
            faulthandler.enable(kept)
        os.dup2(file.fileno(), STANDARD_ERROR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept.fileno(), STANDARD_ERROR)
            if handles_crashes:
                faulthandler.disable()


def _log_exception(raised: threading.ExceptHookArgs) -> None:
    """Logs what ended a thread, instead of printing it."""
    logging.getLogger(__name__).warning("thread %s ended: %r", raised.thread and raised.thread.name, raised.exc_value)
