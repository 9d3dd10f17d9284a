"""Base classes of the readers, and the checks that all layouts share."""

from __future__ import annotations

import abc
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets.story import Reject, Story

BLOCKS = "blocks"
"""Name of the rendered data set, whichever layout its folder is read as."""

SOURCE_FILE = "SOURCE"
"""Text file that says how `storygan data` wrote a folder; it starts with `BLOCKS` if the stories were rendered."""

REJECTS_FILE = "rejects.jsonl"
"""File in a converted folder that lists the stories which could not be converted."""

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Zs"}
"""Unicode categories of characters that print nothing."""


def is_rendered(folder: Path) -> bool:
    """Returns whether a folder holds rendered stories (`BLOCKS`)."""
    file = folder / SOURCE_FILE
    return file.is_file() and file.read_bytes().startswith(f"{BLOCKS}:".encode())


class BadValueError(Exception):
    """A story cannot be used.

    Args:
        reason: what is wrong, without names, so that equal reasons can be counted.
        file: the file at fault; None for the file that lists the stories.
    """

    def __init__(self, reason: str, file: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.file = file


def require(condition: bool, reason: str, file: str | None = None) -> None:
    """Raises BadValueError with `reason` and `file` if `condition` is false."""
    if not condition:
        raise BadValueError(reason, file)


def check_sentence(sentence: str, max_length: int, file: str | None = None) -> None:
    """Checks that a sentence can be used.

    Args:
        sentence: the sentence.
        max_length: largest number of characters.
        file: the file at fault, for the error.

    Raises:
        BadValueError: if the sentence is blank or too long, or contains control characters or surrogates.
    """
    require(not all(map(_is_invisible, sentence)), "blank sentence", file)
    require(len(sentence) <= max_length, f"sentence of more than {max_length} characters", file)
    require(not any(map(_is_control, sentence)), "control characters in a sentence", file)
    require(not has_surrogates(sentence), "not UTF-8", file)


def has_surrogates(text: str) -> bool:
    """Returns whether a text contains surrogates: JSON can write them as escapes, but UTF-8 cannot encode them."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _is_invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in _INVISIBLE


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" and not character.isspace()


def resolve_inside(root: Path, name: str) -> Path:
    """Returns the resolved path of a file that must lie below a folder, symbolic links included.

    Args:
        root: the folder, resolved.
        name: the file's path relative to it.

    Raises:
        BadValueError: if the file lies elsewhere or does not exist.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise BadValueError("image path leaves the data folder", name)
    try:
        real = (root / path).resolve()
        inside, exists = real.is_relative_to(root), real.is_file()
    except (OSError, ValueError, RuntimeError):  # the name is too long, contains a NUL, or is a circle of links
        raise BadValueError("image path cannot be followed", name) from None
    require(inside, "image path leaves the data folder", name)
    require(exists, "missing image", name)
    return real


class Reader(abc.ABC):
    """Base class of the readers; a subclass reads folders in one layout.

    It implements `storygan_tf.data.datasets.story.StoryDataset`.

    Args:
        folder: the data folder.
        max_sentence_length: largest number of characters in a sentence.
    """

    format: str

    def __init__(self, folder: Path, max_sentence_length: int = 1000) -> None:
        self.folder = folder
        self._root = folder.resolve()
        self._max_sentence_length = max_sentence_length

    @property
    @abc.abstractmethod
    def label_names(self) -> tuple[str, ...] | None:
        """The names of the labels in a fixed order; None without labels."""

    @property
    def published(self) -> Mapping[str, int] | None:
        """Number of stories in each split of the published data set; None if there is no published data set."""
        return None

    @property
    def notes(self) -> Sequence[str]:
        """Remarks on the data set as a whole, one line each."""
        return ()

    @abc.abstractmethod
    def stories(self) -> Iterator[Story | Reject]:
        """Yields every story, or a reject with the reason why it cannot be used.

        Checks that the picture files exist, but does not read them.
        """

    def is_layout_file(self, path: PurePath) -> bool:
        """Returns whether a file belongs to the layout, even if no story uses it.

        Args:
            path: the file's path relative to the folder.
        """
        return str(path) in (SOURCE_FILE, REJECTS_FILE)

    def _require_file(self, name: str) -> Path:
        """Returns the path of a file in the folder that the layout requires.

        Raises:
            DataError: if it does not exist.
        """
        path = self.folder / name
        if not path.is_file():
            raise DataError(f"{path}: found no such file; expected it, as part of the layout {self.format}.")
        return path


class PublishedReader(Reader):
    """Base class of readers of data sets that are published with a split for each story."""

    @abc.abstractmethod
    def published_split(self, story_id: str) -> str | None:
        """Returns the published split of a story, even of a rejected one; None if no split lists the story."""
