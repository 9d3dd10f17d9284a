"""What stories must satisfy, as schemas of TensorFlow Data Validation, and the anomalies that TFDV finds.

`record_schema` is for the records themselves, whose statistics StatisticsGen computes. `content_schema` is for the
statistics that `components.story_validator.content_stats` computes: properties that are no features of the records,
such as image sizes and words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from components.compat import compared_splits
from storygan_tf.config.schema import IMAGE_SIZE
from storygan_tf.data import example_schema

WIDTH, HEIGHT, CHARACTERS = "image_width", "image_height", "sentence_characters"
"""Content features with integer values."""

LABEL, WORD, BRIGHTNESS, DETAIL = "label", "word", "brightness", "look"
"""Content features with string values."""

DETAILED, PLAIN = "detailed", "plain"
"""Values of `DETAIL`: whether a frame has more than one colour."""

MIN_DETAILED_FRACTION = 0.5
"""A split is broken if a smaller fraction of its frames has more than one colour."""

MAX_SKEW = {LABEL: 0.1, WORD: 0.1, BRIGHTNESS: 0.25}
"""How much the share of a value may differ from the training split (L-infinity distance) before it is reported.

Shares are those of a label among all labels, a word among all words, and a range of brightness among all frames. The
last bound is larger, because the frames of one story are alike.
"""

_AnomalyType = anomalies_pb2.AnomalyInfo

_HARMLESS_TYPES = {
    _AnomalyType.COMPARATOR_L_INFTY_HIGH,
    _AnomalyType.SCHEMA_NEW_COLUMN,
}
"""Types of anomalies that are reported and do not stop a run: a skew between splits, an additional feature."""


@dataclasses.dataclass(frozen=True)
class StoryExpectations:
    """What every story must satisfy, taken from the settings and from the names of the labels.

    Attributes:
        frames: T, the number of frames and sentences of a story.
        max_characters: the largest number of characters of a sentence.
        label_names: names of the data's labels; empty if it has none.
        labels: number of labels that the model predicts (`model.labels`); 0 for none.
    """

    frames: int
    max_characters: int
    label_names: Sequence[str] = ()
    labels: int = 0


@dataclasses.dataclass(frozen=True)
class Anomaly:
    """A property of a split that differs from what is expected.

    Attributes:
        split: name of the split.
        feature: name of the feature of the records or of their content; empty for the split as a whole.
        description: what was found, and what was expected.
        is_fatal: whether the data is broken, so that no model can be trained on it.
    """

    split: str
    feature: str
    description: str
    is_fatal: bool

    def to_json(self) -> dict[str, Any]:
        """Returns the anomaly as `anomalies.json` holds it."""
        return {"split": self.split, "feature": self.feature, "found": self.description, "stops": self.is_fatal}


def record_schema(expected: StoryExpectations, inferred: schema_pb2.Schema) -> schema_pb2.Schema:
    """Returns the schema of records as StoryExampleGen writes them: features, shapes and domains.

    Args:
        expected: what every story must satisfy.
        inferred: SchemaGen's schema of the training records, which shows the optional features that they have.
    """
    frames, bytes_ = expected.frames, schema_pb2.BYTES
    labels = expected.labels or len(expected.label_names)
    features = [
        _feature(example_schema.STORY_ID, bytes_, 1),
        _feature(example_schema.SENTENCES, bytes_, frames),
        _feature(example_schema.IMAGES, bytes_, frames),
        *([_label_flags(frames * labels)] if labels else []),
    ]
    optional = {
        example_schema.OBJECTS: _feature(example_schema.OBJECTS, bytes_, frames),
        example_schema.DRAWN: _feature(example_schema.DRAWN, schema_pb2.INT, frames),
    }
    known = {feature.name for feature in features}
    others = (optional.get(feature.name, feature) for feature in inferred.feature if feature.name not in known)
    return schema_pb2.Schema(feature=[*features, *others])


def _feature(name: str, kind: schema_pb2.FeatureType, size: int) -> schema_pb2.Feature:
    """Returns a feature that every record has, with `size` values."""
    feature = schema_pb2.Feature(name=name, type=kind)
    feature.presence.min_fraction, feature.presence.min_count = 1.0, 1
    feature.shape.dim.add(size=size)
    if name == example_schema.IMAGES:
        feature.image_domain.SetInParent()
    return feature


def _label_flags(size: int) -> schema_pb2.Feature:
    """Returns the feature of label flags, with `size` values that are 0 or 1."""
    feature = _feature(example_schema.LABELS, schema_pb2.INT, size)
    feature.int_domain.min, feature.int_domain.max = 0, 1
    return feature


def content_schema(expected: StoryExpectations, known: Iterable[str] | None = None) -> schema_pb2.Schema:
    """Returns the schema of content statistics: sizes, the domain of labels, and how much splits may differ.

    Args:
        expected: what every story must satisfy.
        known: the labels of the training split, to validate another split; None for all labels of `expected`.
    """
    schema = schema_pb2.Schema()
    for name, least, most in (
        (WIDTH, IMAGE_SIZE, IMAGE_SIZE),
        (HEIGHT, IMAGE_SIZE, IMAGE_SIZE),
        (CHARACTERS, 1, expected.max_characters),
    ):
        feature = schema.feature.add(name=name, type=schema_pb2.INT)
        feature.int_domain.min, feature.int_domain.max = least, most
    detail = schema.feature.add(name=DETAIL, type=schema_pb2.BYTES)
    detail.string_domain.value.append(DETAILED)
    detail.distribution_constraints.min_domain_mass = MIN_DETAILED_FRACTION
    for name, max_skew in MAX_SKEW.items():
        feature = schema.feature.add(name=name, type=schema_pb2.BYTES)
        feature.skew_comparator.infinity_norm.threshold = max_skew
        if name == LABEL:
            feature.string_domain.value.extend(sorted(expected.label_names if known is None else known))
    return schema


def describe_anomalies(
    split: str, anomalies: anomalies_pb2.Anomalies, schema: schema_pb2.Schema, harmless: Collection[str] = ()
) -> Iterator[Anomaly]:
    """Yields the anomalies of a split, sorted by feature, with descriptions that name the expected values.

    Args:
        split: name of the split.
        anomalies: the split's anomalies as TFDV returns them.
        schema: the schema that the split was validated against.
        harmless: names of features whose anomalies are never fatal.
    """
    for feature, info in sorted(anomalies.anomaly_info.items()):
        is_harmless = feature in harmless or all(reason.type in _HARMLESS_TYPES for reason in info.reason)
        text = compared_splits(info.description, split).strip()
        yield Anomaly(split, feature, f"{text} {_expectation(feature, info, schema)}".strip(), not is_harmless)
    if anomalies.HasField("dataset_anomaly_info"):
        yield Anomaly(split, "", anomalies.dataset_anomaly_info.description, True)


def _expectation(name: str, info: anomalies_pb2.AnomalyInfo, schema: schema_pb2.Schema) -> str:
    """Returns a sentence with the expected values of a feature, or an empty string if TFDV's description has them."""
    if name == DETAIL:
        return f"Expected: at least {MIN_DETAILED_FRACTION:.0%} of the frames have more than one colour."
    feature = next((feature for feature in schema.feature if feature.name == name), schema_pb2.Feature())
    if any(reason.type == _AnomalyType.INVALID_FEATURE_SHAPE for reason in info.reason):
        return f"Expected: {feature.shape.dim[0].size} values in each record."
    if feature.HasField("int_domain"):
        return f"Expected: {feature.int_domain.min} to {feature.int_domain.max}."
    return ""


def labels_present(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> list[str]:
    """Returns the names of the labels that occur in a split.

    Args:
        statistics: the split's content statistics.
    """
    label_features = (
        feature for dataset in statistics.datasets for feature in dataset.features if feature.path.step == [LABEL]
    )
    return [bucket.label for feature in label_features for bucket in feature.string_stats.rank_histogram.buckets]
