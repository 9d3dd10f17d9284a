"""`data_fingerprint`: a digest of a data folder, by which a pipeline detects any change to the data.

Published data sets have many gigabytes, and a pipeline computes the fingerprint again whenever it runs. Therefore the
digests of files can be cached from one call to the next. A file is read again if its device, inode, size, `mtime` or
`ctime` has changed. Programs can set `mtime` to any value, but only the system sets `ctime`, so a change cannot be
hidden. A file that was changed only seconds ago is not cached, because a later change might have the same times.
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
"""Bytes read at a time."""

_SETTLED_NS = 10 * 10**9
"""Age in nanoseconds from which a file is cached: more than the resolution of any file system's times."""


def data_fingerprint(path: str | Path, cache_file: Path | None = None) -> str:
    """Returns a SHA-256 digest of the paths and contents of all files below a folder.

    The fingerprint changes if a file is added, removed, renamed or edited. It does not depend on times, owners and the
    location of the folder.

    Args:
        path: the folder.
        cache_file: file that caches the digests of the folder's files; written if it does not exist. None to read all
            files. The fingerprint is the same with and without it.

    Returns:
        64 hexadecimal digits.

    Raises:
        DataError: if the folder does not exist or a file cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"data folder {folder}: found no such folder; expected a folder of stories.")
    cache = _DigestCache.load(cache_file) if cache_file else _DigestCache()
    digest = hashlib.sha256()
    for name, file in sorted((os.fsencode(file.relative_to(folder)), file) for file in _files(folder)):
        digest.update(b"%d %s\n" % (len(name), name))
        digest.update(cache.digest(file))
    if cache_file and cache.changed:
        cache.save(cache_file)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Yields all files below a folder, and all links to folders."""
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
        # The digest of a linked folder is that of the link's target path: following it might never end.
        yield from (Path(parent, name) for name in folders if Path(parent, name).is_symlink())


@dataclasses.dataclass
class _DigestCache:
    """Digests of files' contents, by the files' status (`_status_key`).

    Attributes:
        loaded: the digests loaded from the cache file.
        used: the digests of the files of this call, which are saved.
    """

    loaded: dict[str, str] = dataclasses.field(default_factory=dict)
    used: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> _DigestCache:
        """Returns the cache that a file holds; an empty one if it cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            loaded = json.loads(path.read_text())
            if isinstance(loaded, dict) and all(isinstance(digest, str) for digest in loaded.values()):
                return cls(loaded)
        return cls()

    @property
    def changed(self) -> bool:
        """Whether the cache differs from the loaded one."""
        return self.used != self.loaded

    def save(self, path: Path) -> None:
        """Writes the cache; does nothing if the file cannot be written, because the cache only saves time."""
        with contextlib.suppress(DataError):
            write_atomically(path, json.dumps(self.used).encode())

    def digest(self, file: Path) -> bytes:
        """Returns the digest of a file, from the cache if its status has not changed."""
        key = _status_key(file)
        if key in self.loaded:
            self.used[key] = self.loaded[key]
            return bytes.fromhex(self.loaded[key])
        digest = _content_digest(file)
        # Not cached if the file changed while it was read.
        if key and _status_key(file) == key:
            self.used[key] = digest.hex()
        return digest


def _status_key(file: Path) -> str:
    """Returns a text that changes whenever the file's content does; empty if the file must not be cached.

    Links and files that were changed only seconds ago are not cached.
    """
    with contextlib.suppress(OSError):
        status = file.lstat()
        plain = file.is_file() and not file.is_symlink()
        if plain and time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) > _SETTLED_NS:
            return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    return ""


def _content_digest(file: Path) -> bytes:
    """Returns a digest of a file's content, and of the target path if it is a link."""
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
