"""Reader of a story folder, the project's own format: `stories.jsonl` with one story a line, and picture files.

    {"story_id": "s000001", "split": "train", "sentences": ["...", "..."], "images": ["images/s000001_1.png", "..."],
     "labels": [["red", "cube"], ["red", "cube", "sphere"]]}

`split`, `labels` and `objects` are optional. A line that cannot be used is rejected with a reason; the other lines are
still used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets.list_reader import ListEntry, ListReader
from storygan_tf.data.datasets.reader import BadValueError, require, resolve_inside
from storygan_tf.data.datasets.story import Story
from storygan_tf.data.datasets.story_fields import read_story, texts

STORIES_FILE = "stories.jsonl"


class StoryFolder(ListReader[ListEntry]):
    """Reader of a story folder.

    Args:
        folder: the folder with `stories.jsonl`.
        max_sentence_length: largest number of characters in a sentence.
    """

    format = "story-folder"

    def is_layout_file(self, path: PurePath) -> bool:
        """Returns whether a file is `stories.jsonl` or was written together with it by `storygan data`."""
        return str(path) == STORIES_FILE or super().is_layout_file(path)

    def raw_entries(self) -> Iterator[ListEntry]:
        """Yields every line that is not blank.

        Raises:
            DataError: if `stories.jsonl` cannot be read.
        """
        for number, line in self._lines():
            values: dict[str, Any] = {}
            fault = ""
            try:
                values = parse_line(line)
            except BadValueError as error:
                fault = error.reason
            yield ListEntry(number, f"line {number}", f"{STORIES_FILE}:{number}", STORIES_FILE, values, fault)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yields the number, from 1, and the content of each line that is not blank."""
        path = self.folder / STORIES_FILE
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from error

    def _story(self, story_id: str, entry: ListEntry) -> Story:
        values = entry.values
        texts(values, "sentences")  # checked before the images, so that its reason comes first
        images = texts(values, "images")
        files = (resolve_inside(self._root, name) for name in images)
        return read_story(story_id, values, len(images), files, self._max_sentence_length)


def parse_line(line: bytes) -> dict[str, Any]:
    """Returns the JSON object that a line holds; raises BadValueError if it holds anything else."""
    try:
        values = json.loads(line.decode())
    except UnicodeDecodeError:
        raise BadValueError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise BadValueError("not JSON") from None
    require(isinstance(values, dict), "not a JSON object")
    return dict(values)
