"""Files and folders that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from storygan_tf.common.errors import DataError

PARTIAL_SUFFIX = ".part"
"""Ending of a file that is still being written."""


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file beside its place and renames it, so that nobody finds half of it; its folder is made.

    Raises:
        DataError: where the disk is full or not writable.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        raise unwritable_error(path, error) from error
    finally:
        _forget(aside)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives a place beside `path` to make a folder in, which then takes its place; after an error nothing is left.

    Args:
        path: the folder, replaced where it exists; its parents are made.

    Yields:
        Where to make it; not there yet.
    """
    aside = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        yield aside
        shutil.rmtree(path, ignore_errors=True)
        aside.replace(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def unwritable_error(path: Path, error: OSError) -> DataError:
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
