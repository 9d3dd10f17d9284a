"""Stories in Parquet: any number of `*.parquet` files with the columns of a story folder, picture files inside.

| column | type |
|---|---|
| `story_id` | string |
| `sentences` | list of string |
| `images` | list of binary: whole picture files |
| `split` | string; optional |
| `labels` | list of list of string; optional |
| `objects` | list of list of struct; optional |

Needs pyarrow, which comes with the extra `parquet`, and with `pipeline`.
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
from storygan_tf.data.datasets.reader import BadValueError, ListReader, require
from storygan_tf.data.datasets.story import Reject, Story
from storygan_tf.data.datasets.story_fields import read_story, text

TABLES = "[!.]*.parquet"
"""What finds the tables of a folder."""

NEEDED = ("story_id", "sentences", "images")
OPTIONAL = ("split", "labels", "objects")

GROUP_ROWS = 32
"""Rows of a group in tables written here: what one picture's reading brings into memory."""

MAX_GROUP_BYTES = 1 << 30
"""Pictures of a row group may take so much."""

_GROUPS = 4
"""Row groups that a process keeps at hand."""


@dataclasses.dataclass(frozen=True)
class TableImage(ImagePart):
    """A picture file inside a table.

    Attributes:
        row: its row in the table, from 0.
        position: its place in the row's list, from 0.
        group: the row group that it lies in.
        group_row: its row in the group, from 0.
    """

    row: int
    position: int
    group: int
    group_row: int

    @property
    def place(self) -> str:
        """Row and place, both from 1."""
        return f"row {self.row + 1}, image {self.position + 1}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[Image.Image]:
        """Gives the picture."""
        with image_sources.open_image(io.BytesIO(self._content())) as image:
            yield image

    def exported(self) -> tuple[bytes, str]:
        """Returns the picture file."""
        return image_sources.as_file(self._content())

    def identity(self) -> bytes:
        """Returns a digest of the picture file."""
        return image_sources.digest(self._content())

    def _content(self) -> bytes:
        status = self.file.stat()
        images = _images_of(self.file, status.st_mtime_ns, status.st_size, self.group)
        content = images[self.group_row][self.position].as_py()
        if not content:
            raise UnusablePictureError("no bytes")
        return content


