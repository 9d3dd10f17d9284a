"""`open_dataset` and `open_configured`: open a folder of stories in any supported layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from storygan_tf.common.errors import DataError, nearest
from storygan_tf.config.schema import DataConfig
from storygan_tf.data.datasets.clevr_sv import DICT_FILE, ClevrSV
from storygan_tf.data.datasets.flintstones import SPLIT_FILE, FlintstonesSV
from storygan_tf.data.datasets.parquet import TABLES, ParquetStories
from storygan_tf.data.datasets.pororo import IMAGES_FILE, PororoSV
from storygan_tf.data.datasets.reader import BLOCKS, SOURCE_FILE, Reader, is_rendered
from storygan_tf.data.datasets.story import StoryDataset
from storygan_tf.data.datasets.story_folder import STORIES_FILE, StoryFolder

__all__ = ["BLOCKS", "FORMATS", "SOURCE_FILE", "open_configured", "open_dataset", "source_name"]

_LAYOUTS: dict[str, tuple[str, Callable[[Path, DataConfig], Reader]]] = {
    "story-folder": (STORIES_FILE, lambda folder, data: StoryFolder(folder, data.max_sentence_length)),
    "clevr-sv": (DICT_FILE, lambda folder, data: ClevrSV(folder, data.max_sentence_length)),
    "pororo-sv": (
        IMAGES_FILE,
        lambda folder, data: PororoSV(folder, data.max_sentence_length, data.frame_seed, data.pororo_split),
    ),
    "flintstones-sv": (
        SPLIT_FILE,
        lambda folder, data: FlintstonesSV(folder, data.max_sentence_length, data.frame_seed, data.drop_leaks),
    ),
    "parquet": (TABLES, lambda folder, data: ParquetStories(folder, data.max_sentence_length)),
}
"""For each layout the file that identifies it, and its reader. `auto` takes the first layout whose file exists."""

FORMATS = ("auto", *_LAYOUTS)


def open_dataset(path: str | Path, format: str = "auto", max_sentence_length: int = 1000) -> StoryDataset:
    """Opens a folder of stories, with default settings.

    Args:
        path: the folder.
        format: one of `FORMATS`; `auto` finds the layout from the names of the files.
        max_sentence_length: largest number of characters in a sentence; stories with a longer one are rejected.

    Returns:
        The data set, whose stories are not read yet.

    Raises:
        DataError: if `format` is unknown, the folder does not exist, or it does not have the layout.
    """
    if format not in FORMATS:
        raise DataError(f"format {format!r}: expected one of {', '.join(FORMATS)}{nearest(format, FORMATS)}.")
    return _open(Path(path), format, DataConfig(max_sentence_length=max_sentence_length))


def open_configured(path: str | Path, data: DataConfig) -> StoryDataset:
    """Opens a folder of stories as a configuration says.

    Args:
        path: the folder.
        data: the layout and the settings of its reader.

    Returns:
        The data set, whose stories are not read yet.

    Raises:
        DataError: if the folder does not exist or does not have the layout.
    """
    return _open(Path(path), data.format, data)


def _open(folder: Path, format: str, data: DataConfig) -> StoryDataset:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise DataError(f"data folder {folder}: found {found}; expected a folder with {_expected(format)}.")
    for name, (file, reader) in _LAYOUTS.items():
        if format in ("auto", name) and any(path.is_file() for path in folder.glob(file)):
            return reader(folder, data)
    raise DataError(f"data folder {folder}: found {_contents(folder)}; expected {_expected(format)}.")


def source_name(dataset: StoryDataset) -> str:
    """Returns `BLOCKS` if the stories of a data set were rendered, else the name of its layout."""
    return BLOCKS if is_rendered(dataset.folder) else dataset.format


def _expected(format: str) -> str:
    return " or ".join(f"{file} (layout {name})" for name, (file, _) in _LAYOUTS.items() if format in ("auto", name))


def _contents(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join([*names[:5], "..."] if len(names) > 5 else names) or "nothing in it"
