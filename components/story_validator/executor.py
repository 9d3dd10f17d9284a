"""The StoryValidator's work: hold the records against what is expected of them, and stop a run on broken data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_data_validation as tfdv
from absl import logging
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx import types
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils

from components.story_validator.content_stats import CollectContentStats
from components.story_validator.expectations import (
    LABEL,
    Anomaly,
    Expectations,
    content_schema,
    describe_anomalies,
    labels_present,
    record_schema,
)
from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import Settings
from storygan_tf.data import example_schema
from storygan_tf.data.example_reader import read_json

EXAMPLES = standard_component_specs.EXAMPLES_KEY
STATISTICS = standard_component_specs.STATISTICS_KEY
SCHEMA = standard_component_specs.SCHEMA_KEY
EXPECTED = "expected_schema"
ANOMALIES = standard_component_specs.ANOMALIES_KEY
SETTINGS = "settings"
CODE_FINGERPRINT = "code_fingerprint"

SCHEMA_FILE = "schema.pbtxt"
DIFF_FILE = "SchemaDiff.pb"
"""A split's anomalies, where TFX's own ExampleValidator puts them."""

SEEN_FILE = "SeenStats.pb"
"""A split's statistics of what is seen in its records."""

TRAIN = "train"

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList


class Executor(base_beam_executor.BaseBeamExecutor):
    """Validates records by TensorFlow Data Validation, against expectations of our own."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Validates each split, and the others against the training split.

        Args:
            input_dict: Input dict from input key to a list of artifacts:
                - examples: stories of StoryExampleGen.
                - statistics: of StatisticsGen.
                - schema: of SchemaGen.
            output_dict: Output dict from output key to a list of artifacts:
                - expected_schema: `schema.pbtxt`, what is expected of records.
                - anomalies: for each split `SchemaDiff.pb` and `SeenStats.pb`; `anomalies.json`.
            exec_properties: A dict of execution properties:
                - settings: JSON of `storygan_tf.config.schema.Settings`.
                - code_fingerprint: part of the cache key; not used.

        Raises:
            ConfigError: for settings that do not parse.
            DataError: where the data is broken; nothing may be trained on it.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(input_dict[EXAMPLES])
        output = artifact_utils.get_single_instance(output_dict[ANOMALIES])
        splits = artifact_utils.decode_split_names(examples.split_names)
        output.split_names = artifact_utils.encode_split_names(splits)
        expected = _expectations(Settings.from_json(exec_properties[SETTINGS]), examples.uri)
        statistics = artifact_utils.get_single_instance(input_dict[STATISTICS])
        counted = {split: stats_artifact_utils.load_statistics(statistics, split).proto() for split in splits}
        inferred = io_utils.SchemaReader().read(f"{artifact_utils.get_single_uri(input_dict[SCHEMA])}/{SCHEMA_FILE}")
        schema = record_schema(expected, inferred)
        uri = artifact_utils.get_single_uri(output_dict[EXPECTED])
        io_utils.write_string_file(f"{uri}/{SCHEMA_FILE}", text_format.MessageToString(schema))
        seen = self._see(examples, expected, output, splits)
        validation = _Validation(expected, schema, counted, seen)
        anomalies = [anomaly for split in splits for anomaly in validation.of(split, output)]
        told = json.dumps([dataclasses.asdict(anomaly) for anomaly in anomalies], indent=1)
        io_utils.write_string_file(f"{output.uri}/{example_schema.ANOMALIES_FILE}", told)
        logging.info("StoryValidator: %s", told)
        _check(anomalies)

    def _see(
        self, examples: types.Artifact, expected: Expectations, output: types.Artifact, splits: Sequence[str]
    ) -> dict[str, Statistics]:
        """Returns statistics of what is seen in each split."""
        files = {split: f"{artifact_utils.get_split_uri([output], split)}/{SEEN_FILE}" for split in splits}
        with self._make_beam_pipeline() as pipeline:
            for split, file in files.items():
                tf.io.gfile.makedirs(file.rpartition("/")[0])
                pattern = io_utils.all_files_pattern(artifact_utils.get_split_uri([examples], split))
                _ = pipeline | f"Split-{split}" >> CollectContentStats(pattern, expected.label_names, file)
        return {split: tfdv.load_stats_binary(file) for split, file in files.items()}


def _expectations(settings: Settings, examples: str) -> Expectations:
    return Expectations(
        frames=settings.model.frames,
        max_characters=settings.data.max_sentence_length,
        label_names=tuple(read_json(f"{examples}/{example_schema.LABELS_FILE}") or ()),
        labels=settings.model.labels,
    )


@dataclasses.dataclass(frozen=True)
class _Validation:
    """What is expected, and the statistics of each split: of its records, and of what is seen in them."""

    expected: Expectations
    schema: Any
    counted: dict[str, Statistics]
    seen: dict[str, Statistics]

    def of(self, split: str, output: types.Artifact) -> Iterator[Anomaly]:
        """Yields the anomalies of a split, and leaves them in the artifact as TFDV tells them."""
        of_records = tfdv.validate_statistics(self.counted[split], self.schema)
        schema = self._seen_schema(split)
        against = None if split == TRAIN else self.seen[TRAIN]
        of_seen = tfdv.validate_statistics(self.seen[split], schema, serving_statistics=against)
        yield from describe_anomalies(split, of_records, self.schema)
        # A label that the training split never shows is a pity, not a fault.
        yield from describe_anomalies(split, of_seen, schema, told=() if split == TRAIN else (LABEL,))
        both = anomalies_pb2.Anomalies()
        both.CopyFrom(of_records)
        both.MergeFrom(of_seen)
        file = f"{artifact_utils.get_split_uri([output], split)}/{DIFF_FILE}"
        io_utils.write_bytes_file(file, both.SerializeToString())

    def _seen_schema(self, split: str) -> Any:
        return content_schema(self.expected, None if split == TRAIN else labels_present(self.seen[TRAIN]))


def _check(anomalies: Sequence[Anomaly]) -> None:
    """Raises DataError where the data is broken."""
    broken = [anomaly for anomaly in anomalies if anomaly.stops]
    if broken:
        lines = "\n".join(f"  {anomaly.split}: {anomaly.feature}: {anomaly.found}" for anomaly in broken)
        raise DataError(
            f"the stories are not such as a model can be trained on:\n{lines}\nMend them, or change the settings that "
            "they do not fit (model.frames, model.labels)."
        )
