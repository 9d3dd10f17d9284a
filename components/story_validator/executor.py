"""Executor of StoryValidator: validates the records, writes the anomalies, and stops a run on broken data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_data_validation as tfdv
from absl import logging
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx import types
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.compat import SPLIT_ANOMALIES_FILE, make_beam_pipeline
from components.executor_arguments import Artifacts, ExecutorArguments
from components.spec_names import ANOMALIES, EXAMPLES, EXPECTED_SCHEMA, SCHEMA, STATISTICS
from components.story_validator.content_stats import CollectContentStats
from components.story_validator.expectations import (
    LABEL,
    Anomaly,
    StoryExpectations,
    content_schema,
    describe_anomalies,
    labels_present,
    record_schema,
)
from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import Settings
from storygan_tf.data import example_schema
from storygan_tf.data.example_reader import read_json

SCHEMA_FILE = "schema.pbtxt"

CONTENT_STATS_FILE = "SeenStats.pb"
"""The file of a split's content statistics (`components.story_validator.content_stats`)."""

TRAIN = "train"

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList


class Executor(base_beam_executor.BaseBeamExecutor):
    """Validates records with TensorFlow Data Validation (TFDV) against schemas that come from the settings."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:  # noqa: N802
        """Validates each split by itself, and the other splits against the training split.

        Args:
            input_dict:
                - `examples`: single `Examples` artifact of StoryExampleGen.
                - `statistics`: single `ExampleStatistics` artifact of StatisticsGen.
                - `schema`: single `Schema` artifact of SchemaGen.
            output_dict:
                - `expected_schema`: single `Schema` artifact with `schema.pbtxt`, the schema that records must match.
                - `anomalies`: single `ExampleAnomalies` artifact with `anomalies.json`, and `SchemaDiff.pb` (anomalies)
                  and `SeenStats.pb` (content statistics) for each split.
            exec_properties:
                - `settings`: JSON of `storygan_tf.config.schema.Settings`.
                - `code_fingerprint`: part of the cache key, otherwise unused.

        Raises:
            ConfigError: if the settings are not valid.
            DataError: if an anomaly is fatal: no model can be trained on the data. The outputs are written before.
        """
        arguments = ExecutorArguments(input_dict, output_dict, exec_properties)
        examples, output = arguments.input(EXAMPLES), arguments.output(ANOMALIES)
        splits = artifact_utils.decode_split_names(examples.split_names)
        output.split_names = artifact_utils.encode_split_names(splits)
        expected = _expectations(arguments.settings(), examples.uri)
        inferred = io_utils.SchemaReader().read(f"{arguments.input_uri(SCHEMA)}/{SCHEMA_FILE}")
        schema = record_schema(expected, inferred)
        _write_schema(schema, arguments.output_uri(EXPECTED_SCHEMA))
        statistics = arguments.input(STATISTICS)
        validation = _Validation(
            expected,
            schema,
            record_stats={split: stats_artifact_utils.load_statistics(statistics, split).proto() for split in splits},
            content_stats=self._collect_content_stats(examples, expected, output, splits),
        )
        anomalies = [anomaly for split in splits for anomaly in validation.validate(split, output)]
        report = json.dumps([anomaly.to_json() for anomaly in anomalies], indent=1)
        io_utils.write_string_file(f"{output.uri}/{example_schema.ANOMALIES_FILE}", report)
        logging.info("StoryValidator: %s", report)
        _check(anomalies)

    def _collect_content_stats(
        self, examples: types.Artifact, expected: StoryExpectations, output: types.Artifact, splits: Sequence[str]
    ) -> dict[str, Statistics]:
        """Computes the content statistics of each split on Beam, writes them into the output, and returns them."""
        files = {split: f"{artifact_utils.get_split_uri([output], split)}/{CONTENT_STATS_FILE}" for split in splits}
        with make_beam_pipeline(self) as pipeline:
            for split, file in files.items():
                tf.io.gfile.makedirs(file.rpartition("/")[0])
                pattern = io_utils.all_files_pattern(artifact_utils.get_split_uri([examples], split))
                _ = pipeline | f"Split-{split}" >> CollectContentStats(pattern, expected.label_names, file)
        return {split: tfdv.load_stats_binary(file) for split, file in files.items()}


def _expectations(settings: Settings, examples_dir: str) -> StoryExpectations:
    """Returns what stories must satisfy, from the settings and the label names of an Examples artifact."""
    return StoryExpectations(
        frames=settings.model.frames,
        max_characters=settings.data.max_sentence_length,
        label_names=tuple(read_json(f"{examples_dir}/{example_schema.LABELS_FILE}") or ()),
        labels=settings.model.labels,
    )


def _write_schema(schema: schema_pb2.Schema, folder: str) -> None:
    io_utils.write_string_file(f"{folder}/{SCHEMA_FILE}", text_format.MessageToString(schema))


@dataclasses.dataclass(frozen=True)
class _Validation:
    """Validates splits by their statistics.

    Attributes:
        expected: what every story must satisfy.
        schema: the schema that records must match.
        record_stats: StatisticsGen's statistics of each split.
        content_stats: content statistics of each split.
    """

    expected: StoryExpectations
    schema: schema_pb2.Schema
    record_stats: dict[str, Statistics]
    content_stats: dict[str, Statistics]

    def validate(self, split: str, output: types.Artifact) -> Iterator[Anomaly]:
        """Yields the anomalies of a split, and writes them as TFDV returns them into the output artifact."""
        record_anomalies = tfdv.validate_statistics(self.record_stats[split], self.schema)
        schema = self._content_schema(split)
        training_stats = None if split == TRAIN else self.content_stats[TRAIN]
        content_anomalies = tfdv.validate_statistics(
            self.content_stats[split], schema, serving_statistics=training_stats
        )
        yield from describe_anomalies(split, record_anomalies, self.schema)
        # A label that no training story has is reported, but the model can be trained without it.
        harmless = () if split == TRAIN else (LABEL,)
        yield from describe_anomalies(split, content_anomalies, schema, harmless)
        both = anomalies_pb2.Anomalies()
        both.CopyFrom(record_anomalies)
        both.MergeFrom(content_anomalies)
        file = f"{artifact_utils.get_split_uri([output], split)}/{SPLIT_ANOMALIES_FILE}"
        io_utils.write_bytes_file(file, both.SerializeToString())

    def _content_schema(self, split: str) -> schema_pb2.Schema:
        """Returns the content schema of a split; only labels of the training split are known in another split."""
        return content_schema(self.expected, None if split == TRAIN else labels_present(self.content_stats[TRAIN]))


def _check(anomalies: Sequence[Anomaly]) -> None:
    """Raises DataError if an anomaly is fatal."""
    fatal = [anomaly for anomaly in anomalies if anomaly.is_fatal]
    if fatal:
        lines = "\n".join(f"  {anomaly.split}: {anomaly.feature}: {anomaly.description}" for anomaly in fatal)
        raise DataError(
            f"no model can be trained on these stories:\n{lines}\nCorrect the stories, or change the settings that "
            "they do not fit (model.frames, model.labels)."
        )
