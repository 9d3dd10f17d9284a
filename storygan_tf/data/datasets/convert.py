"""`convert`: writes a data set of any layout as a story folder or a Parquet table, without loss of picture quality."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import storygan_tf
from storygan_tf.common.atomic_files import atomic_folder, unwritable_error
from storygan_tf.common.errors import DataError, nearest
from storygan_tf.data.datasets.image_sources import export_picture, picture_source
from storygan_tf.data.datasets.open_dataset import source_name
from storygan_tf.data.datasets.parquet import GROUP_ROWS, load_parquet
from storygan_tf.data.datasets.reader import BLOCKS, REJECTS_FILE, SOURCE_FILE
from storygan_tf.data.datasets.story import BadFrameError, Reject, Story, StoryDataset, as_bad_frame_error, load_frame
from storygan_tf.data.datasets.story_fields import OBJECT_NUMBERS, OBJECT_TEXTS
from storygan_tf.data.datasets.story_folder import STORIES_FILE

TARGETS = ("story-folder", "parquet")

TABLE_FILE = "stories.parquet"
"""Name of the table that a conversion writes."""


@dataclasses.dataclass(frozen=True)
class ConversionResult:
    """The result of a conversion.

    Attributes:
        stories: number of stories written.
        rejects: the stories that could not be converted, with reasons.
    """

    stories: int
    rejects: tuple[Reject, ...]


@dataclasses.dataclass(frozen=True)
class _LoadedStory:
    """A story with the content of its pictures.

    Attributes:
        story: the story.
        pictures: for each picture a file's content and ending.
        sources: for each picture where it was taken from, as `picture_source` returns it.
    """

    story: Story
    pictures: tuple[tuple[bytes, str], ...]
    sources: tuple[dict[str, Any], ...]

    def values(self) -> dict[str, Any]:
        """Returns the fields of the story's line or row, without the pictures and without fields that are None."""
        story = self.story
        values = {
            "story_id": story.story_id,
            "split": story.split,
            "sentences": list(story.sentences),
            "labels": None if story.labels is None else list(map(list, story.labels)),
            "objects": None if story.objects is None else list(map(list, story.objects)),
            "sources": list(self.sources),
        }
        return {key: value for key, value in values.items() if value is not None}


def convert(
    dataset: StoryDataset,
    out: Path,
    to: str = "story-folder",
    progress: Callable[[int, int], None] | None = None,
) -> ConversionResult:
    """Writes a data set as a story folder or a Parquet table.

    Picture files are copied unchanged; frames of strips and clips are written as PNG. The field `sources` of a story
    names the file and the frame that each picture was taken from. The file `SOURCE` names the converted data set, and
    `rejects.jsonl` lists the stories that could not be converted.

    `out` is written completely, or not at all if the conversion fails or is interrupted.

    Args:
        dataset: the data set.
        out: the folder to write; it must be empty or not exist.
        to: the format to write, one of `TARGETS`.
        progress: called after each story with the number of stories done and their total number.

    Returns:
        The number of stories written, and the rejected ones.

    Raises:
        DataError: if the data set cannot be read, no story can be used, or `out` cannot be written.
    """
    if to not in TARGETS:
        raise DataError(f"--to {to}: expected {' or '.join(TARGETS)}{nearest(to, TARGETS)}.")
    _check_out(dataset.folder, out)
    entries = list(dataset.stories())
    rejects: list[Reject] = []
    try:
        with atomic_folder(out) as partial:
            partial.mkdir()
            with _FolderWriter(partial) if to == "story-folder" else _TableWriter(partial) as writer:
                for loaded in _load_all(entries, dataset.folder, rejects, progress):
                    writer.add(loaded)
            if not writer.stories:
                raise DataError(f"data folder {dataset.folder}: no story can be used; `storygan data check` says why.")
            _write_source_and_rejects(dataset, partial, rejects)
    except OSError as error:
        raise unwritable_error(out, error) from error
    return ConversionResult(writer.stories, tuple(rejects))


