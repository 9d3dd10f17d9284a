"""Writes the logs of TFX and Beam to a file while a command runs, so that the terminal shows only its own output."""

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
    """A log file that ignores write errors: when the disk is full, the step that writes data fails and reports it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so.
        """Ignores the error."""


@contextlib.contextmanager
def log_to_file(path: Path, *handlers: logging.Handler) -> Iterator[None]:
    """Sends all log records to a file and to `handlers` within the context, and hides the command line from TFX.

    Args:
        path: file to append to.
        *handlers: further handlers, which replace those of the root logger.
    """
    root, verbosity = logging.getLogger(), absl_logging.get_verbosity()
    hook = threading.excepthook
    before = list(root.handlers)
    file = _LogFile(path)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.handlers = [file, *handlers]
    # At the end of a job, threads of Beam lose the connection that they wait on.
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
    """Appends to a file what this process and the processes that it starts write to standard error.

    Worker processes of Beam write errors while they end, in no particular order. The traceback of a crash of this
    process still goes to the original standard error.

    Args:
        path: file to append to.
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
    """Logs the exception that ended a thread, instead of printing it."""
    logging.getLogger(__name__).warning("thread %s ended: %r", raised.thread and raised.thread.name, raised.exc_value)
