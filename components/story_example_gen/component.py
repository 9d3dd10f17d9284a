"""The StoryExampleGen component: its parameters and outputs."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.story_example_gen import executor


class StoryExampleGenSpec(types.ComponentSpec):
    """What StoryExampleGen takes and gives; see `StoryExampleGen`."""

    PARAMETERS = {  # noqa: RUF012
        executor.DATA_DIR: component_spec.ExecutionParameter(type=str),
        executor.SETTINGS: component_spec.ExecutionParameter(type=str),
        executor.DATA_FINGERPRINT: component_spec.ExecutionParameter(type=str),
        executor.CODE_FINGERPRINT: component_spec.ExecutionParameter(type=str),
        executor.REJECTS_PATH: component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS: dict[str, component_spec.ChannelParameter] = {}  # noqa: RUF012
    OUTPUTS = {  # noqa: RUF012
        executor.EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }


class StoryExampleGen(base_beam_component.BaseBeamComponent):
    """Reads a folder of stories, sets aside what cannot be used, and writes the rest as tf.Examples.

    Component `outputs` contains:
     - `examples`: Channel of type `standard_artifacts.Examples`: one tf.Example a story, as
       `storygan_tf.data.example_schema` says, in gzipped TFRecords; beside the splits `labels.json`, `rejects.jsonl`
       and `counts.json`.

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
            settings: `storygan_tf.config.schema.Settings.to_json`; used are `model.frames` and `data`.
            data_fingerprint: of the folder: part of the cache key, otherwise unused.
            code_fingerprint: of the code that the executor runs: likewise.
            rejects_path: where to leave a copy of `rejects.jsonl`, also when too many stories were set aside.
        """
        super().__init__(
            StoryExampleGenSpec(
                data_dir=data_dir,
                settings=settings,
                data_fingerprint=data_fingerprint,
                code_fingerprint=code_fingerprint,
                rejects_path=rejects_path,
                examples=types.Channel(type=standard_artifacts.Examples),
            )
        )
