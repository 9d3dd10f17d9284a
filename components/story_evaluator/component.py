"""The StoryEvaluator component: its inputs, parameters and outputs."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.story_evaluator import executor


class StoryEvaluatorSpec(types.ComponentSpec):
    """What StoryEvaluator takes and gives; see `StoryEvaluator`."""

    PARAMETERS = {  # noqa: RUF012
        executor.SETTINGS: component_spec.ExecutionParameter(type=str),
        executor.SERVING_DIR: component_spec.ExecutionParameter(type=str, optional=True),
        executor.CODE_FINGERPRINT: component_spec.ExecutionParameter(type=str, optional=True),
        executor.DATA_FINGERPRINT: component_spec.ExecutionParameter(type=str, optional=True),
        executor.INPUTS_FINGERPRINT: component_spec.ExecutionParameter(type=str, optional=True),
        executor.RUN_INFO: component_spec.ExecutionParameter(type=str, optional=True),
        executor.TRAINING: component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        executor.EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        executor.MODEL: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.JUDGE: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.MODEL_RUN: component_spec.ChannelParameter(type=standard_artifacts.ModelRun, optional=True),
        executor.ANOMALIES: component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.EVALUATION: component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        executor.BLESSING: component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class StoryEvaluator(base_beam_component.BaseBeamComponent):
    """Judges an export on the test stories, beside the served model; stock Pusher obeys its blessing.

    Component `outputs` contains:
     - `evaluation`: Channel of type `standard_artifacts.ModelEvaluation`: `metrics.json`, `storyboard.png`,
       `report.html`, `model_card.md`, `lineage.json`.
     - `blessing`: Channel of type `standard_artifacts.ModelBlessing`, with the custom property `reason`.

    Example:
        ```
        evaluator = StoryEvaluator(
            examples=example_gen.outputs['examples'],
            model=trainer.outputs['model'],
            judge=judge_trainer.outputs['judge'],
            settings=settings.to_json(),
        )
        ```
    """

    SPEC_CLASS = StoryEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        judge: types.BaseChannel,
        settings: str,
        model_run: types.BaseChannel | None = None,
        *,
        anomalies: types.BaseChannel | None = None,
        serving_dir: str | None = None,
        code_fingerprint: str | None = None,
        data_fingerprint: str | None = None,
        inputs_fingerprint: str | None = None,
        run_info: str | None = None,
        training: str | None = None,
    ) -> None:
        """Constructs a StoryEvaluator.

        Args:
            examples: of StoryExampleGen, with splits `train` and `test`.
            model: of Trainer; its serving model is judged.
            judge: of JudgeTrainer.
            settings: JSON of `storygan_tf.config.schema.Settings`, or of the part of them that is used: `evaluation`.
            model_run: of Trainer, whose `history.json` the report draws.
            anomalies: of StoryValidator, whose `anomalies.json` the report tells.
            serving_dir: the push destination, a model base directory: its newest version is the served model that the
                thresholds against one are about.
            code_fingerprint: of the code that the executor runs: part of the cache key, otherwise unused.
            data_fingerprint: of the data folder, for the lineage.
            inputs_fingerprint: of what is read and is no artifact (the push destination, networks): part of the cache
                key, otherwise unused.
            run_info: JSON for the report and the lineage: {"commands": {purpose: command}, "settings": {...}, "code":
                {step: fingerprint}, "environment": {"lock": ..., "packages": ...}}.
            training: JSON of what the training was told besides, as
                `storygan_tf.config.schema.Settings.with_training` reads it, for the report and the lineage.
        """
        super().__init__(
            StoryEvaluatorSpec(
                examples=examples,
                model=model,
                judge=judge,
                model_run=model_run,
                anomalies=anomalies,
                serving_dir=serving_dir,
                settings=settings,
                code_fingerprint=code_fingerprint,
                data_fingerprint=data_fingerprint,
                inputs_fingerprint=inputs_fingerprint,
                run_info=run_info,
                training=training,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )
