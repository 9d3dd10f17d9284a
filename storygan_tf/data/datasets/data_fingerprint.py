"""A fingerprint of a data folder, so that a pipeline notices any change to it.

Sets of the field are many gigabytes, and a run that goes on asks for the fingerprint again. What files were like may be
remembered from call to call: a file is read again where its size, its number on the disk or the times of its last
changes differ. The time that counts is set by the system alone (`ctime`), so no program can change a file behind it;
and a file that was changed so lately that a later change might have the same time is not remembered.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.errors import DataError

_BLOCK = 1 << 20

_SETTLED = 10 * 10**9
"""Nanoseconds after which a file's times tell it from what it is changed to: coarser than any clock of a disk."""


def data_fingerprint(path: str | Path, remembered: Path | None = None) -> str:
    """Returns a SHA-256 over the paths and contents of all files below a folder.

    One picture replaced, one line edited, one file added or renamed: each changes it. Times, owners and the place of
    the folder itself do not.

    Args:
        path: the folder.
        remembered: a file that keeps what the folder's files were like, made where it is not there; None to read all
            of them. The fingerprint is the same.

    Returns:
        64 hexadecimal digits.

    Raises:
        DataError: where the folder is missing or a file cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"data folder {folder}: found no such folder; expected a folder of stories.")
    memory = _Memory.load(remembered) if remembered else _Memory()
    digest = hashlib.sha256()
    for name, file in sorted((os.fsencode(file.relative_to(folder)), file) for file in _files(folder)):
        digest.update(b"%d %s\n" % (len(name), name))
        digest.update(memory.digest(file))
    if remembered and memory.changed:
        memory.save(remembered)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
        # A linked folder is not walked into, which might never end; where the link points to counts.
        yield from (Path(parent, name) for name in folders if Path(parent, name).is_symlink())


@dataclasses.dataclass
class _Memory:
    """Digests of files by what the system says of them.

    Attributes:
        known: what was loaded: the system's words about a file -> the digest of its content.
        seen: what is to be saved.
    """

    known: dict[str, str] = dataclasses.field(default_factory=dict)
    seen: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> _Memory:
        """Returns what a file keeps; what cannot be read is no memory."""
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(path.read_text())
            if isinstance(known, dict) and all(isinstance(digest, str) for digest in known.values()):
                return cls(known)
        return cls()

    @property
    def changed(self) -> bool:
        """Whether there is anything else to remember than before."""
        return self.seen != self.known

    def save(self, path: Path) -> None:
        """Writes what is to be remembered, if it can be written: it saves time and nothing else."""
        with contextlib.suppress(DataError):
            write_atomically(path, json.dumps(self.seen).encode())

    def digest(self, file: Path) -> bytes:
        """Returns the digest of a file's content, and of where it points to if it is a link."""
        key = _words_about(file)
        if key in self.known:
            self.seen[key] = self.known[key]
            return bytes.fromhex(self.known[key])
        digest = _content_digest(file)
        # It must not have changed while it was read.
        if key and _words_about(file) == key:
            self.seen[key] = digest.hex()
        return digest


def _words_about(file: Path) -> str:
    """Returns what changes with a file's content; empty where nothing certain can be said: a link, a recent change."""
    with contextlib.suppress(OSError):
        status = file.lstat()
        plain = file.is_file() and not file.is_symlink()
        if plain and time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) > _SETTLED:
            return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    return ""


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
