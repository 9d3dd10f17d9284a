"""`ListReader`: base class of the readers of the project's own layouts, which list stories one entry each."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from storygan_tf.data.datasets.reader import BadValueError, Reader, require
from storygan_tf.data.datasets.story import Reject, Story
from storygan_tf.data.datasets.story_fields import text

_OPTIONAL_FIELDS = ("labels", "objects")


@dataclasses.dataclass(frozen=True)
class ListEntry:
    """An entry of a list of stories: a line of a text file or a row of a table.

    Attributes:
        number: number of the line or row, from 1.
        name: name of the story if the entry has no `story_id`.
        file: the file at fault, with the entry's number, if the entry cannot be used.
        index_file: `Story.index_file` of the entry's story.
        values: the entry's fields; empty if it cannot be parsed.
        error: the reason why it cannot be parsed; empty if it can.
    """

    number: int
    name: str
    file: str
    index_file: str
    values: dict[str, Any]
    error: str


Entry = TypeVar("Entry", bound=ListEntry)


class ListReader(Reader, Generic[Entry]):
    """Base class of readers of a list with one entry for each story.

    All records of a data set have the same features. Hence, if one story has labels or objects, a story without them is
    rejected.
    """

    def stories(self) -> Iterator[Story | Reject]:
        """Yields a story or a reject for each entry, in the order of the list.

        Raises:
            DataError: if the list cannot be read.
        """
        for story in self._parsed:
            missing = self._missing_field(story) if isinstance(story, Story) else None
            if isinstance(story, Story) and missing:
                yield Reject(story.story_id, story.index_file, f"no {missing}, which other stories have")
            else:
                yield story

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The labels of all stories, sorted; None if no story has labels."""
        frames = [frame for story in self._parsed_stories for frame in story.labels or ()]
        return tuple(sorted({name for frame in frames for name in frame})) if frames else None

    @abc.abstractmethod
    def raw_entries(self) -> Iterator[Entry]:
        """Yields every entry of the list, whether it can be used or not.

        Raises:
            DataError: if the list cannot be read.
        """

    @abc.abstractmethod
    def _story(self, story_id: str, entry: Entry) -> Story:
        """Returns the story of an entry whose `story_id` has been checked.

        Raises:
            BadValueError: if it cannot be used.
        """

    @functools.cached_property
    def _parsed(self) -> list[Story | Reject]:
        return list(self._parse())

    def _parse(self) -> Iterator[Story | Reject]:
        """Yields the story of each entry, or why the entry cannot be used by itself."""
        seen: set[str] = set()
        for entry in self.raw_entries():
            story_id = entry.name
            try:
                require(not entry.error, entry.error)
                story_id = text(entry.values, "story_id")
                require(story_id not in seen, "duplicate story_id")
                seen.add(story_id)
                yield dataclasses.replace(self._story(story_id, entry), index_file=entry.index_file)
            except BadValueError as error:
                yield Reject(story_id, error.file or entry.file, error.reason)

    @property
    def _parsed_stories(self) -> list[Story]:
        return [story for story in self._parsed if isinstance(story, Story)]

    @functools.cached_property
    def _used_fields(self) -> list[str]:
        """The optional fields that at least one story has."""
        stories = self._parsed_stories
        return [name for name in _OPTIONAL_FIELDS if any(getattr(story, name) is not None for story in stories)]

    def _missing_field(self, story: Story) -> str | None:
        """Returns an optional field that other stories have and this one does not, or None."""
        return next((name for name in self._used_fields if getattr(story, name) is None), None)
