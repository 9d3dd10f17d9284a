"""Reads the stories of a batch job from JSON lines, Parquet or TFRecords, and checks them.

One process reads all rows once and writes the checked ones to a file per shard (`batch_inference.py`). Workers can then
start at any shard whatever the input's format, duplicate story ids are found, and memory does not grow with the input.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import tensorflow as tf
from google.protobuf.message import DecodeError

from components.record_files import list_files, local_file
from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import DataConfig
from storygan_tf.data import example_schema
from storygan_tf.data.datasets.parquet import load_parquet, table_damage, unreadable_table
from storygan_tf.data.datasets.reader import BadValueError, require
from storygan_tf.data.datasets.story import SPLITS, Reject, Story, split_of
from storygan_tf.data.datasets.story_fields import text, texts
from storygan_tf.data.datasets.story_folder import parse_line
from storygan_tf.evaluation.frame_sources import story_seed

SHARD_ROWS = 256
"""Rows of a shard. A killed job repeats at most one shard for each of its workers."""

MAX_LINE = 1 << 20
"""Largest number of bytes in a line."""

COLUMNS = (example_schema.STORY_ID, example_schema.SENTENCES, example_schema.SEED, "split")
"""Columns that are read from a table; the first two are required."""

_ROWS = 64
"""Rows of a table that are read at once."""

_BLOCK = 1 << 20

_GZIP = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True)
class DrawTask:
    """A story to draw.

    Attributes:
        story_id: id of the story.
        sentences: its sentences, any number.
        seed: seed of the noise, an integer of 64 bits.
        position: index among the rows with a story id, from 0.
        location: file and line, row or record, such as `a.jsonl:3`.
    """

    story_id: str
    sentences: tuple[str, ...]
    seed: int
    position: int
    location: str


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of an input file, unchecked.

    Attributes:
        location: file and line, row or record, counted from 1.
        values: the row's values by name; empty if it cannot be read.
        reason: why the row cannot be read; empty otherwise.
    """

    location: str
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""


class InputFiles:
    """The input files of a batch job.

    Args:
        pattern: a file or a pattern of files, in any of Beam's file systems.

    Raises:
        DataError: if no file fits the pattern, or one is of an unknown format.
    """

    def __init__(self, pattern: str) -> None:
        if Path(pattern).is_dir():
            raise DataError(
                f"--input {pattern}: found a folder, expected files: name one, or a pattern: '{pattern}/*.gz'."
            )
        self._paths = list_files(pattern)
        if not self._paths:
            raise DataError(
                f"--input {pattern}: found no such file, expected stories in .jsonl, .parquet or .tfrecord."
            )
        self._readers = [_reader_of(path) for path in self._paths]
        self._names = _short_names(self._paths)

    def sha256(self) -> str:
        """Returns the SHA-256 of the files' names and contents."""
        digest = hashlib.sha256()
        for path, name in zip(self._paths, self._names, strict=True):
            with local_file(path) as local, Path(local).open("rb") as file:
                digest.update(f"{name} {Path(local).stat().st_size}\n".encode())
                while block := file.read(_BLOCK):
                    digest.update(block)
        return digest.hexdigest()

    def rows(self) -> Iterator[Row]:
        """Yields the rows of all files.

        Raises:
            DataError: if a file is damaged as a whole.
        """
        for path, name, read in zip(self._paths, self._names, self._readers, strict=True):
            with local_file(path) as local:
                yield from read(Path(local), name)


def _short_names(paths: list[str]) -> list[str]:
    """Returns paths relative to the deepest folder that holds them all."""
    folders = [path.rpartition("/")[0] + "/" for path in paths]
    shared = "".join(same[0] for same in itertools.takewhile(lambda at: len(set(at)) == 1, zip(*folders, strict=False)))
    return [path[shared.rfind("/") + 1 :] for path in paths]


def _reader_of(path: str) -> Callable[[Path, str], Iterator[Row]]:
    name = path.rpartition("/")[2]
    if name.endswith(".jsonl"):
        return _lines
    if name.endswith(".parquet"):
        return _table_rows
    if ".tfrecord" in name or (name.endswith(".gz") and ".json" not in name):
        return _records
    raise DataError(f"--input {path}: found another ending, expected .jsonl, .parquet, .tfrecord or .gz (TFRecords).")


