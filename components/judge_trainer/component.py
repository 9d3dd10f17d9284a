"""The JudgeTrainer component: its inputs, parameters and outputs."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts

from components.judge_trainer import executor
from components.spec_names import CODE_FINGERPRINT, EXAMPLES, JUDGE, SETTINGS
from components.spec_parameters import channels, output_channels, parameters


class JudgeTrainerSpec(types.ComponentSpec):
    """Declares the interface of `JudgeTrainer`."""

    PARAMETERS = parameters({SETTINGS: str}, optional={CODE_FINGERPRINT: str})
    INPUTS = channels({EXAMPLES: standard_artifacts.Examples})
    OUTPUTS = channels({JUDGE: standard_artifacts.Model})


class JudgeTrainer(base_component.BaseComponent):
    """Provides the judge: a classifier that finds labels, features and objects in the frames of a data set.

    It is a separate step, so that TFX's cache keeps the judge while models change. The judge is trained on training
    stories only, and no model is trained with it.

    Component `outputs` contains:
     - `judge`: Channel of type `standard_artifacts.Model`, which `storygan_tf.evaluation.judge.judge.read_judge`
       reads, with the custom property `what`.

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
            examples: output of StoryExampleGen, with a split `train`.
            settings: JSON of `storygan_tf.config.schema.Settings`, or of those parts of them that are used:
                `model.frames`, and `judge`, `seed`, `classifier_epochs` and `classifier_stories` of `evaluation`.
            code_fingerprint: fingerprint of the executor's code: part of the cache key, otherwise unused.
        """
        super().__init__(
            JudgeTrainerSpec(
                examples=examples,
                settings=settings,
                code_fingerprint=code_fingerprint,
                **output_channels(JudgeTrainerSpec),
            )
        )
