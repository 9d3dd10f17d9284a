"""`open_dataset`: a folder of stories in any layout that is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from storygan_tf.datasets.clevr_sv import DICT_FILE, ClevrSV
from storygan_tf.datasets.story import StoryDataset
from storygan_tf.datasets.story_folder import STORIES_FILE, StoryFolder
from storygan_tf.errors import DataError, nearest

_LAYOUTS: dict[str, tuple[str, Callable[[Path, int], StoryDataset]]] = {
    "story-folder": (STORIES_FILE, StoryFolder),
    "clevr-sv": (DICT_FILE, ClevrSV),
}
"""The file by which each layout is known, and its reader; the first that fits is taken."""

FORMATS = ("auto", *_LAYOUTS)

BLOCKS = "blocks"
"""Name of the rendered default, whatever the layout its folder is read by."""

SOURCE_FILE = "SOURCE"
"""In a rendered folder: what made it; its first word is `BLOCKS`."""


def open_dataset(path: str | Path, format: str = "auto", max_sentence_length: int = 1000) -> StoryDataset:
    """Opens a folder of stories.

    Args:
        path: the folder.
        format: `story-folder`, `clevr-sv`, or `auto`: what its files say.
        max_sentence_length: characters a sentence may have.

    Raises:
        DataError: where the folder, or the file that makes it one of stories, is missing or cannot be read.
    """
    folder = Path(path)
    if format not in FORMATS:
        raise DataError(f"format {format!r}: expected one of {', '.join(FORMATS)}{nearest(format, FORMATS)}.")
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise DataError(f"data folder {folder}: found {found}; expected a folder with {_expected(format)}.")
    for name, (file, reader) in _LAYOUTS.items():
        if format in ("auto", name) and (folder / file).is_file():
            return reader(folder, max_sentence_length)
    raise DataError(f"data folder {folder}: found {_contents(folder)}; expected {_expected(format)}.")


def source_of(dataset: StoryDataset) -> str:
    """Returns what a folder's stories are: `BLOCKS`, else the name of their layout."""
    file = dataset.folder / SOURCE_FILE
    rendered = file.is_file() and file.read_bytes().startswith(f"{BLOCKS}:".encode())
    return BLOCKS if rendered else dataset.format


def _expected(format: str) -> str:
    return " or ".join(f"{file} (layout {name})" for name, (file, _) in _LAYOUTS.items() if format in ("auto", name))


def _contents(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join([*names[:5], "..."] if len(names) > 5 else names) or "nothing in it"
