"""The StoryExampleGen component: its parameters and outputs."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.spec_names import (
    CODE_FINGERPRINT,
    DATA_DIR,
    DATA_FINGERPRINT,
    EXAMPLES,
    REJECTS_PATH,
    SETTINGS,
)
from components.spec_parameters import channels, output_channels, parameters
from components.story_example_gen import executor


class StoryExampleGenSpec(types.ComponentSpec):
    """Declares the interface of `StoryExampleGen`."""

    PARAMETERS = parameters(
        {DATA_DIR: str, SETTINGS: str, DATA_FINGERPRINT: str, CODE_FINGERPRINT: str}, optional={REJECTS_PATH: str}
    )
    INPUTS: dict[str, component_spec.ChannelParameter] = {}  # noqa: RUF012
    OUTPUTS = channels({EXAMPLES: standard_artifacts.Examples})


class StoryExampleGen(base_beam_component.BaseBeamComponent):
    """Reads a folder of stories, rejects those that cannot be used, and writes the others as tf.Examples.

    Component `outputs` contains:
     - `examples`: Channel of type `standard_artifacts.Examples`: one tf.Example for each story, in the format of
       `storygan_tf.data.example_schema`, in gzipped TFRecords; next to the splits `labels.json`, `rejects.jsonl` and
       `counts.json`.

    Example:
        ```
        example_gen = StoryExampleGen(
            data_dir='stories',
            settings=settings.to_json(),
            data_fingerprint=data_fingerprint('stories'),
            code_fingerprint=code_fingerprint('components.story_example_gen.executor'),
        )
        ```
    """

    SPEC_CLASS = StoryExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        *,
        data_dir: str,
        settings: str,
        data_fingerprint: str,
        code_fingerprint: str,
        rejects_path: str | None = None,
    ) -> None:
        """Constructs a StoryExampleGen.

        Args:
            data_dir: folder of stories.
            settings: JSON of `storygan_tf.config.schema.Settings`, or of those parts of them that are used:
                `model.frames` and `data`.
            data_fingerprint: fingerprint of the folder: part of the cache key, otherwise unused.
            code_fingerprint: fingerprint of the executor's code: part of the cache key, otherwise unused.
            rejects_path: file for a copy of `rejects.jsonl`, which is written even if too many stories are rejected;
                None for no copy.
        """
        super().__init__(
            StoryExampleGenSpec(
                data_dir=data_dir,
                settings=settings,
                data_fingerprint=data_fingerprint,
                code_fingerprint=code_fingerprint,
                rejects_path=rejects_path,
                **output_channels(StoryExampleGenSpec),
            )
        )
