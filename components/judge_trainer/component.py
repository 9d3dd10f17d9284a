"""The JudgeTrainer component: its inputs, parameters and outputs."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.judge_trainer import executor


class JudgeTrainerSpec(types.ComponentSpec):
    """What JudgeTrainer takes and gives; see `JudgeTrainer`."""

    PARAMETERS = {  # noqa: RUF012
        executor.SETTINGS: component_spec.ExecutionParameter(type=str),
        executor.CODE_FINGERPRINT: component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        executor.EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.JUDGE: component_spec.ChannelParameter(type=standard_artifacts.Model),
    }


class JudgeTrainer(base_component.BaseComponent):
    """Gives the judge that tells labels, features and placed objects of a data set's frames.

    It is a step of its own, so that TFX's cache keeps the judge while models come and go. It sees training stories
    alone, and no model sees it.

    Component `outputs` contains:
     - `judge`: Channel of type `standard_artifacts.Model`, as `storygan_tf.evaluation.judge.judge.read_judge` reads
       it, with the custom property `what`.

    Example:
        ```
        judge_trainer = JudgeTrainer(examples=example_gen.outputs['examples'], settings=settings.to_json())
        ```
    """

    SPEC_CLASS = JudgeTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, examples: types.BaseChannel, settings: str, *, code_fingerprint: str | None = None) -> None:
        """Constructs a JudgeTrainer.

        Args:
            examples: of StoryExampleGen, with a split `train`.
            settings: JSON of `storygan_tf.config.schema.Settings`, or of the part of them that is used:
                `model.frames` and, of `evaluation`, `judge`, `seed`, `classifier_epochs` and `classifier_stories`.
            code_fingerprint: of the code that the executor runs: part of the cache key, otherwise unused.
        """
        super().__init__(
            JudgeTrainerSpec(
                examples=examples,
                settings=settings,
                code_fingerprint=code_fingerprint,
                judge=types.Channel(type=standard_artifacts.Model),
            )
        )
