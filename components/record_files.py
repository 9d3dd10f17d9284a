"""Files that Beam workers write and read, through Beam's file systems.

A path is a local path or a URL of any file system that Beam supports (`docs/scale.md`). A file appears complete or not
at all: a worker that is killed, or repeats work, leaves no partial file under the final name.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.buckets import is_remote, store_file
from components.buckets import remove_folder as remove_from_bucket
from components.compat import set_default_file_system_options

_RAW = CompressionTypes.UNCOMPRESSED
"""Beam neither compresses nor decompresses files here; TensorFlow does."""

set_default_file_system_options()


def write_records(path: str, contents: Iterable[bytes], scratch: str) -> int:
    """Writes a gzipped TFRecord file, one record at a time, and returns the number of records.

    Writes no file if there are no records.

    Args:
        path: the file; its folder is created.
        contents: serialized tf.Examples.
        scratch: folder for the incomplete file, on the same file system as `path`; created if it is missing.
    """
    with _temporary_file(scratch) as file:
        count = 0
        with tf.io.TFRecordWriter(str(file), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for content in contents:
                writer.write(content)
                count += 1
        if count:
            _publish(file, path, scratch)
    return count


def write_file(path: str, content: bytes, scratch: str) -> None:
    """Writes one file.

    Args:
        path: the file; its folder is created.
        content: the whole content.
        scratch: folder for the incomplete file, on the same file system as `path`; created if it is missing.
    """
    write_files([(path, content)], scratch)


def write_files(contents: Iterable[tuple[str, bytes]], scratch: str) -> None:
    """Writes several files, each of which appears complete or not at all.

    Args:
        contents: pairs of a path and the file's whole content; the folders of the paths are created.
        scratch: folder for incomplete files, on the same file system as the paths; created if it is missing.
    """
    with _temporary_file(scratch) as file:
        for path, content in contents:
            file.write_bytes(content)
            _publish(file, path, scratch)


def write_lines(path: str, lines: Iterable[bytes], scratch: str) -> None:
    """Writes one file, a line at a time.

    Args:
        path: the file; its folder is created.
        lines: the lines, with their line ends.
        scratch: folder for the incomplete file, on the same file system as `path`; created if it is missing.
    """
    with _temporary_file(scratch) as file:
        with file.open("wb") as output:
            output.writelines(lines)
        _publish(file, path, scratch)


def read_records(path: str) -> Iterator[bytes]:
    """Yields the records of a gzipped TFRecord file, such as `write_records` writes."""
    with local_file(path) as local:
        yield from tf.data.TFRecordDataset(local, compression_type="GZIP").as_numpy_iterator()


@contextlib.contextmanager
def local_file(path: str) -> Iterator[str]:
    """Yields a local path to a file: `path` itself, or a temporary copy if the file is on another file system.

    The copy is removed when the context ends.
    """
    if not _has_scheme(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="storygan-") as folder:
        local = Path(folder, "copy")
        with FileSystems.open(path, compression_type=_RAW) as source, local.open("wb") as target:
            shutil.copyfileobj(source, target)
        yield str(local)


def list_files(pattern: str) -> list[str]:
    """Returns the sorted paths of the files that match a glob pattern."""
    return sorted(entry.path for match in FileSystems.match([pattern]) for entry in match.metadata_list)


def read_file(path: str) -> bytes:
    """Returns the content of a file."""
    with FileSystems.open(path, compression_type=_RAW) as file:
        return file.read()


def remove_folder(folder: str) -> None:
    """Removes a folder and everything in it, if it exists."""
    if is_remote(folder):
        remove_from_bucket(folder)
        return
    if FileSystems.exists(folder):
        FileSystems.delete([folder])


def _has_scheme(path: str) -> bool:
    """Returns whether a path is a URL of one of Beam's file systems, and not a local path."""
    return FileSystems.get_scheme(path) is not None


@contextlib.contextmanager
def _temporary_file(scratch: str) -> Iterator[Path]:
    """Yields the path of a local file to write, which is removed when the context ends.

    The file is in the folder `scratch` if that is a local one, so that it can be renamed to a final path there.
    """
    _make_folder(scratch)
    with tempfile.TemporaryDirectory(prefix="storygan-", dir=None if _has_scheme(scratch) else scratch) as folder:
        yield Path(folder, "spool")


def _publish(file: Path, path: str, scratch: str) -> None:
    """Moves or uploads a complete local file to its final path."""
    if is_remote(path):
        store_file(file, path)
        return
    complete = str(file)
    if _has_scheme(path):
        complete = FileSystems.join(scratch, uuid.uuid4().hex)
        with file.open("rb") as source, FileSystems.create(complete, compression_type=_RAW) as target:
            shutil.copyfileobj(source, target)
    _make_folder(FileSystems.split(path)[0])
    FileSystems.rename([complete], [path])


def _make_folder(folder: str) -> None:
    with contextlib.suppress(OSError):  # It exists, or another worker creates it at the same time.
        FileSystems.mkdirs(folder)
