"""The schema of story records: names and types of their features, and the files next to them.

One tf.Example holds one story of T frames:

| feature | type | written by |
|---|---|---|
| `story_id` | bytes[1] | StoryExampleGen |
| `sentences` | bytes[T], UTF-8 | StoryExampleGen |
| `images` | bytes[T], PNG, 64x64 RGB | StoryExampleGen |
| `labels` | int64[T*L], 0 or 1, frame by frame; absent without labels (names: `LABELS_FILE`) | StoryExampleGen |
| `objects` | bytes[T], JSON; absent if unknown | StoryExampleGen |
| `drawn_frames` | int64[T], index of the frame in its strip or clip; absent without strips or clips | StoryExampleGen |
| `vectors` | float32[T*sentence_size] | Transform |
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

STORY_ID = "story_id"
SENTENCES = "sentences"
IMAGES = "images"
LABELS = "labels"
OBJECTS = "objects"
DRAWN = "drawn_frames"
VECTORS = "vectors"
SEED = "seed"

LABELS_FILE = "labels.json"
"""File in the root of an Examples artifact: a JSON list of the L label names, in the order of `labels`."""

COUNTS_FILE = "counts.json"
"""File in the root of an Examples artifact: {source, given, accepted, rejected: {reason: n}, splits: {name: n}}."""

REJECTS_FILE = "rejects.jsonl"
"""File in the root of an Examples artifact: a JSON object {story_id, file, reason} in each line."""

ANOMALIES_FILE = "anomalies.json"
"""File in an ExampleAnomalies artifact: a JSON list of {split, feature, found, stops}."""


def _bytes(values: Sequence[bytes]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _integers(values: Sequence[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def story_example(
    story_id: str,
    sentences: Sequence[str],
    images: Sequence[bytes],
    labels: Sequence[Sequence[int]] | None = None,
    objects: Sequence[Sequence[Mapping[str, Any]]] | None = None,
    *,
    drawn: Sequence[int] | None = None,
) -> tf.train.Example:
    """Returns a story as a tf.Example.

    Args:
        story_id: name of the story, unique in the data set.
        sentences: T sentences.
        images: T frames as PNG, 64x64 RGB.
        labels: T rows of L zeros and ones, or None.
        objects: T lists of {shape, colour, material, size, x, y}, with x and y in pixels of the 64x64 frame, or None.
        drawn: T indices of the frames that were drawn from strips or clips, or None.
    """
    features = {
        STORY_ID: _bytes([story_id.encode()]),
        SENTENCES: _bytes([sentence.encode() for sentence in sentences]),
        IMAGES: _bytes(images),
    }
    if labels is not None:
        flat = [flag for frame in labels for flag in frame]
        features[LABELS] = _integers(flat)
    if objects is not None:
        features[OBJECTS] = _bytes([json.dumps(frame, sort_keys=True).encode() for frame in objects])
    if drawn is not None:
        features[DRAWN] = _integers(drawn)
    return tf.train.Example(features=tf.train.Features(feature=features))


def feature_spec(
    frames: int, label_count: int = 0, sentence_size: int = 0, objects: bool = False
) -> dict[str, tf.io.FixedLenFeature]:
    """Returns the specification with which `tf.io.parse_example` parses stories.

    Args:
        frames: number T of frames in a story.
        label_count: number L of labels; 0 leaves `labels` out.
        sentence_size: width of a sentence vector; 0 leaves `vectors` out, which only Transform adds.
        objects: whether to parse `objects`.
    """
    spec = {
        STORY_ID: tf.io.FixedLenFeature([], tf.string),
        SENTENCES: tf.io.FixedLenFeature([frames], tf.string),
        IMAGES: tf.io.FixedLenFeature([frames], tf.string),
    }
    if label_count:
        spec[LABELS] = tf.io.FixedLenFeature([frames, label_count], tf.int64)
    if sentence_size:
        spec[VECTORS] = tf.io.FixedLenFeature([frames, sentence_size], tf.float32)
    if objects:
        spec[OBJECTS] = tf.io.FixedLenFeature([frames], tf.string)
    return spec
