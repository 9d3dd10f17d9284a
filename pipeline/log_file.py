"""Where TFX's and Beam's logs go while a command works, so that the terminal stays for what the user asked for."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from absl import logging as absl_logging


class _LogFile(logging.FileHandler):
    """A log file that says nothing where it cannot be written: a full disk is told by the step that meets it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so.
        """Does nothing."""


@contextlib.contextmanager
def logged(path: Path, *handlers: logging.Handler) -> Iterator[None]:
    """Sends all logs to a file, and to `handlers`; hides the command line from TFX, which parses it."""
    root, arguments, verbosity = logging.getLogger(), sys.argv, absl_logging.get_verbosity()
    hook = threading.excepthook
    before = list(root.handlers)
    file = _LogFile(path)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.handlers = [file, *handlers]
    sys.argv = sys.argv[:1]
    # Where a job ends, Beam's threads lose the connection that they wait on.
    threading.excepthook = _log_exception
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        yield
    finally:
        root.handlers, sys.argv = before, arguments
        threading.excepthook = hook
        absl_logging.set_verbosity(verbosity)
        file.close()


def _log_exception(raised: threading.ExceptHookArgs) -> None:
    """Logs what ended a thread, instead of printing it."""
    logging.getLogger(__name__).warning("thread %s ended: %r", raised.thread and raised.thread.name, raised.exc_value)