class ParquetStories(ListReader):
    """Reader of a folder of Parquet files.

    Args:
        folder: the folder with the files.
        max_sentence_length: characters a sentence may have.
    """

    format = "parquet"

    def owns(self, path: PurePath) -> bool:
        """Tells whether a file is one of the tables, or was left by what made the folder."""
        return str(path) in {table.name for table in self._tables} or super().owns(path)

    def values(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields each row's number and what it says but for its pictures, nothing where it is not UTF-8."""
        for row in self._rows():
            yield row.number + 1, row.values or {}

    @functools.cached_property
    def _tables(self) -> list[Path]:
        return sorted(path for path in self._root.glob(TABLES) if path.is_file())

    def _read(self) -> Iterator[tuple[str, Story | Reject]]:
        seen: set[str] = set()
        for row in self._rows():
            place = f"{row.table.name}:{row.number + 1}"
            story_id = place
            try:
                if row.values is None:
                    raise BadValueError("not UTF-8")
                story_id = text(row.values, "story_id")
                require(story_id not in seen, "duplicate story_id")
                seen.add(story_id)
                require(row.images is not None, "no images")
                count = row.images or 0
                yield place, read_story(story_id, row.values, count, row.pictures(), self._max_sentence_length)
            except BadValueError as error:
                yield place, Reject(story_id, place, error.reason)

    def _rows(self) -> Iterator[_Row]:
        for table in self._tables:
            try:
                yield from _rows_of(table)
            except DataError:
                raise
            except table_damage() as error:
                raise unreadable_table(table, error) from error


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row of a table, its pictures counted.

    Attributes:
        table: the file.
        number: of the row in the file, from 0.
        group: its row group.
        group_row: its number in the group, from 0.
        values: the other columns; None where they are not UTF-8.
        images: how many; None where there is no list.
    """

    table: Path
    number: int
    group: int
    group_row: int
    values: dict[str, Any] | None
    images: int | None

    def pictures(self) -> Iterator[TableImage]:
        """Yields its pictures."""
        for position in range(self.images or 0):
            yield TableImage(self.table, self.number, position, self.group, self.group_row)


def _rows_of(table: Path) -> Iterator[_Row]:
    parquet = load_parquet()
    from pyarrow import compute

    number = 0
    with parquet.ParquetFile(table) as file:
        _check_columns(table, file)
        columns = [name for name in (*NEEDED, *OPTIONAL) if name in file.schema_arrow.names]
        for group in range(file.metadata.num_row_groups):
            group_row = 0
            for batch in file.iter_batches(GROUP_ROWS, [group], columns, use_threads=False):
                counts = compute.list_value_length(batch.column("images")).to_pylist()
                others = {name: batch.column(name) for name in columns if name != "images"}
                for row, images in enumerate(counts):
                    yield _Row(table, number, group, group_row, _values(others, row), images)
                    number, group_row = number + 1, group_row + 1


def _values(columns: Mapping[str, Any], row: int) -> dict[str, Any] | None:
    try:
        return {name: column[row].as_py() for name, column in columns.items()}
    except UnicodeDecodeError:
        return None


def _check_columns(table: Path, file: Any) -> None:
    """Raises DataError where a table's columns, or the size of its row groups, are none that can be read."""
    import pyarrow

    schema = file.schema_arrow
    missing = [name for name in NEEDED if name not in schema.names]
    if missing:
        raise DataError(
            f"{table}: found the columns {', '.join(schema.names)}; expected {', '.join(NEEDED)}, and where there are "
            f"any {', '.join(OPTIONAL)}."
        )
    kind = schema.field("images").type
    lists = pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)
    if not lists or not (pyarrow.types.is_binary(kind.value_type) or pyarrow.types.is_large_binary(kind.value_type)):
        raise DataError(f"{table}: column images: found {kind}, expected list<binary>: the content of picture files.")
    for group in range(file.metadata.num_row_groups):
        size = _images_size(file.metadata.row_group(group))
        if size > MAX_GROUP_BYTES:
            raise DataError(
                f"{table}: row group {group} has {size:,} bytes of images, expected at most {MAX_GROUP_BYTES:,}, for a "
                f"group is read whole. Write it again: pyarrow.parquet.write_table(..., row_group_size={GROUP_ROWS})."
            )


def _images_size(group: Any) -> int:
    columns = (group.column(index) for index in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema.startswith("images."))


@functools.lru_cache(maxsize=_GROUPS)
def _images_of(table: Path, changed: int, size: int, group: int) -> Any:
    """Returns the pictures of a row group: a chunked array of lists.

    Args:
        table: the file.
        changed: when it was changed last, so that a table written anew is read anew.
        size: its size, likewise.
        group: the row group.
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
    """Returns pyarrow's module for Parquet, made safe.

    Before 14.0.1 pyarrow unpickled, and so ran, what a file's schema held (CVE-2023-47248); `pyarrow_hotfix` ends that.
    """
    import pyarrow

    if tuple(int(part) for part in pyarrow.__version__.split(".")[:2]) < (15, 0):
        import pyarrow_hotfix  # noqa: F401
    from pyarrow import parquet

    return parquet


def table_damage() -> tuple[type[Exception], ...]:
    """Returns what Arrow raises for damaged files, and `pyarrow_hotfix` for hostile ones."""
    import pyarrow

    return pyarrow.ArrowException, OSError, ValueError, LookupError, RuntimeError


def unreadable_table(table: Path, error: Exception) -> DataError:
    """Returns the error that tells a user of a damaged table."""
    return DataError(
        f"{table}: damaged, or no Parquet file that can be read ({type(error).__name__}: {error}). Write it again."
    )
