"""The errors that a user of StoryGAN can mend.

Every error raised on purpose derives from `StoryGANError`, so that the command line can tell a user's mistake (one
readable paragraph, exit code 1) from a fault of the program (a traceback).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StoryGANError(Exception):
    """Base of all errors whose message says what was found, what was expected and how to mend it."""


class ConfigError(StoryGANError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(StoryGANError, ValueError):
    """Story data cannot be used as it is."""


class ModelError(StoryGANError, ValueError):
    """A model cannot be found, loaded or used for what was asked."""


class TrainingError(StoryGANError, RuntimeError):
    """A training cannot start, go on or be saved."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ``; did you mean 'x'?`` for the known name closest to `name`, else an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
