"""Decoded stories in memory, and the interface through which a training reads stories, in memory or from a file."""

from __future__ import annotations

import dataclasses
import functools
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import IMAGE_SIZE, StoryGANConfig
from storygan_tf.data import example_schema

FIELDS = ("images", "vectors", "labels")
"""The fields of a story that mini-batches contain."""


class StorySource(Protocol):
    """The stories of a training, in a fixed order."""

    def __len__(self) -> int:
        """Returns the number of stories."""

    @property
    def frames(self) -> int:
        """Number T of frames of each story."""

    def read(self, indices: Sequence[int] | np.ndarray) -> Stories:
        """Returns some of the stories, decoded, in the order of `indices`."""

    def batches(self, chosen: tf.data.Dataset) -> tf.data.Dataset:
        """Reads batches of chosen stories.

        Args:
            chosen: dataset of dictionaries of tensors [n], of which `story`, int64, holds the indices of stories. n is
                static.

        Returns:
            Dataset of dictionaries with `images` uint8 [n, T, 64, 64, 3], `vectors` float32 [n, T, sentence_size],
            `labels` uint8 [n, T, labels], and the other keys of `chosen`.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class Stories:
    """Decoded stories in memory. A story of four frames takes 49 KB, and as much again once mini-batches are drawn.

    Attributes:
        ids: the id of each story.
        sentences: the T sentences of each story.
        images: uint8 [stories, T, 64, 64, 3].
        vectors: float32 [stories, T, sentence_size].
        labels: uint8 [stories, T, labels], 0 or 1; [stories, T, 0] if the model has no labels.
    """

    ids: list[str]
    sentences: list[list[str]]
    images: np.ndarray
    vectors: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Returns the number of stories."""
        return len(self.ids)

    @property
    def frames(self) -> int:
        """Number T of frames of each story."""
        return int(self.images.shape[1])

    def first(self, count: int) -> Stories:
        """Returns the first `count` stories, or all if there are fewer."""
        return Stories(*(getattr(self, field.name)[:count] for field in dataclasses.fields(self)))

    def read(self, indices: Sequence[int] | np.ndarray) -> Stories:
        """Returns some of the stories, in the order of `indices`."""
        chosen = list(indices)
        return Stories(
            ids=[self.ids[index] for index in chosen],
            sentences=[self.sentences[index] for index in chosen],
            **{name: getattr(self, name)[chosen] for name in FIELDS},
        )

    @functools.cached_property
    def _tensors(self) -> dict[str, tf.Tensor]:
        """The fields of mini-batches as tensors in the host's memory."""
        with tf.device("/cpu:0"):
            return {name: tf.constant(getattr(self, name)) for name in FIELDS}

    def batches(self, chosen: tf.data.Dataset) -> tf.data.Dataset:
        """Gathers batches of chosen stories; see `StorySource.batches`."""
        tensors = self._tensors

        @tf.autograph.experimental.do_not_convert
        def gather(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            others = {name: values for name, values in batch.items() if name != "story"}
            return others | {name: tf.gather(tensor, batch["story"]) for name, tensor in tensors.items()}

        return chosen.map(gather)


def read_stories(paths: Sequence[str | Path], config: StoryGANConfig, limit: int | None = None) -> Stories:
    """Reads transformed records into memory and decodes their frames.

    Args:
        paths: gzipped TFRecord files that Transform has written.
        config: `frames`, `sentence_size` and `labels` must fit the records.
        limit: largest number of stories, the first by id; None for all.

    Raises:
        DataError: if a file cannot be read, there is no record, or a record does not fit `config`.
    """
    spec = example_schema.feature_spec(config.frames, config.labels, config.sentence_size)
    entries = parse_files(paths, config, functools.partial(tf.io.parse_single_example, features=spec))
    by_id = heapq.nsmallest(limit, entries, key=_id_of) if limit is not None else sorted(entries, key=_id_of)
    if not by_id:
        raise no_story(paths)
    return decode_stories(by_id, config, paths)


def _id_of(entry: dict[str, Any]) -> bytes:
    return bytes(entry[example_schema.STORY_ID])


def parse_files(
    paths: Sequence[str | Path], config: StoryGANConfig, parse: Callable[[tf.Tensor], Any]
) -> Iterator[Any]:
    """Yields what `parse` returns for each record of gzipped TFRecord files, as NumPy arrays.

    Raises:
        DataError: if a file cannot be read, or a record does not fit `config`.
    """
    records = tf.data.TFRecordDataset([str(path) for path in paths], compression_type="GZIP")
    parsed = records.map(parse, num_parallel_calls=2, deterministic=True)
    try:
        yield from parsed.as_numpy_iterator()
    except tf.errors.OpError as error:
        raise unfit_records(paths, config, error) from error


def unfit_records(paths: Sequence[str | Path], config: StoryGANConfig, error: tf.errors.OpError) -> DataError:
    """Returns the error to raise if records cannot be read or parsed because of `error`."""
    if isinstance(error, tf.errors.InvalidArgumentError):
        return DataError(
            f"records {paths[0]}: expected stories of {config.frames} frames, vectors of {config.sentence_size} and "
            f"{config.labels} labels (model.frames, model.sentence_size, model.labels); found: {error.message}"
        )
    return DataError(
        f"records {', '.join(map(str, paths))}: cannot be read ({error.message}); expected complete gzipped "
        "TFRecord files. Prepare the data again."
    )


def no_story(paths: Sequence[str | Path]) -> DataError:
    """Returns the error to raise if files contain no record."""
    return DataError(f"records {[str(path) for path in paths]}: no story found, expected at least one.")


def decode_stories(entries: Iterable[dict[str, Any]], config: StoryGANConfig, paths: Sequence[str | Path]) -> Stories:
    """Returns parsed records as stories in memory.

    Args:
        entries: records as `example_schema.feature_spec` parses them, as NumPy arrays; at least one.
        config: the sizes of the stories.
        paths: files that the records are from, for error messages.

    Raises:
        DataError: if a frame cannot be decoded or is not 64x64.
    """
    listed = list(entries)
    images = np.empty([len(listed), config.frames, IMAGE_SIZE, IMAGE_SIZE, 3], np.uint8)
    pngs = tf.constant(np.array([entry[example_schema.IMAGES] for entry in listed], object), tf.string)
    decoded = tf.data.Dataset.from_tensor_slices(pngs).map(decode_frames, num_parallel_calls=tf.data.AUTOTUNE)
    try:
        for number, story in enumerate(decoded.as_numpy_iterator()):
            images[number] = story
    except tf.errors.OpError as error:
        raise unfit_records(paths, config, error) from error
    no_labels = np.zeros([config.frames, 0])
    return Stories(
        ids=[_id_of(entry).decode() for entry in listed],
        sentences=[[text.decode() for text in entry[example_schema.SENTENCES]] for entry in listed],
        images=images,
        vectors=np.stack([entry[example_schema.VECTORS] for entry in listed]),
        labels=np.stack([entry.get(example_schema.LABELS, no_labels) for entry in listed]).astype(np.uint8),
    )


@tf.autograph.experimental.do_not_convert
def decode_frames(pngs: tf.Tensor) -> tf.Tensor:
    """Returns the frames, uint8 [frames, 64, 64, 3], of PNGs, string [frames]."""
    frames = [tf.io.decode_png(png, channels=3) for png in tf.unstack(pngs)]
    return tf.stack([tf.ensure_shape(frame, [IMAGE_SIZE, IMAGE_SIZE, 3]) for frame in frames])
