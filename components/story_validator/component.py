"""The StoryValidator component: its inputs, parameters and outputs."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts

from components.spec_names import (
    ANOMALIES,
    CODE_FINGERPRINT,
    EXAMPLES,
    EXPECTED_SCHEMA,
    SCHEMA,
    SETTINGS,
    STATISTICS,
)
from components.spec_parameters import channels, output_channels, parameters
from components.story_validator import executor


class StoryValidatorSpec(types.ComponentSpec):
    """Declares the interface of `StoryValidator`."""

    PARAMETERS = parameters({SETTINGS: str}, optional={CODE_FINGERPRINT: str})
    INPUTS = channels(
        {
            EXAMPLES: standard_artifacts.Examples,
            STATISTICS: standard_artifacts.ExampleStatistics,
            SCHEMA: standard_artifacts.Schema,
        }
    )
    OUTPUTS = channels({EXPECTED_SCHEMA: standard_artifacts.Schema, ANOMALIES: standard_artifacts.ExampleAnomalies})


class StoryValidator(base_beam_component.BaseBeamComponent):
    """Validates stories against a schema from the settings, and splits against each other; fails on broken data.

    Use it in place of TFX's ExampleValidator. Data that is validated against a schema inferred from itself has no
    anomalies. This component's schema comes from the settings: T frames, 64x64 pixels, labels with known names.

    Component `outputs` contains:
     - `expected_schema`: Channel of type `standard_artifacts.Schema`, for Transform.
     - `anomalies`: Channel of type `standard_artifacts.ExampleAnomalies`: for each split `SchemaDiff.pb` as
       ExampleValidator writes it, and `anomalies.json` for the report.

    Example:
        ```
        validator = StoryValidator(
            examples=example_gen.outputs['examples'],
            statistics=statistics_gen.outputs['statistics'],
            schema=schema_gen.outputs['schema'],
            settings=settings.to_json(),
        )
        ```
    """

    SPEC_CLASS = StoryValidatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        statistics: types.BaseChannel,
        schema: types.BaseChannel,
        settings: str,
        *,
        code_fingerprint: str | None = None,
    ) -> None:
        """Constructs a StoryValidator.

        Args:
            examples: output of StoryExampleGen, with a split `train`.
            statistics: output of StatisticsGen.
            schema: output of SchemaGen; it shows the optional features that the records have.
            settings: JSON of `storygan_tf.config.schema.Settings`, or of those parts of them that are used:
                `model.frames`, `model.labels` and `data.max_sentence_length`.
            code_fingerprint: fingerprint of the executor's code: part of the cache key, otherwise unused.
        """
        super().__init__(
            StoryValidatorSpec(
                examples=examples,
                statistics=statistics,
                schema=schema,
                settings=settings,
                code_fingerprint=code_fingerprint,
                **output_channels(StoryValidatorSpec),
            )
        )
