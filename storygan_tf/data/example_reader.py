"""Examples artifacts read for evaluation: raw stories in the order of their ids, any of them at any time.

Unlike a training, which holds its stories decoded in memory, this reads a split of any size a batch at a time. What it
keeps of a story is its id and where its record stands, so it travels to Beam's workers.
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
"""Stories that are read, drawn and judged at a time."""


@dataclasses.dataclass(frozen=True)
class StoryBatch:
    """Some stories, decoded.

    Attributes:
        ids: [stories].
        sentences: [stories] of T strings each.
        images: uint8 [stories, T, 64, 64, 3].
        labels: bool [stories, T, L], or None.
        objects: [stories] of T lists of {shape, colour, material, size, x, y} each, or None.
    """

    ids: list[str]
    sentences: list[list[str]]
    images: np.ndarray
    labels: np.ndarray | None = None
    objects: list[list[list[dict[str, Any]]]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, parsed: dict[str, tf.Tensor]) -> StoryBatch:
        """Decodes features as `tf.io.parse_example` gives them.

        Raises:
            DataError: for a frame of another size than 64x64.
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
class _Place:
    """Where a story stands: its id, the number of its file, its number in the file, and what it has."""

    story_id: str
    file: int
    number: int
    frames: int
    objects: bool


class StoryRecords:
    """One split's stories on disk, to be read in any order; in memory are their names and places alone.

    Args:
        files: gzipped TFRecord files of `storygan_tf.data.example_schema`.
        label_names: of the labels, empty where there are none.

    Attributes:
        ids: names of all stories, sorted.
        frames: T.
        has_objects: whether every story tells where its objects are.

    Raises:
        DataError: where there is no story, a name comes twice, or stories differ in T.
    """

    def __init__(self, files: Sequence[str | Path], label_names: Sequence[str] = ()) -> None:
        self.label_names = tuple(label_names)
        self._files = [str(file) for file in files]
        places = sorted(place for number, file in enumerate(self._files) for place in _places(number, file))
        if not places:
            raise DataError(f"records {self._files}: found no story, expected at least one.")
        _check_alike(places)
        self.ids = [place.story_id for place in places]
        self.frames = places[0].frames
        self.has_objects = all(place.objects for place in places)
        self._places = [(place.file, place.number) for place in places]

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, chosen: Sequence[int] | np.ndarray) -> StoryBatch:
        """Reads stories by their places in `ids`; those that stand together are read in one go.

        Raises:
            DataError: where a story has other features than the first.
        """
        contents = self._contents({int(rank) for rank in chosen})
        spec = example_schema.feature_spec(self.frames, label_count=len(self.label_names), objects=self.has_objects)
        try:
            return StoryBatch.of(tf.io.parse_example([contents[int(rank)] for rank in chosen], spec))
        except tf.errors.InvalidArgumentError as error:
            names = [self.ids[rank] for rank in chosen]
            raise DataError(
                f"stories {names[0]} to {names[-1]}: found records unlike the others ({error.message}); expected "
                f"{self.frames} frames and labels {list(self.label_names)}."
            ) from error

    def _contents(self, ranks: set[int]) -> dict[int, bytes]:
        """Returns the serialized records by rank; each file is read from its first wanted record to its last."""
        wanted = sorted((*self._places[rank], rank) for rank in ranks)
        contents = {}
        for file, group in itertools.groupby(wanted, key=lambda place: place[0]):
            numbers = {number: rank for _, number, rank in group}
            first, last = min(numbers), max(numbers)
            for number, content in enumerate(_read(self._files[file], first, last + 1 - first), first):
                if number in numbers:
                    contents[numbers[number]] = content
        return contents

    def batches(self, chosen: Sequence[int] | np.ndarray, size: int = BATCH) -> Iterator[StoryBatch]:
        """Yields the chosen stories, `size` at a time."""
        return (self.read(chosen[start : start + size]) for start in range(0, len(chosen), size))


def open_split(examples: str | Path, split: str) -> StoryRecords:
    """Opens a split of an Examples artifact, as StoryExampleGen writes it.

    Args:
        examples: the artifact's root.
        split: `train` or `test`.

    Raises:
        DataError: where it holds no story.
    """
    pattern = f"{examples}/Split-{split}/*.gz"
    files = sorted(tf.io.gfile.glob(pattern))
    if not files:
        raise DataError(f"{pattern}: found no records of split {split!r}, expected at least one file.")
    return StoryRecords(files, read_json(f"{examples}/{example_schema.LABELS_FILE}") or ())


def read_json(path: str) -> Any:
    """Returns what a JSON file of an artifact holds, None where there is no such file."""
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        return json.loads(file.read())


def _places(file: int, path: str) -> Iterator[_Place]:
    for number, content in enumerate(_read(path)):
        features = tf.train.Example.FromString(content).features.feature
        name = features[example_schema.STORY_ID].bytes_list.value[0].decode()
        frames = len(features[example_schema.IMAGES].bytes_list.value)
        yield _Place(name, file, number, frames, bool(features[example_schema.OBJECTS].bytes_list.value))


def _check_alike(places: Sequence[_Place]) -> None:
    for first, second in itertools.pairwise(places):
        if first.story_id == second.story_id:
            raise DataError(f"records: story {first.story_id!r} is there twice, expected each story once.")
    for place in places:
        if place.frames != places[0].frames:
            raise DataError(
                f"story {place.story_id}: found {place.frames} frames, expected {places[0].frames} as in "
                f"{places[0].story_id}."
            )


def _read(path: str, first: int = 0, count: int = -1) -> Iterator[bytes]:
    """Yields `count` (by default all) serialized records of a file, from the given one on."""
    try:
        yield from tf.data.TFRecordDataset(path, compression_type="GZIP").skip(first).take(count).as_numpy_iterator()
    except tf.errors.DataLossError as error:
        raise DataError(f"records {path}: damaged ({error.message}); run StoryExampleGen again.") from error
