"""Writes files and folders atomically: a reader finds either the complete content or none."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from storygan_tf.common.errors import DataError

PARTIAL_SUFFIX = ".part"
"""Suffix of the name of a file that is still being written."""


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name in the same folder and renames it, so that no reader finds a part of it.

    Args:
        path: the file, which is replaced if it exists. Its folder is created if needed.
        content: the bytes to write.

    Raises:
        DataError: if the disk is full or not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise unwritable_error(path, error) from error
    finally:
        # What keeps a file from being written may also keep it from being removed.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Provides a temporary path for a folder, and renames that folder to `path` at the end of the `with` block.

    If the block raises an error, the temporary folder is removed and `path` stays as it was.

    Args:
        path: the folder, which is replaced if it exists. Its parents are created if needed.

    Yields:
        The temporary path, which does not exist yet. The block has to create a folder there.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def unwritable_error(path: Path, error: OSError) -> DataError:
    """Returns the error to raise if `path` could not be written because of `error`."""
    return DataError(
        f"{path}: could not be written ({error.strerror or error}). Free some space, or choose a folder that you may "
        "write to."
    )
