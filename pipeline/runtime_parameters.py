"""What can be changed where a compiled pipeline is submitted: its runtime parameters.

Kubeflow replaces a step's property by a runtime parameter only as a whole, so all settings are one of them, in JSON.
Steps of our own have a property for them. TFX's Transform and Trainer have none, and get their settings within
`custom_config`, among fingerprints that nobody should have to write: here they are given properties more, and executors
that put these into `custom_config`.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tfx import types
from tfx.components.trainer import executor as trainer
from tfx.components.transform import executor as transform
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_component_specs
from tfx.utils import json_utils
from tfx.v1.components import Trainer, Transform
from tfx.v1.dsl.experimental import RuntimeParameter

from pipeline.compat import add_exec_properties
from pipeline.step_inputs import TRAINER_SETTINGS, TRANSFORM_SETTINGS, StepArguments
from storygan_tf.common.errors import ConfigError
from storygan_tf.config.schema import Settings

SETTINGS, TRAINING, LABELS = "settings", "training", "labels"
"""Properties of Transform and Trainer."""


@dataclasses.dataclass(frozen=True)
class RuntimeParameters:
    """The runtime parameters, all of them strings.

    Attributes:
        data: URI or path of the folder of stories.
        data_fingerprint: changes when anything in it does.
        label_names: JSON list of the names of the stories' labels.
        settings_json: JSON of `storygan_tf.config.schema.Settings`.
        training_json: JSON object of settings below `training` that differ from those in `settings_json`.
    """

    data: RuntimeParameter
    data_fingerprint: RuntimeParameter
    label_names: RuntimeParameter
    settings_json: RuntimeParameter
    training_json: RuntimeParameter

    @classmethod
    def of(cls, **defaults: str) -> RuntimeParameters:
        """Returns parameters with these values, for a submission that gives no others."""
        return cls(**{name: RuntimeParameter(name, str, default) for name, default in defaults.items()})

    @property
    def values(self) -> dict[str, str]:
        """The value of each where a submission gives none."""
        return {name: parameter.default for name, parameter in vars(self).items()}

    def add_to_transform(self, component: Transform) -> None:
        """Adds the parameters that a Transform component depends on to its execution properties."""
        add_exec_properties(component, {SETTINGS: self.settings_json})

    def add_to_trainer(self, component: Trainer) -> None:
        """Adds the parameters that a Trainer component depends on to its execution properties."""
        properties = {SETTINGS: self.settings_json, TRAINING: self.training_json, LABELS: self.label_names}
        add_exec_properties(component, properties)


class TransformExecutor(transform.Executor):
    """TFX's own, whose `preprocessing_fn` hears of the settings that were submitted."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See TFX's executor. `settings`, optional: JSON of `storygan_tf.config.schema.Settings`."""
        super().Do(input_dict, output_dict, with_runtime_parameters(exec_properties, TRANSFORM_SETTINGS))


class TrainerExecutor(trainer.GenericExecutor):
    """TFX's own, whose `run_fn` hears of what was submitted."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See TFX's executor.

        `settings`, `training` and `labels`, optional: as `RuntimeParameters` describes `settings_json`,
        `training_json` and `label_names`.
        """
        super().Do(input_dict, output_dict, with_runtime_parameters(exec_properties, TRAINER_SETTINGS))


class StoryTransform(Transform):
    """TFX's Transform, with `TransformExecutor`."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(TransformExecutor)


class StoryTrainer(Trainer):
    """TFX's Trainer, with `TrainerExecutor`."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(TrainerExecutor)


def with_runtime_parameters(exec_properties: dict[str, Any], parts: tuple[str, ...]) -> dict[str, Any]:
    """Returns a step's properties with what was submitted in their `custom_config`, reduced to what the step uses.

    Args:
        exec_properties: of Transform or Trainer.
        parts: of the settings that the step uses.

    Raises:
        ConfigError: for settings that do not parse, or that name another model to start from than was compiled in.
    """
    properties = dict(exec_properties)
    given, training, labels = (properties.pop(key, None) for key in (SETTINGS, TRAINING, LABELS))
    if not given:
        return properties
    key = standard_component_specs.CUSTOM_CONFIG_KEY
    arguments, compiled = StepArguments.from_custom_config(json_utils.loads(properties[key]))
    settings = Settings.from_json(given).with_training(training or "")
    _check_same_start(compiled.training.init_from, settings.training.init_from)
    changed = dataclasses.replace(
        arguments, settings=settings.to_json(*parts), labels=_list(labels) if labels else arguments.labels
    )
    properties[key] = json_utils.dumps(changed.to_custom_config())
    return properties


def _check_same_start(compiled: str, given: str) -> None:
    if compiled != given:
        raise ConfigError(
            f"training.init_from: found {given!r}, but the pipeline was compiled with {compiled!r}, whose "
            "fingerprint is in it; expected the same. Compile it again with --init-from."
        )


def _list(text: str) -> str:
    """Returns the text, which must be a JSON list of strings."""
    try:
        names = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"label_names: not JSON ({error}); found {text[:80]!r}.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f'label_names: found {text[:80]!r}, expected a JSON list of strings, such as ["red", "cube"].'
        )
    return text
