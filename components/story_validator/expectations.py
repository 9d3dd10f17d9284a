"""What stories must be like, and what is worth knowing of them, as schemas of TensorFlow Data Validation.

`record_schema` is about the records themselves, whose statistics StatisticsGen makes. Lengths of lists, sizes of
pictures and words are no features of records; `content_schema` is about what `components.story_validator.content_stats`
sees there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from storygan_tf.config.schema import IMAGE_SIZE
from storygan_tf.data import example_schema

WIDTH, HEIGHT, CHARACTERS = "image_width", "image_height", "sentence_characters"
LABEL, WORD, BRIGHTNESS, LOOK = "label", "word", "brightness", "look"

DETAILED, PLAIN = "detailed", "plain"
"""Values of `LOOK`: whether a frame has more than one colour."""

LEAST_DETAILED = 0.5
"""A split in which fewer frames than this fraction show anything is broken."""

MOST_SKEW = {LABEL: 0.1, WORD: 0.1, BRIGHTNESS: 0.25}
"""By how much the share of a label among all labels, a word among all words, a range of brightness among all frames may
differ between splits (L-infinity distance) before it is told. Frames of a story are alike, hence the last."""

_Type = anomalies_pb2.AnomalyInfo
_TOLD = {
    _Type.COMPARATOR_L_INFTY_HIGH,
    _Type.SCHEMA_NEW_COLUMN,
}
"""Anomalies that are told and stop nothing: data that differs from other data, or holds more than it must."""


@dataclasses.dataclass(frozen=True)
class Expectations:
    """What the settings, and the names of the labels, say of stories.

    Attributes:
        frames: T.
        max_characters: that a sentence may have.
        label_names: of the L labels; empty for none.
        labels: labels that the model is to tell (`model.labels`); 0 for none.
    """

    frames: int
    max_characters: int
    label_names: Sequence[str] = ()
    labels: int = 0


@dataclasses.dataclass(frozen=True)
class Anomaly:
    """Something about a split that is not as expected.

    Attributes:
        split: the split.
        feature: what of its records.
        found: what was found, and what was expected.
        stops: whether the data is broken, so that nothing may be trained on it.
    """

    split: str
    feature: str
    found: str
    stops: bool


def record_schema(expected: Expectations, inferred: schema_pb2.Schema) -> schema_pb2.Schema:
    """Returns the schema of records as StoryExampleGen writes them: features, shapes, domains.

    Args:
        expected: what the settings say.
        inferred: what SchemaGen made of the training records: tells which optional features there are.
    """
    frames, bytes_ = expected.frames, schema_pb2.BYTES
    labels = expected.labels or len(expected.label_names)
    features = [
        _feature(example_schema.STORY_ID, bytes_, 1),
        _feature(example_schema.SENTENCES, bytes_, frames),
        _feature(example_schema.IMAGES, bytes_, frames),
        *([_flags(frames * labels)] if labels else []),
    ]
    optional = {
        example_schema.OBJECTS: _feature(example_schema.OBJECTS, bytes_, frames),
        example_schema.DRAWN: _feature(example_schema.DRAWN, schema_pb2.INT, frames),
    }
    known = {feature.name for feature in features}
    others = (optional.get(feature.name, feature) for feature in inferred.feature if feature.name not in known)
    return schema_pb2.Schema(feature=[*features, *others])


def _feature(name: str, kind: schema_pb2.FeatureType, size: int) -> schema_pb2.Feature:
    """Returns a feature that each record has, a list of `size` values."""
    feature = schema_pb2.Feature(name=name, type=kind)
    feature.presence.min_fraction, feature.presence.min_count = 1.0, 1
    feature.shape.dim.add(size=size)
    if name == example_schema.IMAGES:
        feature.image_domain.SetInParent()
    return feature


def _flags(size: int) -> schema_pb2.Feature:
    feature = _feature(example_schema.LABELS, schema_pb2.INT, size)
    feature.int_domain.min, feature.int_domain.max = 0, 1
    return feature


def content_schema(expected: Expectations, known: Iterable[str] | None = None) -> schema_pb2.Schema:
    """Returns the schema of what is seen in records: sizes, the domain of labels, and how far splits may differ.

    Args:
        expected: what the settings say.
        known: the labels that the training split shows, for another split; None for all of `expected`.
    """
    schema = schema_pb2.Schema()
    for name, least, most in (
        (WIDTH, IMAGE_SIZE, IMAGE_SIZE),
        (HEIGHT, IMAGE_SIZE, IMAGE_SIZE),
        (CHARACTERS, 1, expected.max_characters),
    ):
        feature = schema.feature.add(name=name, type=schema_pb2.INT)
        feature.int_domain.min, feature.int_domain.max = least, most
    look = schema.feature.add(name=LOOK, type=schema_pb2.BYTES)
    look.string_domain.value.append(DETAILED)
    look.distribution_constraints.min_domain_mass = LEAST_DETAILED
    for name, most_skew in MOST_SKEW.items():
        feature = schema.feature.add(name=name, type=schema_pb2.BYTES)
        feature.skew_comparator.infinity_norm.threshold = most_skew
        if name == LABEL:
            feature.string_domain.value.extend(sorted(expected.label_names if known is None else known))
    return schema


def describe_anomalies(
    split: str, found: anomalies_pb2.Anomalies, schema: schema_pb2.Schema, told: Iterable[str] = ()
) -> Iterator[Anomaly]:
    """Yields what TFDV found in a split, in words.

    Args:
        split: the split.
        found: its anomalies.
        schema: that it was held against.
        told: features whose anomalies stop nothing.
    """
    for feature, info in sorted(found.anomaly_info.items()):
        harmless = feature in told or all(reason.type in _TOLD for reason in info.reason)
        # TFDV is made to compare training with serving; here it compares a split with the training split.
        text = info.description.replace("training and serving", f"{split} and train").strip()
        yield Anomaly(split, feature, f"{text} {_expectation(feature, info, schema)}".strip(), not harmless)
    if found.HasField("dataset_anomaly_info"):
        yield Anomaly(split, "", found.dataset_anomaly_info.description, True)


def _expectation(name: str, info: anomalies_pb2.AnomalyInfo, schema: schema_pb2.Schema) -> str:
    """Returns what is expected of a feature, where TFDV's own words leave it out; empty where they do not."""
    if name == LOOK:
        return f"Expected: at least {LEAST_DETAILED:.0%} of the frames have more than one colour."
    feature = next((feature for feature in schema.feature if feature.name == name), schema_pb2.Feature())
    if any(reason.type == _Type.INVALID_FEATURE_SHAPE for reason in info.reason):
        return f"Expected: {feature.shape.dim[0].size} values in each record."
    if feature.HasField("int_domain"):
        return f"Expected: {feature.int_domain.min} to {feature.int_domain.max}."
    return ""


def labels_present(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> list[str]:
    """Returns the labels that a split shows, from its statistics of what is seen."""
    found = (feature for dataset in statistics.datasets for feature in dataset.features if feature.path.step == [LABEL])
    return [bucket.label for feature in found for bucket in feature.string_stats.rank_histogram.buckets]
