"""A fingerprint of a data folder, so that a pipeline notices any change to it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from storygan_tf.errors import DataError

_BLOCK = 1 << 20


def data_fingerprint(path: str | Path) -> str:
    """Returns a SHA-256 over the paths and contents of all files below a folder.

    One picture replaced, one line edited, one file added or renamed: each changes it. Times, owners and the place of
    the folder itself do not.

    Args:
        path: the folder.

    Returns:
        64 hexadecimal digits.

    Raises:
        DataError: where the folder is missing or a file cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"data folder {folder}: found no such folder; expected a folder of stories.")
    digest = hashlib.sha256()
    for name, file in sorted((os.fsencode(file.relative_to(folder)), file) for file in _files(folder)):
        digest.update(b"%d %s\n" % (len(name), name))
        digest.update(_content_digest(file))
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
        # A linked folder is not walked into, which might never end; where the link points to counts.
        yield from (Path(parent, name) for name in folders if Path(parent, name).is_symlink())


def _content_digest(file: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        if file.is_symlink():
            digest.update(b"link " + os.fsencode(file.readlink()))
        if file.is_file():
            with file.open("rb") as content:
                while block := content.read(_BLOCK):
                    digest.update(block)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}).") from error
    return digest.digest()
