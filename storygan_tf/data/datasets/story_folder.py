"""The project's own interchange format: `stories.jsonl`, one story a line, beside any folders of pictures.

    {"story_id": "s000001", "split": "train", "sentences": ["...", "..."], "images": ["images/s000001_1.png", "..."],
     "labels": [["red", "cube"], ["red", "cube", "sphere"]]}

`split`, `labels` and `objects` are optional. A line that cannot be used is set aside with its reason; the others count.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets.reader import BadValueError, ListReader, require, resolve_inside
from storygan_tf.data.datasets.story import Reject, Story
from storygan_tf.data.datasets.story_fields import read_story, text, texts

STORIES_FILE = "stories.jsonl"


class StoryFolder(ListReader):
    """Reader of a story folder.

    Args:
        folder: the folder with `stories.jsonl`.
        max_sentence_length: characters a sentence may have.
    """

    format = "story-folder"

    def owns(self, path: PurePath) -> bool:
        """Tells whether a file is `stories.jsonl` or was left by what made the folder."""
        return str(path) == STORIES_FILE or super().owns(path)

    def values(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the number of each line that is not blank and what it says, nothing where it is no JSON object."""
        for number, line in self._lines():
            values: dict[str, Any] = {}
            with contextlib.suppress(BadValueError):
                values = parse_line(line)
            yield number, values

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yields the number and content of each line that is not blank."""
        path = self.folder / STORIES_FILE
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from error

    def _read(self) -> Iterator[tuple[str, Story | Reject]]:
        seen: set[str] = set()
        for number, line in self._lines():
            story_id, entry = f"line {number}", f"{STORIES_FILE}:{number}"
            try:
                values = parse_line(line)
                story_id = text(values, "story_id")
                require(story_id not in seen, "duplicate story_id")
                seen.add(story_id)
                yield STORIES_FILE, self._story(story_id, values)
            except BadValueError as error:
                yield STORIES_FILE, Reject(story_id, error.file or entry, error.reason)

    def _story(self, story_id: str, values: dict[str, Any]) -> Story:
        texts(values, "sentences")
        images = texts(values, "images")
        files = (resolve_inside(self._root, name) for name in images)
        return read_story(story_id, values, len(images), files, self._max_sentence_length)


def parse_line(line: bytes) -> dict[str, Any]:
    """Returns what a line says; raises BadValueError where it is no JSON object."""
    try:
        values = json.loads(line.decode())
    except UnicodeDecodeError:
        raise BadValueError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise BadValueError("not JSON") from None
    require(isinstance(values, dict), "not a JSON object")
    return dict(values)
