"""Stories in one uncompressed file, any of which can be read by its number without the others.

Transform writes gzipped TFRecord files, which can only be read from their beginning. `index_records` copies their
records once into a folder:

    records.tfrecord   all records, uncompressed
    offsets.npy        int64 [stories], where the record of each story begins, in the order of the stories' ids
    summary.json       the number of stories, their words, a hash of the records, and the files they are from

A training then reads stories in any order and from any position. Its memory does not grow with the number of stories,
except for their offsets, of eight bytes each. `docs/devices.md` compares this with other ways.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from storygan_tf.common.atomic_files import atomic_folder, unwritable_error
from storygan_tf.common.errors import DataError
from storygan_tf.common.progress import progress
from storygan_tf.config.schema import IMAGE_SIZE, StoryGANConfig
from storygan_tf.data import example_schema
from storygan_tf.data.stories import (
    Stories,
    StorySource,
    decode_frames,
    decode_stories,
    no_story,
    parse_files,
    unfit_records,
)

CACHED_BYTES = 512 * 2**20
"""Largest size of all decoded frames, in bytes, at which `IndexedStories.cached` holds stories in memory."""

_RECORDS = "records.tfrecord"
_OFFSETS = "offsets.npy"
_SUMMARY = "summary.json"

_FRAMING = 16
"""Bytes that the TFRecord format adds to a record: 12 before it and 4 behind it."""

_MANY_FILES = 20
"""Number of files, of 256 stories each, from which progress is shown: fewer are copied in a few seconds."""

_READ_BUFFER = 32 * 1024
"""Bytes that are read from the file at once, about the size of a story of four frames."""


@dataclasses.dataclass(frozen=True)
class IndexedStories:
    """Stories in a folder that `index_records` has written, in the order of their ids; a `StorySource`.

    Attributes:
        folder: the folder.
        config: the sizes of the stories.
        words: the distinct words of all sentences, sorted.
        sha256: hash of the records.
    """

    folder: Path
    config: StoryGANConfig
    words: tuple[str, ...]
    sha256: str

    @classmethod
    def open(cls, folder: Path, config: StoryGANConfig) -> IndexedStories:
        """Opens a folder.

        Raises:
            DataError: if the folder is not complete.
        """
        try:
            summary = json.loads((folder / _SUMMARY).read_text())
            stories = cls(folder, config, tuple(summary["words"]), summary["sha256"])
            found, expected = len(stories), summary["stories"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder}: cannot be read ({error}); remove the folder and start again.") from error
        if found != expected:
            raise DataError(
                f"{folder / _OFFSETS}: found {found} stories, expected {expected}. Remove {folder} and start again."
            )
        return stories

    @functools.cached_property
    def _offsets(self) -> np.ndarray:
        """int64 [stories], where the record of each story begins."""
        return np.asarray(np.load(self.folder / _OFFSETS))

    def __len__(self) -> int:
        """Returns the number of stories."""
        return len(self._offsets)

    @property
    def frames(self) -> int:
        """Number T of frames of each story."""
        return self.config.frames

    @property
    def cached(self) -> StorySource:
        """These stories in memory if their frames take at most `CACHED_BYTES`, else from the file as they are."""
        size = len(self) * self.frames * IMAGE_SIZE * IMAGE_SIZE * 3
        return self.read(range(len(self))) if size <= CACHED_BYTES else self

    @property
    def _spec(self) -> dict[str, tf.io.FixedLenFeature]:
        return example_schema.feature_spec(self.config.frames, self.config.labels, self.config.sentence_size)

    def read(self, indices: Sequence[int] | np.ndarray) -> Stories:
        """Returns some of the stories, decoded, in the order of `indices`.

        Raises:
            DataError: if the file is damaged.
        """
        chosen = tf.data.Dataset.from_tensor_slices({"story": np.array(indices, np.int64)})
        parsed = self._records(chosen).map(lambda entry, record: tf.io.parse_single_example(record, self._spec))
        path = self.folder / _RECORDS
        try:
            entries = list(parsed.as_numpy_iterator())
        except tf.errors.OpError as error:
            raise unfit_records([path], self.config, error) from error
        return decode_stories(entries, self.config, [path])

    def batches(self, chosen: tf.data.Dataset) -> tf.data.Dataset:
        """Reads and decodes batches of chosen stories, several stories at a time; see `StorySource.batches`."""
        spec = self._spec
        for unused in (example_schema.STORY_ID, example_schema.SENTENCES):
            spec.pop(unused)

        @tf.autograph.experimental.do_not_convert
        def decode(entry: dict[str, tf.Tensor], record: tf.Tensor) -> dict[str, tf.Tensor]:
            parsed = tf.io.parse_single_example(record, spec)
            labels = parsed.get(example_schema.LABELS, tf.zeros([self.frames, 0], tf.int64))
            return {name: value for name, value in entry.items() if name != "story"} | {
                "images": decode_frames(parsed[example_schema.IMAGES]),
                "vectors": parsed[example_schema.VECTORS],
                "labels": tf.cast(labels, tf.uint8),
            }

        records = self._records(chosen.unbatch())
        decoded = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return decoded.batch(chosen.element_spec["story"].shape[0], drop_remainder=True)

    def _records(self, chosen: tf.data.Dataset) -> tf.data.Dataset:
        """Returns a dataset of the elements of `chosen`, each with the record of its story, a string scalar."""
        offsets = tf.constant(self._offsets)
        path = str(self.folder / _RECORDS)

        @tf.autograph.experimental.do_not_convert
        def read(entry: dict[str, tf.Tensor]) -> tf.data.Dataset:
            # `tf.data.TFRecordDataset` has no argument for an offset; the operation below it has.
            records = tf.raw_ops.TFRecordDatasetV2(
                filenames=[path],
                compression_type="",
                buffer_size=_READ_BUFFER,
                byte_offsets=[offsets[entry["story"]]],
            )
            record = tf.data.experimental.from_variant(records, tf.TensorSpec([], tf.string)).take(1)
            return tf.data.Dataset.zip((tf.data.Dataset.from_tensors(entry), record))

        return chosen.flat_map(read)


def index_records(
    paths: Sequence[str | Path], config: StoryGANConfig, folder: Path, split_words: Callable[[str], list[str]]
) -> IndexedStories:
    """Copies transformed records into a folder, unless it already holds those of the same files.

    Each frame is decoded once, so that a damaged one is found now and not in the middle of a training. The folder
    appears as a whole, at the end.

    Args:
        paths: gzipped TFRecord files that Transform has written.
        config: `frames`, `sentence_size` and `labels` must fit the records.
        folder: the folder, which is replaced if it holds other records.
        split_words: function that returns the words of a sentence.

    Returns:
        The stories in the folder.

    Raises:
        DataError: if a file cannot be read, there is no record, a record does not fit `config`, or the disk is full or
            not writable.
    """
    sources = [[Path(path).name, tf.io.gfile.stat(str(path)).length] for path in paths if tf.io.gfile.exists(str(path))]
    if _read_sources(folder) != sources:
        # Settings that do not fit show at the first story, before anything is written.
        if not list(itertools.islice(parse_files(paths, config, _make_parse(config)), 1)):
            raise no_story(paths)
        try:
            with atomic_folder(folder) as temporary:
                temporary.mkdir()
                summary = _copy(paths, config, temporary, split_words)
                (temporary / _SUMMARY).write_text(json.dumps(summary | {"sources": sources}))
        except OSError as error:
            raise unwritable_error(folder, error) from error
    return IndexedStories.open(folder, config)


def _read_sources(folder: Path) -> Any:
    """Returns the name and size of each file whose records are in `folder`; None if it is not complete."""
    try:
        return json.loads((folder / _SUMMARY).read_text())["sources"]
    except (OSError, ValueError, KeyError):
        return None


def _make_parse(config: StoryGANConfig) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """Returns a function that parses a record to id, sentences, the record itself, and a value that is not needed."""
    spec = example_schema.feature_spec(config.frames, config.labels, config.sentence_size)

    @tf.autograph.experimental.do_not_convert
    def parse(record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parsed = tf.io.parse_single_example(record, spec)
        # tf.data leaves out what has no effect on its output: the brightness makes it decode the frames.
        brightest = tf.reduce_max(decode_frames(parsed[example_schema.IMAGES]))
        return parsed[example_schema.STORY_ID], parsed[example_schema.SENTENCES], record, brightest

    return parse


def _copy(
    paths: Sequence[str | Path], config: StoryGANConfig, folder: Path, split_words: Callable[[str], list[str]]
) -> dict[str, Any]:
    """Writes records and offsets into a folder and returns the summary without the sources."""
    digest = hashlib.sha256()
    ids: list[bytes] = []
    offsets: list[int] = []
    known: set[str] = set()
    end = 0
    silent: contextlib.AbstractContextManager[Callable[..., None]] = contextlib.nullcontext(lambda *_: None)
    shown = progress("reading stories", len(paths), unit="file") if len(paths) >= _MANY_FILES else silent
    with shown as advance, _record_writer(folder / _RECORDS) as writer:
        for path in paths:
            for story_id, sentences, record, _ in parse_files([path], config, _make_parse(config)):
                writer.write(record)
                digest.update(hashlib.sha256(record).digest())
                ids.append(story_id)
                offsets.append(end)
                end += len(record) + _FRAMING
                known.update(word for sentence in sentences for word in split_words(sentence.decode()))
            advance(1, f"{len(ids)} stories")
    np.save(folder / _OFFSETS, np.array(offsets, np.int64)[np.argsort(np.array(ids, object), kind="stable")])
    return {"stories": len(ids), "sha256": digest.hexdigest(), "words": sorted(known)}


@contextlib.contextmanager
def _record_writer(path: Path) -> Iterator[tf.io.TFRecordWriter]:
    """Opens a file to write records to.

    Raises:
        DataError: if the disk is full or not writable.
    """
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            yield writer
    except tf.errors.OpError as error:
        raise unwritable_error(path, OSError(error.message)) from error
