"""Examples artifacts read for evaluation: raw stories in the order of their ids, any of them at any time.

Unlike a training, which holds its stories decoded in memory, this reads a split of any size in constant memory.
"""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from storygan_tf import records
from storygan_tf.config import IMAGE_SIZE
from storygan_tf.errors import DataError

BATCH = 16
"""Stories that are read, drawn and judged at a time."""


class StoryBatch:
    """Some stories, decoded.

    Args:
        parsed: features as `tf.io.parse_example` gives them.

    Attributes:
        ids: [stories].
        sentences: [stories] of T strings each.
        images: uint8 [stories, T, 64, 64, 3].
        labels: bool [stories, T, L], or None.
    """

    def __init__(self, parsed: dict[str, tf.Tensor]) -> None:
        self.ids = [name.decode() for name in parsed[records.STORY_ID].numpy()]
        self.sentences = [[text.decode() for text in row] for row in parsed[records.SENTENCES].numpy()]
        encoded = parsed[records.IMAGES].numpy()
        frames = [tf.io.decode_png(image, channels=3).numpy() for image in encoded.ravel()]
        for index, frame in enumerate(frames):
            if frame.shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
                raise DataError(
                    f"story {self.ids[index // encoded.shape[1]]}: found a frame of {frame.shape[1]}x{frame.shape[0]} "
                    f"pixels, expected {IMAGE_SIZE}x{IMAGE_SIZE}: StoryExampleGen resizes frames."
                )
        self.images = np.stack(frames).reshape(*encoded.shape, IMAGE_SIZE, IMAGE_SIZE, 3)
        labels = parsed.get(records.LABELS)
        self.labels = None if labels is None else labels.numpy() > 0


class StoryRecords:
    """One split's stories on disk, to be read in any order; in memory are their names alone.

    The records are copied, as they are, into a temporary file in which each can be found.

    Args:
        files: gzipped TFRecord files of `storygan_tf.records`.
        label_names: of the labels, empty where there are none.

    Attributes:
        ids: names of all stories, sorted.
        frames: T.

    Raises:
        DataError: where there is no story, a name comes twice, or stories differ in T or in having labels.
    """

    def __init__(self, files: Sequence[str | Path], label_names: Sequence[str] = ()) -> None:
        self.label_names = tuple(label_names)
        self._copy = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self._copy.close)
        places = sorted(self._copied(files))
        if not places:
            raise DataError(f"records {[str(file) for file in files]}: found no story, expected at least one.")
        self.ids = [name for name, *_ in places]
        self._places = [(start, size) for _, start, size, _ in places]
        for first, second in zip(self.ids, self.ids[1:], strict=False):
            if first == second:
                raise DataError(f"records: story {first!r} is there twice, expected each story once.")
        self.frames = places[0][3]
        for name, _, _, frames in places:
            if frames != self.frames:
                raise DataError(f"story {name}: found {frames} frames, expected {self.frames} as in {self.ids[0]}.")

    def _copied(self, files: Sequence[str | Path]) -> Iterator[tuple[str, int, int, int]]:
        """Copies the records, yielding of each: name, where it starts, its size and T."""
        start = 0
        for content in _contents([str(file) for file in files]):
            features = tf.train.Example.FromString(content).features.feature
            self._copy.write(content)
            name = features[records.STORY_ID].bytes_list.value[0].decode()
            yield name, start, len(content), len(features[records.IMAGES].bytes_list.value)
            start += len(content)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, chosen: Sequence[int] | np.ndarray) -> StoryBatch:
        """Reads stories by their places in `ids`.

        Raises:
            DataError: where a story has other features than the first.
        """
        contents = []
        for index in chosen:
            start, size = self._places[index]
            self._copy.seek(start)
            contents.append(self._copy.read(size))
        spec = records.feature_spec(self.frames, label_count=len(self.label_names))
        try:
            return StoryBatch(tf.io.parse_example(contents, spec))
        except tf.errors.InvalidArgumentError as error:
            names = [self.ids[index] for index in chosen]
            raise DataError(
                f"stories {names[0]} to {names[-1]}: found records unlike the others ({error.message}); expected "
                f"{self.frames} frames and labels {list(self.label_names)}."
            ) from error

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
    return StoryRecords(files, _label_names(f"{examples}/{records.LABELS_FILE}"))


def _contents(files: list[str]) -> Iterator[bytes]:
    try:
        yield from tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator()
    except tf.errors.DataLossError as error:
        raise DataError(f"records {files}: damaged ({error.message}); run StoryExampleGen again.") from error


def _label_names(path: str) -> list[str]:
    if not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path) as file:
        return list(json.loads(file.read()))
