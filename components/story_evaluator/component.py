"""The StoryEvaluator component: its inputs, parameters and outputs."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts

from components.spec_names import (
    ANOMALIES,
    BLESSING,
    CODE_FINGERPRINT,
    DATA_FINGERPRINT,
    EVALUATION,
    EXAMPLES,
    INPUTS_FINGERPRINT,
    JUDGE,
    MODEL,
    MODEL_RUN,
    RUN_INFO,
    SERVING_DIR,
    SETTINGS,
    TRAINING,
)
from components.spec_parameters import channels, output_channels, parameters
from components.story_evaluator import executor


class StoryEvaluatorSpec(types.ComponentSpec):
    """Declares the interface of `StoryEvaluator`."""

    PARAMETERS = parameters(
        {SETTINGS: str},
        optional={
            SERVING_DIR: str,
            CODE_FINGERPRINT: str,
            DATA_FINGERPRINT: str,
            INPUTS_FINGERPRINT: str,
            RUN_INFO: str,
            TRAINING: str,
        },
    )
    INPUTS = channels(
        {EXAMPLES: standard_artifacts.Examples, MODEL: standard_artifacts.Model, JUDGE: standard_artifacts.Model},
        optional={MODEL_RUN: standard_artifacts.ModelRun, ANOMALIES: standard_artifacts.ExampleAnomalies},
    )
    OUTPUTS = channels({EVALUATION: standard_artifacts.ModelEvaluation, BLESSING: standard_artifacts.ModelBlessing})


class StoryEvaluator(base_beam_component.BaseBeamComponent):
    """Evaluates an exported model, and the served one, on the test stories, and blesses the export if it passes.

    TFX's Pusher pushes only a blessed model.

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
            examples: output of StoryExampleGen, with splits `train` and `test`.
            model: output of Trainer; its serving model is evaluated.
            judge: output of JudgeTrainer.
            settings: JSON of `storygan_tf.config.schema.Settings`, or of the part of them that is used: `evaluation`.
            model_run: output of Trainer, whose `history.json` the report plots.
            anomalies: output of StoryValidator, whose `anomalies.json` the report lists.
            serving_dir: the push destination, a model base directory. Its newest version is the served model, which
                thresholds may compare the model with.
            code_fingerprint: fingerprint of the executor's code: part of the cache key, otherwise unused.
            data_fingerprint: fingerprint of the data folder, for the lineage.
            inputs_fingerprint: fingerprint of inputs that are no artifacts (the push destination, networks): part of
                the cache key, otherwise unused.
            run_info: JSON for the report and the lineage: {"commands": {purpose: command}, "settings": {...}, "code":
                {step: fingerprint}, "environment": {"lock": ..., "packages": ...}}.
            training: JSON of the training settings that `settings` does not contain, as
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
                **output_channels(StoryEvaluatorSpec),
            )
        )
