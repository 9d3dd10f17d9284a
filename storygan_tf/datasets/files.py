"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from storygan_tf.errors import DataError

ASIDE = ".part"
"""Ending of a file that is still being written."""


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file beside its place and renames it, so that nobody finds half of it; its folder is made.

    Raises:
        DataError: where the disk is full or not writable.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}{ASIDE}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        _forget(aside)


def unwritable(path: Path, error: OSError) -> DataError:
    """Returns the error that tells a user why a file could not be written."""
    return DataError(
        f"{path}: could not be written ({error.strerror or error}). Free some space, or give a place where you may "
        "write."
    )


def _forget(aside: Path) -> None:
    # What keeps a file from being written may keep it from being removed.
    try:
        aside.unlink(missing_ok=True)
    except OSError:
        return
