"""What is seen in records and is no feature of them: sizes, words, labels by name, brightness. Counted on Beam."""

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
    DETAILED,
    HEIGHT,
    LABEL,
    LOOK,
    PLAIN,
    WIDTH,
    WORD,
)
from storygan_tf.data import example_schema
from storygan_tf.text.tokenization import words

BATCH = 64
"""Most records that are looked at together: with their frames in memory."""


class CollectContentStats(beam.PTransform):
    """Turns a split's files into statistics of what is seen in it, in one file.

    Args:
        pattern: of the split's files.
        label_names: names of the labels, in the order of their flags.
        out: the file to write.
    """

    def __init__(self, pattern: str, label_names: Sequence[str], out: str) -> None:
        super().__init__()
        self._pattern = pattern
        self._label_names = tuple(label_names)
        self._out = out

    def expand(self, begin: beam.Pipeline) -> Any:
        """Adds the steps."""
        return (
            begin
            | "Read" >> beam.io.ReadFromTFRecord(self._pattern)
            | "Batch" >> beam.BatchElements(max_batch_size=BATCH)
            | "See" >> beam.Map(content_stats, self._label_names)
            | "Count" >> tfdv.GenerateStatistics(tfdv.StatsOptions())
            | "Write" >> tfdv.WriteStatisticsToBinaryFile(self._out)
        )


def content_stats(contents: Sequence[bytes], label_names: Sequence[str]) -> pa.RecordBatch:
    """Returns what is seen in some records.

    Args:
        contents: serialized tf.Examples.
        label_names: names of the labels, in the order of their flags.
    """
    rows = [_seen_in(tf.train.Example.FromString(content), label_names) for content in contents]
    columns = {
        WIDTH: pa.int64(),
        HEIGHT: pa.int64(),
        CHARACTERS: pa.int64(),
        LOOK: pa.binary(),
        BRIGHTNESS: pa.binary(),
        WORD: pa.binary(),
        **({LABEL: pa.binary()} if label_names else {}),
    }
    arrays = [pa.array([row[name] for row in rows], pa.list_(kind)) for name, kind in columns.items()]
    return pa.RecordBatch.from_arrays(arrays, list(columns))


def _seen_in(example: tf.train.Example, label_names: Sequence[str]) -> dict[str, list[Any]]:
    features = example.features.feature
    sentences = [value.decode(errors="replace") for value in features[example_schema.SENTENCES].bytes_list.value]
    frames = [_decoded(png) for png in features[example_schema.IMAGES].bytes_list.value]
    flags = features[example_schema.LABELS].int64_list.value
    return {
        WIDTH: [frame.shape[1] for frame in frames],
        HEIGHT: [frame.shape[0] for frame in frames],
        CHARACTERS: [len(sentence) for sentence in sentences],
        LOOK: [(DETAILED if frame.size and np.ptp(frame, axis=(0, 1)).any() else PLAIN).encode() for frame in frames],
        BRIGHTNESS: [_range(frame.mean()).encode() for frame in frames if frame.size],
        WORD: [word.encode() for sentence in sentences for word in words(sentence)],
        LABEL: [name.encode() for name in _named(flags, label_names)],
    }


def _range(level: float) -> str:
    """Returns the range of 32 grey levels that a mean lies in."""
    start = int(level) // 32 * 32
    return f"{start} to {start + 31}"


def _decoded(png: bytes) -> np.ndarray:
    """Returns a frame as uint8 `[height, width, 3]`, without any pixel where it is no picture."""
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB"))
    # Pillow's decoders raise nearly anything for damaged files.
    except Exception:
        return np.zeros([0, 0, 3], np.uint8)


def _named(flags: Sequence[int], label_names: Sequence[str]) -> list[str]:
    """Returns the label of each flag that is set, frame after frame; a flag beyond the names goes by its number."""
    count = max(1, len(label_names))
    return [label_names[place % count] for place, flag in enumerate(flags) if flag] if label_names else []
