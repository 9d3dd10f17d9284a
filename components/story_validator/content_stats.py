"""Beam transform that computes statistics which TFDV cannot derive from the records.

These are image sizes, sentence lengths, word and label frequencies, brightness, and whether frames show anything.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_data_validation as tfdv
from PIL import Image

from components.story_validator.expectations import (
    BRIGHTNESS,
    CHARACTERS,
    DETAIL,
    DETAILED,
    HEIGHT,
    LABEL,
    PLAIN,
    WIDTH,
    WORD,
)
from storygan_tf.data import example_schema
from storygan_tf.text.tokenization import words

MAX_BATCH = 64
"""The largest number of records whose decoded frames are in memory at the same time."""


class CollectContentStats(beam.PTransform):
    """Computes content statistics of the records of a split, and writes them to one file.

    Args:
        pattern: glob pattern of the split's TFRecord files.
        label_names: names of the labels, in the order of their flags.
        out: the file to write, a binary `DatasetFeatureStatisticsList`.
    """

    def __init__(self, pattern: str, label_names: Sequence[str], out: str) -> None:
        super().__init__()
        self._pattern = pattern
        self._label_names = tuple(label_names)
        self._out = out

    def expand(self, begin: beam.Pipeline) -> Any:
        """Applies the steps of the transform to a pipeline."""
        return (
            begin
            | "Read" >> beam.io.ReadFromTFRecord(self._pattern)
            | "Batch" >> beam.BatchElements(max_batch_size=MAX_BATCH)
            | "Content" >> beam.Map(content_features, self._label_names)
            | "Count" >> tfdv.GenerateStatistics(tfdv.StatsOptions())
            | "Write" >> tfdv.WriteStatisticsToBinaryFile(self._out)
        )


def content_features(contents: Sequence[bytes], label_names: Sequence[str]) -> pa.RecordBatch:
    """Returns the content features of some records: a row for each record, a list column for each feature.

    Args:
        contents: serialized tf.Examples.
        label_names: names of the labels, in the order of their flags; without names there is no label column.
    """
    rows = [_record_features(tf.train.Example.FromString(content), label_names) for content in contents]
    columns = {
        WIDTH: pa.int64(),
        HEIGHT: pa.int64(),
        CHARACTERS: pa.int64(),
        DETAIL: pa.binary(),
        BRIGHTNESS: pa.binary(),
        WORD: pa.binary(),
        **({LABEL: pa.binary()} if label_names else {}),
    }
    arrays = [pa.array([row[name] for row in rows], pa.list_(kind)) for name, kind in columns.items()]
    return pa.RecordBatch.from_arrays(arrays, list(columns))


def _record_features(example: tf.train.Example, label_names: Sequence[str]) -> dict[str, list[Any]]:
    """Returns the values of each content feature of one record."""
    features = example.features.feature
    sentences = [value.decode(errors="replace") for value in features[example_schema.SENTENCES].bytes_list.value]
    frames = [_decode_frame(png) for png in features[example_schema.IMAGES].bytes_list.value]
    flags = features[example_schema.LABELS].int64_list.value
    return {
        WIDTH: [frame.shape[1] for frame in frames],
        HEIGHT: [frame.shape[0] for frame in frames],
        CHARACTERS: [len(sentence) for sentence in sentences],
        DETAIL: [(DETAILED if _has_detail(frame) else PLAIN).encode() for frame in frames],
        BRIGHTNESS: [_brightness_range(frame.mean()).encode() for frame in frames if frame.size],
        WORD: [word.encode() for sentence in sentences for word in words(sentence)],
        LABEL: [name.encode() for name in _set_labels(flags, label_names)],
    }


def _has_detail(frame: np.ndarray) -> bool:
    """Returns whether a frame, uint8 `[height, width, 3]`, has more than one colour; False for an empty frame."""
    return bool(frame.size and np.ptp(frame, axis=(0, 1)).any())


def _brightness_range(level: float) -> str:
    """Returns the name of the range of 32 grey levels that contains a mean grey level in [0, 255]."""
    start = int(level) // 32 * 32
    return f"{start} to {start + 31}"


def _decode_frame(png: bytes) -> np.ndarray:
    """Returns a frame as uint8 `[height, width, 3]`; `[0, 0, 3]` if it is not a readable PNG."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))
    # Pillow's decoders raise many kinds of errors for damaged files.
    except Exception:
        return np.zeros([0, 0, 3], np.uint8)


def _set_labels(flags: Sequence[int], label_names: Sequence[str]) -> list[str]:
    """Returns the name of the label of each flag that is set, frame after frame; empty if there are no names.

    Args:
        flags: the labels of all frames, 0 or 1, `[frames * labels]`.
        label_names: names of the labels, in the order of their flags.
    """
    count = max(1, len(label_names))
    return [label_names[index % count] for index, flag in enumerate(flags) if flag] if label_names else []
