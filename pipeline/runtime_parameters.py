"""Runtime parameters: the values that can be changed when a compiled pipeline is submitted.

Kubeflow can replace only a whole property of a step by a runtime parameter, so one parameter holds all settings as
JSON. Steps of the project have a property for it. TFX's Transform and Trainer have none: they read their settings from
`custom_config`, together with fingerprints that users should not have to write. This module adds properties to these
two steps, and executors that merge them into `custom_config`.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tfx import types
from tfx.components import Trainer, Transform
from tfx.components.trainer import executor as trainer
from tfx.components.transform import executor as transform
from tfx.dsl.components.base import executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import standard_component_specs
from tfx.utils import json_utils

from pipeline.compat import add_exec_properties
from pipeline.step_inputs import TRAINER_SETTINGS, TRANSFORM_SETTINGS, StepArguments
from storygan_tf.common.errors import ConfigError
from storygan_tf.config.schema import Settings

SETTINGS, TRAINING, LABELS = "settings", "training", "labels"
"""Names of the execution properties that are added to Transform and Trainer."""


@dataclasses.dataclass(frozen=True)
class RuntimeParameters:
    """The runtime parameters, all of which are strings.

    Attributes:
        data: URI or path of the folder of stories.
        data_fingerprint: text that changes when the content of that folder changes.
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
    def with_defaults(cls, **defaults: str) -> RuntimeParameters:
        """Returns runtime parameters with these default values, given by the parameter's name."""
        return cls(**{name: RuntimeParameter(name, str, default) for name, default in defaults.items()})

    @property
    def values(self) -> dict[str, str]:
        """Default values by the parameter's name."""
        return {name: parameter.default for name, parameter in vars(self).items()}

    def add_to_transform(self, component: Transform) -> None:
        """Adds the parameters that a Transform component depends on to its execution properties."""
        add_exec_properties(component, {SETTINGS: self.settings_json})

    def add_to_trainer(self, component: Trainer) -> None:
        """Adds the parameters that a Trainer component depends on to its execution properties."""
        properties = {SETTINGS: self.settings_json, TRAINING: self.training_json, LABELS: self.label_names}
        add_exec_properties(component, properties)


class TransformExecutor(transform.Executor):
    """TFX's executor of Transform, which passes submitted settings to `preprocessing_fn`."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs Transform.

        Args:
            input_dict: as TFX's executor.
            output_dict: as TFX's executor.
            exec_properties: as TFX's executor; optionally also `settings`: JSON of
                `storygan_tf.config.schema.Settings`.

        Raises:
            ConfigError: as `with_runtime_parameters`.
        """
        super().Do(input_dict, output_dict, with_runtime_parameters(exec_properties, TRANSFORM_SETTINGS))


class TrainerExecutor(trainer.GenericExecutor):
    """TFX's executor of Trainer, which passes submitted settings to `run_fn`."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs Trainer.

        Args:
            input_dict: as TFX's executor.
            output_dict: as TFX's executor.
            exec_properties: as TFX's executor; optionally also `settings`, `training` and `labels`: values of
                `settings_json`, `training_json` and `label_names` of `RuntimeParameters`.

        Raises:
            ConfigError: as `with_runtime_parameters`.
        """
        super().Do(input_dict, output_dict, with_runtime_parameters(exec_properties, TRAINER_SETTINGS))


class StoryTransform(Transform):
    """TFX's Transform component with the executor `TransformExecutor`."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(TransformExecutor)


class StoryTrainer(Trainer):
    """TFX's Trainer component with the executor `TrainerExecutor`."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(TrainerExecutor)


def with_runtime_parameters(exec_properties: dict[str, Any], parts: tuple[str, ...]) -> dict[str, Any]:
    """Moves the submitted values from the properties of a step into its `custom_config`.

    Args:
        exec_properties: execution properties of Transform or Trainer.
        parts: names of the settings that the step uses; only these are put into `custom_config`.

    Returns:
        The execution properties that TFX's executor accepts.

    Raises:
        ConfigError: if the submitted values cannot be parsed, or if `training.init_from` is not the one that the
            pipeline was compiled with.
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
        arguments, settings=settings.to_json(*parts), labels=_check_names(labels) if labels else arguments.labels
    )
    properties[key] = json_utils.dumps(changed.to_custom_config())
    return properties


def _check_same_start(compiled: str, given: str) -> None:
    if compiled != given:
        raise ConfigError(
            f"training.init_from: found {given!r}, but the pipeline was compiled with {compiled!r} and "
            "contains its fingerprint; expected the same model. Compile it again with --init-from."
        )


def _check_names(text: str) -> str:
    """Returns the text, after checking that it is a JSON list of strings."""
    try:
        names = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"label_names: not JSON ({error}); found {text[:80]!r}.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f'label_names: found {text[:80]!r}, expected a JSON list of strings, such as ["red", "cube"].'
        )
    return text