def _check_out(folder: Path, out: Path) -> None:
    """Raises DataError if `out` is neither empty nor new, or lies in the data folder."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(
            f"--out {out}: found something there already; expected a path that does not exist, or an empty folder."
        )
    if out.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"--out {out}: lies in the data folder {folder}; expected a path outside it.")


def _load_all(
    entries: Sequence[Story | Reject],
    folder: Path,
    rejects: list[Reject],
    progress: Callable[[int, int], None] | None,
) -> Iterator[_LoadedStory]:
    """Yields the stories with their pictures; appends those that cannot be used to `rejects`."""
    for done, entry in enumerate(entries, start=1):
        if isinstance(entry, Reject):
            rejects.append(entry)
        else:
            try:
                yield _load(entry, folder)
            except BadFrameError as error:
                rejects.append(error.as_reject(entry.story_id, folder))
        if progress:
            progress(done, len(entries))


def _load(story: Story, folder: Path) -> _LoadedStory:
    """Returns a story with its pictures; raises BadFrameError if one of them cannot be used."""
    contents, sources = [], []
    for picture in story.images:
        load_frame(picture)
        with as_bad_frame_error(picture):
            contents.append(export_picture(picture))
            sources.append(picture_source(picture, folder))
    return _LoadedStory(story, tuple(contents), tuple(sources))


def _write_source_and_rejects(dataset: StoryDataset, out: Path, rejects: Sequence[Reject]) -> None:
    """Writes `SOURCE` and `rejects.jsonl`."""
    source = source_name(dataset)
    text = f"{source}: converted from the layout {dataset.format} by storygan {storygan_tf.__version__}\n"
    if source == BLOCKS:
        text += (dataset.folder / SOURCE_FILE).read_text(encoding="utf-8").partition("\n")[2]
    (out / SOURCE_FILE).write_text(text, encoding="utf-8")
    lines = "".join(json.dumps(dataclasses.asdict(reject)) + "\n" for reject in rejects)
    (out / REJECTS_FILE).write_text(lines, encoding="utf-8")


class _Writer(contextlib.AbstractContextManager["_Writer"], abc.ABC):
    """Base class of the writers: context managers that write stories into a folder.

    Args:
        folder: the folder.

    Attributes:
        stories: number of stories written so far.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.stories = 0

    def add(self, loaded: _LoadedStory) -> None:
        """Writes a story."""
        self._write(loaded)
        self.stories += 1

    @abc.abstractmethod
    def _write(self, loaded: _LoadedStory) -> None: ...


class _FolderWriter(_Writer):
    """Writes `stories.jsonl`, and picture files in the folder `images`."""

    def __enter__(self) -> _FolderWriter:
        (self._folder / "images").mkdir()
        self._lines = (self._folder / STORIES_FILE).open("w", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def _write(self, loaded: _LoadedStory) -> None:
        names = []
        for frame, (content, ending) in enumerate(loaded.pictures, start=1):
            # Numbered, because a story's name may not be usable as a file name.
            names.append(f"images/{self.stories:06d}_{frame}{ending}")
            (self._folder / names[-1]).write_bytes(content)
        self._lines.write(json.dumps(loaded.values() | {"images": names}, ensure_ascii=False) + "\n")


class _TableWriter(_Writer):
    """Writes `stories.parquet`, one row group at a time."""

    def __enter__(self) -> _TableWriter:
        self._schema = _schema()
        self._table = load_parquet().ParquetWriter(self._folder / TABLE_FILE, self._schema)
        self._rows: list[dict[str, Any]] = []
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._table.close()

    def _write(self, loaded: _LoadedStory) -> None:
        self._rows.append(loaded.values() | {"images": [content for content, _ in loaded.pictures]})
        if len(self._rows) == GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            self._table.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
            self._rows = []


def _schema() -> Any:
    """Returns the Arrow schema of the table."""
    import pyarrow as pa

    texts = pa.list_(pa.string())
    fields = [(name, pa.string()) for name in OBJECT_TEXTS] + [(name, pa.float64()) for name in OBJECT_NUMBERS]
    return pa.schema(
        {
            "story_id": pa.string(),
            "split": pa.string(),
            "sentences": texts,
            "images": pa.list_(pa.binary()),
            "labels": pa.list_(texts),
            "objects": pa.list_(pa.list_(pa.struct(fields))),
            "sources": pa.list_(pa.struct([("file", pa.string()), ("frame", pa.int64())])),
        }
    )
