"""The project's own interchange format: `stories.jsonl`, one story a line, beside any folders of pictures.

    {"story_id": "s000001", "split": "train", "sentences": ["...", "..."], "images": ["images/s000001_1.png", "..."],
     "labels": [["red", "cube"], ["red", "cube", "sphere"]]}

`split`, `labels` and `objects` are optional. A line that cannot be used is set aside with its reason; the others count.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from storygan_tf.datasets.story import SPLITS, Reject, Story
from storygan_tf.errors import DataError

STORIES_FILE = "stories.jsonl"

OBJECT_TEXTS = ("shape", "colour", "material", "size")


class _BadLineError(Exception):
    """Why a line cannot be used: the reason, and the file at fault where it is another."""

    def __init__(self, reason: str, file: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.file = file


class StoryFolder:
    """Reader of a story folder.

    Args:
        folder: the folder with `stories.jsonl`.
        max_sentence_length: characters a sentence may have.
    """

    format = "story-folder"

    def __init__(self, folder: Path, max_sentence_length: int = 1000) -> None:
        self.folder = folder
        self._root = folder.resolve()
        self._max_sentence_length = max_sentence_length

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The labels of all stories, sorted; None where no story has any."""
        frames = [frame for story in self._accepted for frame in story.labels or ()]
        return tuple(sorted({name for frame in frames for name in frame})) if frames else None

    def stories(self) -> Iterator[Story | Reject]:
        """Yields a story or a reject for each line, in their order.

        Raises:
            DataError: where `stories.jsonl` cannot be read.
        """
        for entry in self._entries:
            reason = self._missing(entry) if isinstance(entry, Story) else None
            yield self._reject(entry.story_id, reason) if reason else entry

    @property
    def _accepted(self) -> list[Story]:
        return [entry for entry in self._entries if isinstance(entry, Story)]

    def _missing(self, story: Story) -> str | None:
        """Records of one data set have the same features, so what one story has, all must have."""
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

    def _reject(self, story_id: str, reason: str, file: str | None = None) -> Reject:
        return Reject(story_id, file or STORIES_FILE, reason)

    @functools.cached_property
    def _entries(self) -> list[Story | Reject]:
        path = self.folder / STORIES_FILE
        try:
            with path.open("rb") as file:
                return list(self._read(enumerate(file, start=1)))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from error

    def _read(self, lines: Iterator[tuple[int, bytes]]) -> Iterator[Story | Reject]:
        seen: set[str] = set()
        for number, line in lines:
            if not line.strip():
                continue
            story_id = f"line {number}"
            try:
                values = _parse(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
                story_id = _text(values, "story_id")
                _require(story_id not in seen, "duplicate story_id")
                seen.add(story_id)
                yield self._story(story_id, values)
            except _BadLineError as error:
                yield self._reject(story_id, error.reason, error.file or f"{STORIES_FILE}:{number}")

    def _story(self, story_id: str, values: dict[str, Any]) -> Story:
        sentences, images = _texts(values, "sentences"), _texts(values, "images")
        _require(bool(sentences), "no sentences")
        _require(
            len(sentences) == len(images), f"{len(sentences)} sentences for {len(images)} images; they must be as many"
        )
        for sentence in sentences:
            self._check_sentence(sentence)
        return Story(
            story_id=story_id,
            split=_split(values),
            sentences=sentences,
            images=tuple(self._image(name) for name in images),
            labels=_labels(values, len(images)),
            objects=_objects(values, len(images)),
        )

    def _check_sentence(self, sentence: str) -> None:
        _require(bool(sentence.strip()), "blank sentence")
        _require(
            len(sentence) <= self._max_sentence_length, f"sentence of more than {self._max_sentence_length} characters"
        )

    def _image(self, name: str) -> Path:
        """Returns the file of a picture, which must lie below the folder, also after symbolic links are followed."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise _BadLineError("image path leaves the data folder", name)
        try:
            real = (self._root / path).resolve()
            inside, there = real.is_relative_to(self._root), real.is_file()
        except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, or of links in a circle
            raise _BadLineError("image path cannot be followed", name) from None
        if not inside:
            raise _BadLineError("image path leaves the data folder", name)
        if not there:
            raise _BadLineError("missing image", name)
        return real


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise _BadLineError(reason)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line.decode())
    except UnicodeDecodeError:
        raise _BadLineError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise _BadLineError("not JSON") from None
    _require(isinstance(values, dict), "not a JSON object")
    return dict(values)


def _text(values: dict[str, Any], key: str) -> str:
    _require(key in values, f"no {key}")
    _require(_is_text(values[key]), f"{key} is not a text")
    _require(bool(values[key].strip()), f"{key} is blank")
    return str(values[key])


def _texts(values: dict[str, Any], key: str) -> tuple[str, ...]:
    _require(key in values, f"no {key}")
    _require(_is_texts(values[key]), f"{key} is not a list of texts")
    return tuple(values[key])


def _is_text(value: Any) -> bool:
    """Tells whether a value is a text that UTF-8 can hold: JSON can write halves of characters, records cannot."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _split(values: dict[str, Any]) -> str | None:
    split = values.get("split")
    _require(split is None or split in SPLITS, f"split is none of {', '.join(SPLITS)}")
    return split


def _per_frame(values: dict[str, Any], key: str, frames: int) -> list[list[Any]] | None:
    value = values.get(key)
    if value is None:
        return None
    _require(isinstance(value, list) and all(isinstance(frame, list) for frame in value), f"{key} is no list of lists")
    _require(len(value) == frames, f"{key} for another number of frames")
    return list(value)


def _labels(values: dict[str, Any], frames: int) -> tuple[tuple[str, ...], ...] | None:
    labels = _per_frame(values, "labels", frames)
    if labels is None:
        return None
    _require(all(map(_is_texts, labels)), "labels are not texts")
    return tuple(map(tuple, labels))


def _objects(values: dict[str, Any], frames: int) -> tuple[tuple[dict[str, Any], ...], ...] | None:
    objects = _per_frame(values, "objects", frames)
    if objects is None:
        return None
    _require(
        all(_is_object(item) for frame in objects for item in frame),
        f"objects are not {{{', '.join(OBJECT_TEXTS)}, x, y}}",
    )
    return tuple(map(tuple, objects))


def _is_object(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and all(_is_text(item.get(key)) for key in OBJECT_TEXTS)
        and all(_is_number(item.get(key)) for key in ("x", "y"))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
