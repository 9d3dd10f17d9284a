"""Files that Beam's workers write and read, through Beam's file systems.

A path is a local one or a URL of any file system that Beam knows (`docs/scale.md`). What is written appears whole or
not at all: a worker that is killed, or does the same work twice, leaves nothing that anybody takes for stories.
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
from apache_beam.options.pipeline_options import PipelineOptions

from components.buckets import is_remote, store_file
from components.buckets import remove_folder as remove_from_bucket

_RAW = CompressionTypes.UNCOMPRESSED
"""Files pass through as they are: TensorFlow compresses and reads them."""

# A worker's are set before this is imported. S3's file system refuses to work without any.
if FileSystems._pipeline_options is None:
    FileSystems.set_options(PipelineOptions([]))


def write_records(path: str, contents: Iterable[bytes], aside: str) -> int:
    """Writes gzipped TFRecords, a record at a time, and returns how many; no file where there are none.

    Args:
        path: the file; its folder is made.
        contents: serialized tf.Examples.
        aside: folder on the same file system for what is not whole yet, made where it is not there.
    """
    with _spool(aside) as spool:
        count = 0
        with tf.io.TFRecordWriter(str(spool), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for content in contents:
                writer.write(content)
                count += 1
        if count:
            _publish(spool, path, aside)
    return count


def write_file(path: str, content: bytes, aside: str) -> None:
    """Writes a file; as `write_records`."""
    write_files([(path, content)], aside)


def write_files(contents: Iterable[tuple[str, bytes]], aside: str) -> None:
    """Writes files of (path, content), each whole or not at all; as `write_records`."""
    with _spool(aside) as spool:
        for path, content in contents:
            spool.write_bytes(content)
            _publish(spool, path, aside)


def write_lines(path: str, lines: Iterable[bytes], aside: str) -> None:
    """Writes a file, a line at a time; as `write_records`."""
    with _spool(aside) as spool:
        with spool.open("wb") as file:
            file.writelines(lines)
        _publish(spool, path, aside)


def read_records(path: str) -> Iterator[bytes]:
    """Yields what `write_records` wrote, a record at a time."""
    with local_file(path) as local:
        yield from tf.data.TFRecordDataset(local, compression_type="GZIP").as_numpy_iterator()


@contextlib.contextmanager
def local_file(path: str) -> Iterator[str]:
    """Gives a file's path on this machine; one that lies elsewhere is copied, and the copy goes with the context."""
    if not _is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="storygan-") as folder:
        local = Path(folder, "copy")
        with FileSystems.open(path, compression_type=_RAW) as source, local.open("wb") as target:
            shutil.copyfileobj(source, target)
        yield str(local)


def list_files(pattern: str) -> list[str]:
    """Returns the files that fit a pattern, sorted."""
    return sorted(entry.path for match in FileSystems.match([pattern]) for entry in match.metadata_list)


def read_file(path: str) -> bytes:
    """Returns a file's content."""
    with FileSystems.open(path, compression_type=_RAW) as file:
        return file.read()


def remove_folder(folder: str) -> None:
    """Removes a folder and everything in it, where it is there."""
    if is_remote(folder):
        remove_from_bucket(folder)
        return
    if FileSystems.exists(folder):
        FileSystems.delete([folder])


def _is_remote(path: str) -> bool:
    return FileSystems.get_scheme(path) is not None


@contextlib.contextmanager
def _spool(aside: str) -> Iterator[Path]:
    """Gives a local file to write; it goes with the context."""
    _make_folder(aside)
    with tempfile.TemporaryDirectory(prefix="storygan-", dir=None if _is_remote(aside) else aside) as folder:
        yield Path(folder, "spool")


def _publish(spool: Path, path: str, aside: str) -> None:
    """Gives a written file its place and name."""
    if is_remote(path):
        store_file(spool, path)
        return
    written = str(spool)
    if _is_remote(path):
        written = FileSystems.join(aside, uuid.uuid4().hex)
        with spool.open("rb") as source, FileSystems.create(written, compression_type=_RAW) as target:
            shutil.copyfileobj(source, target)
    _make_folder(FileSystems.split(path)[0])
    FileSystems.rename([written], [path])


def _make_folder(folder: str) -> None:
    with contextlib.suppress(OSError):  # it is there, or another worker makes it
        FileSystems.mkdirs(folder)