def _lines(path: Path, name: str) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            for number, line in _bounded_lines(file):
                if line.strip():
                    yield _parse_row(f"{name}:{number}", _line_values, line)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def _bounded_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields the number and content of each line; a line of more than `MAX_LINE` bytes is cut just above that."""
    for number in itertools.count(1):
        line = rest = file.readline(MAX_LINE + 1)
        if not line:
            return
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE)
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _line_values(line: bytes) -> dict[str, Any]:
    require(len(line) <= MAX_LINE, f"line of more than {MAX_LINE} bytes")
    return parse_line(line)


def _table_rows(path: Path, name: str) -> Iterator[Row]:
    try:
        # With a buffer, row groups are read piece by piece. A row group may be as large as the file.
        with load_parquet().ParquetFile(path, buffer_size=_BLOCK) as file:
            names = file.schema_arrow.names
            if not set(COLUMNS[:2]) <= set(names):
                raise DataError(f"{path}: found the columns {', '.join(names)}; expected {', '.join(COLUMNS[:2])}.")
            number = itertools.count(1)
            for batch in file.iter_batches(_ROWS, columns=[name for name in COLUMNS if name in names]):
                for row in range(len(batch)):
                    yield _parse_row(f"{name}:{next(number)}", _cells, batch, row)
    except DataError:
        raise
    except table_damage() as error:
        raise unreadable_table(path, error) from error


def _cells(batch: Any, row: int) -> dict[str, Any]:
    try:
        return {name: batch.column(name)[row].as_py() for name in batch.schema.names}
    except UnicodeDecodeError:
        raise BadValueError("not UTF-8") from None


def _records(path: Path, name: str) -> Iterator[Row]:
    with path.open("rb") as file:
        compression = "GZIP" if file.read(2) == _GZIP else ""
    number = 0
    try:
        for content in tf.data.TFRecordDataset(str(path), compression).as_numpy_iterator():
            number += 1
            yield _parse_row(f"{name}:{number}", _features, content)
    except tf.errors.OpError as error:
        raise DataError(
            f"{path}: record {number + 1} cannot be read ({error.message}); expected a whole TFRecord file."
        ) from error


def _features(content: bytes) -> dict[str, Any]:
    """Returns the values of a story in a serialized tf.Example; raises BadValueError if it is none."""
    try:
        features = tf.train.Example.FromString(content).features.feature
    except DecodeError:
        raise BadValueError("not a tf.Example") from None
    values: dict[str, Any] = {}
    try:
        if example_schema.SENTENCES in features:
            values[example_schema.SENTENCES] = [
                item.decode() for item in features[example_schema.SENTENCES].bytes_list.value
            ]
        for item in features[example_schema.STORY_ID].bytes_list.value:
            values[example_schema.STORY_ID] = item.decode()
    except UnicodeDecodeError:
        raise BadValueError("not UTF-8") from None
    for seed in features[example_schema.SEED].int64_list.value:
        values[example_schema.SEED] = seed
    return values


def _parse_row(location: str, parse: Callable[..., dict[str, Any]], *content: Any) -> Row:
    """Returns the row that `parse(*content)` returns, or a row with the reason why it cannot be parsed."""
    try:
        return Row(location, parse(*content))
    except BadValueError as error:
        return Row(location, reason=error.reason)


class RowChecker:
    """Turns rows into stories to draw, or into rejects with a reason.

    It keeps the story ids on disk to find duplicates.

    Args:
        seed: base of the seeds of stories without a seed of their own.
        split: the split to draw; None for all rows.
        order: sort key by which story ids must be in order; None for any order.
    """

    def __init__(self, seed: int, split: str | None = None, order: Callable[[str], Any] | None = None) -> None:
        self._seed = seed
        self._split = split
        self._order = order
        self._last: str | None = None
        self._position = 0
        self._ids = sqlite3.connect("")  # a temporary file that SQLite removes with the connection
        self._ids.execute("CREATE TABLE ids (story_id TEXT PRIMARY KEY) WITHOUT ROWID")

    def check(self, rows: Iterable[Row]) -> Iterator[DrawTask | Reject]:
        """Yields a story to draw or a reject for each row of the split, in the order of the rows.

        Raises:
            DataError: if the ids must be in order and are not.
        """
        for row in rows:
            story_id = row.location
            try:
                require(not row.reason, row.reason)
                story_id = text(row.values, example_schema.STORY_ID)
                if self._is_in_split(story_id, row.values.get("split")):
                    position = self._next_position(story_id, row.location)
                    yield self._task(story_id, row, position)
            except BadValueError as error:
                yield Reject(story_id, row.location, error.reason)

    def _is_in_split(self, story_id: str, split: Any) -> bool:
        if self._split is None:
            return True
        require(split is None or split in SPLITS, f"split is none of {', '.join(SPLITS)}")
        return split_of(Story(story_id, split, (), ()), DataConfig.test_fraction) == self._split

    def _next_position(self, story_id: str, location: str) -> int:
        if self._order and self._last is not None and self._order(story_id) < self._order(self._last):
            raise DataError(
                f"{location}: found story {story_id!r} after {self._last!r}; this layout numbers stories in the order "
                "of their ids: sort the input by them, or choose another layout."
            )
        self._last, self._position = story_id, self._position + 1
        return self._position - 1

    def _task(self, story_id: str, row: Row, position: int) -> DrawTask:
        is_new = self._ids.execute("INSERT OR IGNORE INTO ids VALUES (?)", [story_id]).rowcount
        require(bool(is_new), "duplicate story_id")
        sentences = texts(row.values, example_schema.SENTENCES)
        seed = row.values.get(example_schema.SEED)
        seed = story_seed(self._seed, story_id) if seed is None else seed
        is_integer = isinstance(seed, int) and not isinstance(seed, bool)
        require(is_integer and -(2**63) <= seed < 2**63, "seed is not a whole number of 64 bits")
        return DrawTask(story_id, sentences, seed, position, row.location)


def to_line(entry: DrawTask | Reject) -> bytes:
    """Returns an entry of a shard as a line of JSON. The location of a task is written as `place`."""
    values = dataclasses.asdict(entry)
    if isinstance(entry, DrawTask):
        values["place"] = values.pop("location")
    return json.dumps(values).encode() + b"\n"


def from_line(line: bytes) -> DrawTask | Reject:
    """Returns the entry of a line that `to_line` wrote."""
    values = json.loads(line)
    if "reason" in values:
        return Reject(**values)
    location, sentences = values.pop("place"), tuple(values.pop("sentences"))
    return DrawTask(**values, sentences=sentences, location=location)
