"""Reader of stories in Parquet tables: any number of `*.parquet` files that contain the picture files, too.

| column | type |
|---|---|
| `story_id` | string |
| `sentences` | list of string |
| `images` | list of binary: whole picture files |
| `split` | string; optional |
| `labels` | list of list of string; optional |
| `objects` | list of list of struct; optional |

Needs pyarrow, which the extras `parquet` and `pipeline` install.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets import image_sources
from storygan_tf.data.datasets.image_sources import ImagePart, UnusablePictureError
from storygan_tf.data.datasets.list_reader import ListEntry, ListReader
from storygan_tf.data.datasets.reader import require
from storygan_tf.data.datasets.story import Story
from storygan_tf.data.datasets.story_fields import read_story

TABLES = "[!.]*.parquet"
"""Pattern of the tables' file names."""

REQUIRED_COLUMNS = ("story_id", "sentences", "images")
OPTIONAL_COLUMNS = ("split", "labels", "objects")

GROUP_ROWS = 32
"""Rows in each row group of the tables that `storygan data convert` writes. Reading a picture loads its whole group."""

MAX_GROUP_BYTES = 1 << 30
"""Largest size in bytes of the pictures in a row group, uncompressed."""

_CACHED_GROUPS = 4
"""Number of row groups that a process keeps in memory."""


@dataclasses.dataclass(frozen=True)
class TableImage(ImagePart):
    """A picture file inside a table.

    Attributes:
        file: the table.
        row: number of the table's row, from 0.
        position: position in the row's list of images, from 0.
        group: number of the row group, from 0.
        group_row: number of the row in its group, from 0.
    """

    row: int
    position: int
    group: int
    group_row: int

    @property
    def location(self) -> str:
        """The row and the position in its list, both from 1."""
        return f"row {self.row + 1}, image {self.position + 1}"

    @contextlib.contextmanager
    def open(self) -> Iterator[Image.Image]:
        """Gives the picture."""
        with image_sources.open_image(io.BytesIO(self._content())) as image:
            yield image

    def export(self) -> tuple[bytes, str]:
        """Returns the picture file's content and the usual ending of its format."""
        return image_sources.export_file(self._content())

    def source_digest(self) -> bytes:
        """Returns a digest of the picture file."""
        return image_sources.digest(self._content())

    def _content(self) -> bytes:
        status = self.file.stat()
        images = _load_images(self.file, status.st_mtime_ns, status.st_size, self.group)
        content = images[self.group_row][self.position].as_py()
        if not content:
            raise UnusablePictureError("no bytes")
        return content


@dataclasses.dataclass(frozen=True)
class _Row(ListEntry):
    """A row of a table; `values` are its columns without the pictures.

    Attributes:
        table: the file.
        group: number of the row group, from 0.
        group_row: number of the row in its group, from 0.
        images: number of pictures; None if there is no list of pictures.
    """

    table: Path
    group: int
    group_row: int
    images: int | None

    def pictures(self) -> Iterator[TableImage]:
        """Yields the row's pictures."""
        for position in range(self.images or 0):
            yield TableImage(self.table, self.number - 1, position, self.group, self.group_row)


class ParquetStories(ListReader[_Row]):
    """Reader of a folder of Parquet tables.

    Args:
        folder: the folder with the tables.
        max_sentence_length: largest number of characters in a sentence.
    """

    format = "parquet"

    def is_layout_file(self, path: PurePath) -> bool:
        """Returns whether a file is one of the tables, or was written together with one by `storygan data`."""
        return str(path) in {table.name for table in self._tables} or super().is_layout_file(path)

    def raw_entries(self) -> Iterator[_Row]:
        """Yields every row of every table.

        Raises:
            DataError: if a table is damaged or does not have the expected columns.
        """
        for table in self._tables:
            try:
                yield from _read_rows(table)
            except DataError:
                raise
            except table_damage() as error:
                raise unreadable_table(table, error) from error

    @functools.cached_property
    def _tables(self) -> list[Path]:
        return sorted(path for path in self._root.glob(TABLES) if path.is_file())

    def _story(self, story_id: str, entry: _Row) -> Story:
        require(entry.images is not None, "no images")
        count, pictures = entry.images or 0, entry.pictures()
        return read_story(story_id, entry.values, count, pictures, self._max_sentence_length)


