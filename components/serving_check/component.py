"""The ServingCheck component: its inputs, parameters and outputs."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.serving_check import executor


class ServingCheckSpec(types.ComponentSpec):
    """What ServingCheck takes and gives; see `ServingCheck`."""

    PARAMETERS = {  # noqa: RUF012
        executor.TIMEOUT_SECONDS: component_spec.ExecutionParameter(type=int),
        executor.CODE_FINGERPRINT: component_spec.ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {  # noqa: RUF012
        executor.MODEL: component_spec.ChannelParameter(type=standard_artifacts.Model),
        executor.EXAMPLES: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        executor.EVALUATION: component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.BLESSING: component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing),
    }


class ServingCheck(base_component.BaseComponent):
    """Asks an export for a story in a fresh process that knows TensorFlow alone.

    TFX's InfraValidator needs Docker or Kubernetes; this needs neither, and gives what stock Pusher takes in place of a
    model: an InfraBlessing with the model in it.

    Component `outputs` contains:
     - `blessing`: Channel of type `standard_artifacts.InfraBlessing`, with the custom property `reason`; where it is
       given it holds a copy of the model, stamped with `assets.extra/serving_check.json`, and with the model card and
       lineage of the evaluation beside that.

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
            model: of Trainer; its serving model is checked.
            examples: of StoryExampleGen; its first test story is asked.
            evaluation: of StoryEvaluator, whose model card and lineage go with the model.
            timeout_seconds: for loading and all answers together.
            code_fingerprint: of the code that the executor runs: part of the cache key, otherwise unused.
        """
        super().__init__(
            ServingCheckSpec(
                model=model,
                examples=examples,
                evaluation=evaluation,
                timeout_seconds=timeout_seconds,
                code_fingerprint=code_fingerprint,
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )
