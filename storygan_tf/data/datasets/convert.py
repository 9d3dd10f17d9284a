"""Turns a data set of any layout into a story folder or a table, without any loss to its pictures."""

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
"""The table that a conversion writes."""


@dataclasses.dataclass(frozen=True)
class Converted:
    """What became of every story.

    Attributes:
        stories: how many were written.
        rejects: those set aside.
    """

    stories: int
    rejects: tuple[Reject, ...]


@dataclasses.dataclass(frozen=True)
class _Whole:
    """A story with its pictures' files: for each its content and ending, and where it came from."""

    story: Story
    pictures: tuple[tuple[bytes, str], ...]
    sources: tuple[dict[str, Any], ...]

    def values(self) -> dict[str, Any]:
        """Returns what a line says of it but for its pictures; nothing where there is nothing to say."""
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
) -> Converted:
    """Writes a data set as a story folder or a table: all of it, or nothing where it fails or is interrupted.

    Picture files stay as they are; frames of strips and clips become PNG. Each story's `sources` say which file and
    which frame its pictures were taken from; `SOURCE` says what was converted, `rejects.jsonl` what was set aside.

    Args:
        dataset: the data set.
        out: the folder to make; it may be there if it is empty.
        to: one of `TARGETS`.
        progress: is called with the stories done and the stories to do.

    Raises:
        DataError: where the data set cannot be read, no story can be used, or `out` cannot be written.
    """
    if to not in TARGETS:
        raise DataError(f"--to {to}: expected {' or '.join(TARGETS)}{nearest(to, TARGETS)}.")
    _check_place(dataset.folder, out)
    entries = list(dataset.stories())
    rejects: list[Reject] = []
    try:
        with atomic_folder(out) as aside:
            aside.mkdir()
            with _FolderWriter(aside) if to == "story-folder" else _TableWriter(aside) as writer:
                for whole in _read(entries, dataset.folder, rejects, progress):
                    writer.add(whole)
            if not writer.stories:
                raise DataError(f"data folder {dataset.folder}: no story can be used; `storygan data check` says why.")
            _tell(dataset, aside, rejects)
    except OSError as error:
        raise unwritable_error(out, error) from error
    return Converted(writer.stories, tuple(rejects))


def _check_place(folder: Path, out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"--out {out}: found something there already; expected a folder to be made. Give another.")
    if out.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"--out {out}: lies in the data folder {folder}; expected a place outside it.")


def _read(
    entries: Sequence[Story | Reject],
    folder: Path,
    rejects: list[Reject],
    progress: Callable[[int, int], None] | None,
) -> Iterator[_Whole]:
    for done, entry in enumerate(entries, start=1):
        if isinstance(entry, Reject):
            rejects.append(entry)
        else:
            try:
                yield _whole(entry, folder)
            except BadFrameError as error:
                rejects.append(error.as_reject(entry.story_id, folder))
        if progress:
            progress(done, len(entries))


def _whole(story: Story, folder: Path) -> _Whole:
    contents, sources = [], []
    for picture in story.images:
        load_frame(picture)
        with as_bad_frame_error(picture):
            contents.append(export_picture(picture))
            sources.append(picture_source(picture, folder))
    return _Whole(story, tuple(contents), tuple(sources))


def _tell(dataset: StoryDataset, aside: Path, rejects: Sequence[Reject]) -> None:
    """Writes what was converted, and what was set aside."""
    source = source_name(dataset)
    text = f"{source}: converted from the layout {dataset.format} by storygan {storygan_tf.__version__}\n"
    if source == BLOCKS:
        text += (dataset.folder / SOURCE_FILE).read_text(encoding="utf-8").partition("\n")[2]
    (aside / SOURCE_FILE).write_text(text, encoding="utf-8")
    lines = "".join(json.dumps(dataclasses.asdict(reject)) + "\n" for reject in rejects)
    (aside / REJECTS_FILE).write_text(lines, encoding="utf-8")


class _Writer(contextlib.AbstractContextManager["_Writer"], abc.ABC):
    """Writes stories into a folder.

    Args:
        folder: the folder.

    Attributes:
        stories: how many were written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.stories = 0

    def add(self, whole: _Whole) -> None:
        """Writes a story."""
        self._write(whole)
        self.stories += 1

    @abc.abstractmethod
    def _write(self, whole: _Whole) -> None: ...


class _FolderWriter(_Writer):
    """Writes `stories.jsonl`, and pictures below `images`."""

    def __enter__(self) -> _FolderWriter:
        (self._folder / "images").mkdir()
        self._lines = (self._folder / STORIES_FILE).open("w", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def _write(self, whole: _Whole) -> None:
        names = []
        for frame, (content, ending) in enumerate(whole.pictures, start=1):
            # A story's own name may be none for a file.
            names.append(f"images/{self.stories:06d}_{frame}{ending}")
            (self._folder / names[-1]).write_bytes(content)
        self._lines.write(json.dumps(whole.values() | {"images": names}, ensure_ascii=False) + "\n")


class _TableWriter(_Writer):
    """Writes `stories.parquet`, a row group at a time."""

    def __enter__(self) -> _TableWriter:
        self._schema = _schema()
        self._table = load_parquet().ParquetWriter(self._folder / TABLE_FILE, self._schema)
        self._rows: list[dict[str, Any]] = []
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._table.close()

    def _write(self, whole: _Whole) -> None:
        self._rows.append(whole.values() | {"images": [content for content, _ in whole.pictures]})
        if len(self._rows) == GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            self._table.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
            self._rows = []


def _schema() -> Any:
    import pyarrow as pa

    texts = pa.list_(pa.string())
    described = [(name, pa.string()) for name in OBJECT_TEXTS] + [(name, pa.float64()) for name in OBJECT_NUMBERS]
    return pa.schema(
        {
            "story_id": pa.string(),
            "split": pa.string(),
            "sentences": texts,
            "images": pa.list_(pa.binary()),
            "labels": pa.list_(texts),
            "objects": pa.list_(pa.list_(pa.struct(described))),
            "sources": pa.list_(pa.struct([("file", pa.string()), ("frame", pa.int64())])),
        }
    )
