"""The errors that a user of StoryGAN can mend.

Every error raised on purpose derives from `StoryGANError`. The command line prints its message as one paragraph and
exits with code 1. Any other exception is a fault of the program and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StoryGANError(Exception):
    """Base class of all errors whose message says what was found, what was expected and how to mend it."""


class ConfigError(StoryGANError, ValueError):
    """Raised if a setting is unknown, of the wrong type or out of range."""


class DataError(StoryGANError, ValueError):
    """Raised if story data cannot be used as it is."""


class ModelError(StoryGANError, ValueError):
    """Raised if a model cannot be found or loaded, or does not fit the task."""


class TrainingError(StoryGANError, RuntimeError):
    """Raised if a training cannot start, continue or be saved."""


def require(condition: bool, name: str, found: object, expected: str) -> None:
    """Checks a condition on a setting.

    Args:
        condition: whether the setting is valid.
        name: full name of the setting, such as `model.frames`.
        found: its value.
        expected: description of the valid values, such as `at least 1`.

    Raises:
        ConfigError: if `condition` is false; the message holds `name`, `found` and `expected`.
    """
    if not condition:
        raise ConfigError(f"{name}: found {found!r}, expected {expected}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ``; did you mean 'x'?`` with the known name closest to `name`, or an empty string if none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, at most 300 characters, or "no message" if it is empty."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"