def _read_rows(table: Path) -> Iterator[_Row]:
    """Yields the rows of a table; raises one of `table_damage()` if it is damaged."""
    parquet = load_parquet()
    from pyarrow import compute

    number = 0
    with parquet.ParquetFile(table) as file:
        _check_columns(table, file)
        columns = [name for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS) if name in file.schema_arrow.names]
        for group in range(file.metadata.num_row_groups):
            group_row = 0
            for batch in file.iter_batches(GROUP_ROWS, [group], columns, use_threads=False):
                counts = compute.list_value_length(batch.column("images")).to_pylist()
                others = {name: batch.column(name) for name in columns if name != "images"}
                for row, images in enumerate(counts):
                    number += 1
                    values = _row_values(others, row)
                    error = "not UTF-8" if values is None else ""
                    place = f"{table.name}:{number}"
                    yield _Row(number, place, place, place, values or {}, error, table, group, group_row, images)
                    group_row += 1


def _row_values(columns: Mapping[str, Any], row: int) -> dict[str, Any] | None:
    """Returns the values of a row by column, or None if a text is not UTF-8."""
    try:
        return {name: column[row].as_py() for name, column in columns.items()}
    except UnicodeDecodeError:
        return None


def _check_columns(table: Path, file: Any) -> None:
    """Raises DataError if a column is missing or of the wrong type, or if a row group is too large."""
    import pyarrow

    schema = file.schema_arrow
    missing = [name for name in REQUIRED_COLUMNS if name not in schema.names]
    if missing:
        raise DataError(
            f"{table}: found the columns {', '.join(schema.names)}; expected {', '.join(REQUIRED_COLUMNS)}, and "
            f"optionally {', '.join(OPTIONAL_COLUMNS)}."
        )
    column = schema.field("images").type
    lists = pyarrow.types.is_list(column) or pyarrow.types.is_large_list(column)
    binary = (pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    if not lists or not any(is_type(column.value_type) for is_type in binary):
        raise DataError(f"{table}: column images: found {column}, expected list<binary>: the content of picture files.")
    for group in range(file.metadata.num_row_groups):
        size = _images_size(file.metadata.row_group(group))
        if size > MAX_GROUP_BYTES:
            raise DataError(
                f"{table}: row group {group} has {size:,} bytes of images, expected at most {MAX_GROUP_BYTES:,}, "
                "because a group is read as a whole. Write it again: pyarrow.parquet.write_table(..., row_group_size="
                f"{GROUP_ROWS})."
            )


def _images_size(group: Any) -> int:
    """Returns the uncompressed size in bytes of the pictures in a row group."""
    columns = (group.column(index) for index in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema.startswith("images."))


@functools.lru_cache(maxsize=_CACHED_GROUPS)
def _load_images(table: Path, changed: int, size: int, group: int) -> Any:
    """Returns the pictures of a row group, as a chunked array of lists of bytes.

    Args:
        table: the file.
        changed: time of the file's last change, in nanoseconds: a part of the cache's key, so that a rewritten table is
            read again.
        size: size of the file in bytes: a part of the key for the same reason.
        group: number of the row group, from 0.

    Raises:
        UnusablePictureError: if the table is damaged.
        FileNotFoundError: if the table no longer exists.
    """
    del changed, size
    try:
        with load_parquet().ParquetFile(table) as file:
            return file.read_row_group(group, ["images"], use_threads=False).column("images")
    except FileNotFoundError:
        raise
    except table_damage() as error:
        raise UnusablePictureError("damaged table") from error


def load_parquet() -> Any:
    """Returns the module `pyarrow.parquet`, after closing CVE-2023-47248.

    Before version 14.0.1, pyarrow unpickled, and thereby ran, code in a file's schema; `pyarrow_hotfix` prevents this.
    """
    import pyarrow

    if tuple(int(part) for part in pyarrow.__version__.split(".")[:2]) < (15, 0):
        import pyarrow_hotfix  # noqa: F401
    from pyarrow import parquet

    return parquet


def table_damage() -> tuple[type[Exception], ...]:
    """Returns the exceptions that Arrow raises for damaged files, and `pyarrow_hotfix` for hostile ones."""
    import pyarrow

    return pyarrow.ArrowException, OSError, ValueError, LookupError, RuntimeError


def unreadable_table(table: Path, error: Exception) -> DataError:
    """Returns the error for a table that cannot be read."""
    return DataError(
        f"{table}: damaged, or no Parquet file that can be read ({type(error).__name__}: {error}). Write it again."
    )
