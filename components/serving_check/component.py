"""The ServingCheck component: its inputs, parameters and outputs."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts

from components.serving_check import executor
from components.spec_names import BLESSING, CODE_FINGERPRINT, EVALUATION, EXAMPLES, MODEL, TIMEOUT_SECONDS
from components.spec_parameters import channels, output_channels, parameters


class ServingCheckSpec(types.ComponentSpec):
    """Declares the interface of `ServingCheck`."""

    PARAMETERS = parameters({TIMEOUT_SECONDS: int}, optional={CODE_FINGERPRINT: str})
    INPUTS = channels(
        {MODEL: standard_artifacts.Model, EXAMPLES: standard_artifacts.Examples},
        optional={EVALUATION: standard_artifacts.ModelEvaluation},
    )
    OUTPUTS = channels({BLESSING: standard_artifacts.InfraBlessing})


class ServingCheck(base_component.BaseComponent):
    """Draws a story with an export in a fresh process that imports TensorFlow only.

    TFX's InfraValidator needs Docker or Kubernetes; this component needs neither. Its output is what TFX's Pusher
    accepts in place of a model: an InfraBlessing with the model in it.

    Component `outputs` contains:
     - `blessing`: Channel of type `standard_artifacts.InfraBlessing`, with the custom property `reason`. If the model
       is blessed, the artifact holds a copy of the model with the result of the check in
       `assets.extra/serving_check.json`, next to the model card and the lineage of the evaluation.

    Example:
        ```
        serving_check = ServingCheck(model=trainer.outputs['model'], examples=example_gen.outputs['examples'])
        pusher = Pusher(infra_blessing=serving_check.outputs['blessing'], push_destination=...)
        ```
    """

    SPEC_CLASS = ServingCheckSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        evaluation: types.BaseChannel | None = None,
        timeout_seconds: int = 300,
        *,
        code_fingerprint: str | None = None,
    ) -> None:
        """Constructs a ServingCheck.

        Args:
            model: output of Trainer; its serving model is checked.
            examples: output of StoryExampleGen; its first test story is drawn.
            evaluation: output of StoryEvaluator, whose model card and lineage are copied into the blessed model.
            timeout_seconds: time limit for loading the model and for all calls together.
            code_fingerprint: fingerprint of the executor's code: part of the cache key, otherwise unused.
        """
        super().__init__(
            ServingCheckSpec(
                model=model,
                examples=examples,
                evaluation=evaluation,
                timeout_seconds=timeout_seconds,
                code_fingerprint=code_fingerprint,
                **output_channels(ServingCheckSpec),
            )
        )
