"""What the readers of all layouts share."""

from __future__ import annotations

import abc
import dataclasses
import functools
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets.story import Reject, Story

BLOCKS = "blocks"
"""Name of the rendered default, whatever the layout its folder is read by."""

SOURCE_FILE = "SOURCE"
"""In a folder that was made here: what made it; where its stories were rendered, the first word is `BLOCKS`."""

REJECTS_FILE = "rejects.jsonl"
"""In a converted folder: the stories that were set aside."""

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Zs"}
"""Unicode's categories of characters that leave no mark."""


def is_rendered(folder: Path) -> bool:
    """Tells whether a folder holds rendered stories, `BLOCKS`."""
    file = folder / SOURCE_FILE
    return file.is_file() and file.read_bytes().startswith(f"{BLOCKS}:".encode())


class BadValueError(Exception):
    """Why a story cannot be used.

    Args:
        reason: in words that do not differ from story to story.
        file: the file at fault, where it is not the one that lists the stories.
    """

    def __init__(self, reason: str, file: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.file = file


def require(condition: bool, reason: str, file: str | None = None) -> None:
    """Raises BadValueError where a condition does not hold."""
    if not condition:
        raise BadValueError(reason, file)


def check_sentence(sentence: str, max_length: int, file: str | None = None) -> None:
    """Raises BadValueError for a sentence that is blank, too long, or holds control or half characters.

    Args:
        sentence: the sentence.
        max_length: characters that it may have.
        file: the file at fault.
    """
    require(not all(map(_is_invisible, sentence)), "blank sentence", file)
    require(len(sentence) <= max_length, f"sentence of more than {max_length} characters", file)
    require(not any(map(_is_control, sentence)), "control characters in a sentence", file)
    require(not any("\ud800" <= character <= "\udfff" for character in sentence), "not UTF-8", file)


def _is_invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in _INVISIBLE


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" and not character.isspace()


def resolve_inside(root: Path, name: str) -> Path:
    """Returns a file that must lie below a folder, also after symbolic links are followed.

    Args:
        root: the folder, resolved.
        name: the file's path relative to it.

    Raises:
        BadValueError: where it lies elsewhere or is missing.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise BadValueError("image path leaves the data folder", name)
    try:
        real = (root / path).resolve()
        inside, there = real.is_relative_to(root), real.is_file()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, or of links in a circle
        raise BadValueError("image path cannot be followed", name) from None
    require(inside, "image path leaves the data folder", name)
    require(there, "missing image", name)
    return real


class Reader(abc.ABC):
    """Reader of a folder in one layout.

    Args:
        folder: the folder.
        max_sentence_length: characters a sentence may have.
    """

    format: str

    def __init__(self, folder: Path, max_sentence_length: int = 1000) -> None:
        self.folder = folder
        self._root = folder.resolve()
        self._max_sentence_length = max_sentence_length

    @property
    @abc.abstractmethod
    def label_names(self) -> tuple[str, ...] | None:
        """The labels' names in a fixed order; None without labels."""

    @property
    def published(self) -> Mapping[str, int] | None:
        """Stories that the published set has, by split; None where there is none."""
        return None

    @property
    def notes(self) -> Sequence[str]:
        """What is worth knowing of the data set as a whole, a line each."""
        return ()

    @abc.abstractmethod
    def stories(self) -> Iterator[Story | Reject]:
        """Yields every story, or why it cannot be used. Pictures are looked for, not read."""

    def owns(self, path: PurePath) -> bool:
        """Tells whether a file, relative to the folder, is part of the layout, whether a story uses it or not."""
        return str(path) in (SOURCE_FILE, REJECTS_FILE)

    def _needed(self, name: str) -> Path:
        """Returns a file that the layout cannot do without.

        Raises:
            DataError: where it is missing.
        """
        path = self.folder / name
        if not path.is_file():
            raise DataError(f"{path}: found no such file; expected it, as part of the layout {self.format}.")
        return path


class PublishedReader(Reader):
    """Reader of a set whose publisher gave each story a split."""

    @abc.abstractmethod
    def split_named(self, story_id: str) -> str | None:
        """Returns the published split of a story, whether it can be used or not; None where there is none such."""


class ListReader(Reader):
    """Reader of a list that tells of each story in an entry of its own.

    Records of one data set have the same features: where one story has labels or objects, all must have them.
    """

    def stories(self) -> Iterator[Story | Reject]:
        """Yields a story or a reject for each entry, in their order.

        Raises:
            DataError: where the list cannot be read.
        """
        for place, entry in self._entries:
            if isinstance(entry, Story):
                reason = self._missing(entry)
                yield Reject(entry.story_id, place, reason) if reason else dataclasses.replace(entry, listed=place)
            else:
                yield entry

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The labels of all stories, sorted; None where no story has any."""
        frames = [frame for story in self._accepted for frame in story.labels or ()]
        return tuple(sorted({name for frame in frames for name in frame})) if frames else None

    @abc.abstractmethod
    def values(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields each entry's number, and what it says, usable or not; nothing where it cannot be understood."""

    @abc.abstractmethod
    def _read(self) -> Iterator[tuple[str, Story | Reject]]:
        """Yields each entry's place, and its story or why it cannot be used by itself."""

    @functools.cached_property
    def _entries(self) -> list[tuple[str, Story | Reject]]:
        return list(self._read())

    @property
    def _accepted(self) -> list[Story]:
        return [entry for _, entry in self._entries if isinstance(entry, Story)]

    def _missing(self, story: Story) -> str | None:
        for name in ("labels", "objects"):
            if getattr(story, name) is None and any(getattr(other, name) is not None for other in self._firsts):
                return f"no {name}, which other stories have"
        return None

    @functools.cached_property
    def _firsts(self) -> list[Story]:
        """The first story with labels and the first with objects."""
        found = (
            next((story for story in self._accepted if getattr(story, name) is not None), None)
            for name in ("labels", "objects")
        )
        return [story for story in found if story is not None]
