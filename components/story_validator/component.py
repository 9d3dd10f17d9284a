"""The StoryValidator component: its inputs, parameters and outputs."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.story_validator import executor


class StoryValidatorSpec(types.ComponentSpec):
    """What StoryValidator takes and gives; see `StoryValidator`."""

    PARAMETERS = {  # noqa: RUF012
        executor.SETTINGS: component_spec.ExecutionParameter(type=str),
        executor.CODE_FINGERPRINT: component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        executor.EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        executor.STATISTICS: component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics),
        executor.SCHEMA: component_spec.ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.EXPECTED: component_spec.ChannelParameter(type=standard_artifacts.Schema),
        executor.ANOMALIES: component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies),
    }


class StoryValidator(base_beam_component.BaseBeamComponent):
    """Holds stories against a schema of our own, and splits against each other; broken data fails it.

    It stands where ExampleValidator usually does. A schema that is inferred from the data that it is then held against
    finds nothing; this one comes from the settings: T frames, 64x64 pixels, labels of known names.

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
            examples: of StoryExampleGen, with a split `train`.
            statistics: of StatisticsGen.
            schema: of SchemaGen: tells which optional features records have.
            settings: JSON of `storygan_tf.config.schema.Settings`, or of the part of them that is used: `model.frames`,
                `model.labels` and `data.max_sentence_length`.
            code_fingerprint: of the code that the executor runs: part of the cache key, otherwise unused.
        """
        super().__init__(
            StoryValidatorSpec(
                examples=examples,
                statistics=statistics,
                schema=schema,
                settings=settings,
                code_fingerprint=code_fingerprint,
                expected_schema=types.Channel(type=standard_artifacts.Schema),
                anomalies=types.Channel(type=standard_artifacts.ExampleAnomalies),
            )
        )
