"""Reads stories from an Examples artifact for an evaluation, in any order.

This module reads a split of any size in batches, and keeps only the id and the position of each record. The reader is
therefore small enough to be sent to Beam's workers. A training reads copies of its records
(`storygan_tf.data.indexed_stories`).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import IMAGE_SIZE
from storygan_tf.data import example_schema

BATCH = 16
"""Number of stories that are read, drawn and judged together."""


@dataclasses.dataclass(frozen=True)
class StoryBatch:
    """A batch of decoded stories.

    Attributes:
        ids: the id of each story.
        sentences: the T sentences of each story.
        images: true frames, uint8 [stories, T, 64, 64, 3].
        labels: bool [stories, T, L], or None if the stories have no labels.
        objects: the objects {shape, colour, material, size, x, y} in each of the T frames of each story, or None if
            they are unknown.
    """

    ids: list[str]
    sentences: list[list[str]]
    images: np.ndarray
    labels: np.ndarray | None = None
    objects: list[list[list[dict[str, Any]]]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_features(cls, parsed: dict[str, tf.Tensor]) -> StoryBatch:
        """Returns the stories in the result of `tf.io.parse_example` with `example_schema.feature_spec`.

        Raises:
            DataError: if a frame is not 64x64.
        """
        ids = [name.decode() for name in parsed[example_schema.STORY_ID].numpy()]
        encoded = parsed[example_schema.IMAGES].numpy()
        frames = [tf.io.decode_png(image, channels=3).numpy() for image in encoded.ravel()]
        for index, frame in enumerate(frames):
            if frame.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
                raise DataError(
                    f"story {ids[index // encoded.shape[1]]}: found a frame of {frame.shape[1]}x{frame.shape[0]} "
                    f"pixels, expected {IMAGE_SIZE}x{IMAGE_SIZE}: StoryExampleGen resizes frames."
                )
        labels, objects = parsed.get(example_schema.LABELS), parsed.get(example_schema.OBJECTS)
        return cls(
            ids=ids,
            sentences=[[text.decode() for text in row] for row in parsed[example_schema.SENTENCES].numpy()],
            images=np.stack(frames).reshape(*encoded.shape, IMAGE_SIZE, IMAGE_SIZE, 3),
            labels=None if labels is None else labels.numpy() > 0,
            objects=None if objects is None else [[json.loads(frame) for frame in row] for row in objects.numpy()],
        )


@dataclasses.dataclass(frozen=True, order=True)
class _Record:
    """The position of a story's record, and what is needed to check that records are alike.

    Attributes:
        story_id: id of the story.
        file: index of the file.
        number: index of the record in the file.
        frames: number of frames.
        objects: whether the record has objects.
    """

    story_id: str
    file: int
    number: int
    frames: int
    objects: bool


class StoryRecords:
    """The stories of a split, which can be read in any order. Only their ids and positions are kept in memory.

    Args:
        files: gzipped TFRecord files of `storygan_tf.data.example_schema`.
        label_names: names of the labels; empty if the stories have none.

    Attributes:
        ids: ids of all stories, sorted.
        frames: number T of frames in each story.
        has_objects: whether every record has objects.
        label_names: names of the labels.

    Raises:
        DataError: if there is no story, an id occurs twice, or stories differ in T.
    """

    def __init__(self, files: Sequence[str | Path], label_names: Sequence[str] = ()) -> None:
        self.label_names = tuple(label_names)
        self._files = [str(file) for file in files]
        records = sorted(record for index, file in enumerate(self._files) for record in _scan(index, file))
        if not records:
            raise DataError(f"records {self._files}: found no story, expected at least one.")
        _check_alike(records)
        self.ids = [record.story_id for record in records]
        self.frames = records[0].frames
        self.has_objects = all(record.objects for record in records)
        self._positions = [(record.file, record.number) for record in records]

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, indices: Sequence[int] | np.ndarray) -> StoryBatch:
        """Reads some stories. Stories whose records are close to each other in a file are read fastest.

        Args:
            indices: indices of the stories in `ids`, `[stories]`.

        Raises:
            DataError: if the records of these stories have other features than expected.
        """
        contents = self._contents({int(index) for index in indices})
        spec = example_schema.feature_spec(self.frames, label_count=len(self.label_names), objects=self.has_objects)
        try:
            return StoryBatch.from_features(tf.io.parse_example([contents[int(index)] for index in indices], spec))
        except tf.errors.InvalidArgumentError as error:
            ids = [self.ids[index] for index in indices]
            raise DataError(
                f"stories {ids[0]} to {ids[-1]}: found records unlike the others ({error.message}); expected "
                f"{self.frames} frames and labels {list(self.label_names)}."
            ) from error

    def _contents(self, indices: set[int]) -> dict[int, bytes]:
        """Returns serialized records by index. Reads each file from its first needed record to its last."""
        needed = sorted((*self._positions[index], index) for index in indices)
        contents = {}
        for file, group in itertools.groupby(needed, key=lambda entry: entry[0]):
            numbers = {number: index for _, number, index in group}
            first, last = min(numbers), max(numbers)
            for number, content in enumerate(_read(self._files[file], first, last + 1 - first), first):
                if number in numbers:
                    contents[numbers[number]] = content
        return contents

    def batches(self, indices: Sequence[int] | np.ndarray, size: int = BATCH) -> Iterator[StoryBatch]:
        """Yields the stories with the given `indices` in `ids`, in batches of at most `size` stories."""
        return (self.read(indices[start : start + size]) for start in range(0, len(indices), size))


def open_split(examples: str | Path, split: str) -> StoryRecords:
    """Opens a split of an Examples artifact that StoryExampleGen has written.

    Args:
        examples: root folder of the artifact.
        split: name of the split: `train`, `val` or `test`.

    Raises:
        DataError: if there is no story, or the records cannot be read.
    """
    pattern = f"{examples}/Split-{split}/*.gz"
    files = sorted(tf.io.gfile.glob(pattern))
    if not files:
        raise DataError(f"{pattern}: found no records of split {split!r}, expected at least one file.")
    return StoryRecords(files, read_json(f"{examples}/{example_schema.LABELS_FILE}") or ())


def read_json(path: str) -> Any:
    """Returns the content of a JSON file of an artifact, or None if there is no such file."""
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        return json.loads(file.read())


def _scan(file: int, path: str) -> Iterator[_Record]:
    """Yields the position of each record in the file at `path`, which has the index `file`."""
    for number, content in enumerate(_read(path)):
        features = tf.train.Example.FromString(content).features.feature
        story_id = features[example_schema.STORY_ID].bytes_list.value[0].decode()
        frames = len(features[example_schema.IMAGES].bytes_list.value)
        yield _Record(story_id, file, number, frames, bool(features[example_schema.OBJECTS].bytes_list.value))


def _check_alike(records: Sequence[_Record]) -> None:
    """Raises DataError if an id occurs twice in the sorted records, or their numbers of frames differ."""
    for first, second in itertools.pairwise(records):
        if first.story_id == second.story_id:
            raise DataError(f"records: found story {first.story_id!r} twice, expected each story once.")
    for record in records:
        if record.frames != records[0].frames:
            raise DataError(
                f"story {record.story_id}: found {record.frames} frames, expected {records[0].frames} as in "
                f"{records[0].story_id}."
            )


def _read(path: str, first: int = 0, count: int = -1) -> Iterator[bytes]:
    """Yields `count` serialized records of a file from index `first` on; -1 for all the rest."""
    try:
        yield from tf.data.TFRecordDataset(path, compression_type="GZIP").skip(first).take(count).as_numpy_iterator()
    except tf.errors.DataLossError as error:
        raise DataError(f"records {path}: damaged ({error.message}); run StoryExampleGen again.") from error
