"""The arguments of an executor's `Do`, with the access to them that all our executors need."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

from tfx import types
from tfx.types import artifact_utils

from components.spec_names import SETTINGS
from storygan_tf.config.schema import Settings

Artifacts: TypeAlias = dict[str, list[types.Artifact]]
"""Artifacts by channel name."""


@dataclasses.dataclass(frozen=True)
class ExecutorArguments:
    """The three arguments that TFX passes to `Do`.

    Attributes:
        inputs: input artifacts by channel name (`input_dict`); a missing or empty list is an optional input left out.
        outputs: output artifacts by channel name (`output_dict`).
        properties: execution properties by name (`exec_properties`); missing or None if an optional one is left out.
    """

    inputs: Artifacts
    outputs: Artifacts
    properties: dict[str, Any]

    def input(self, name: str) -> types.Artifact:
        """Returns the single artifact of an input; raises ValueError if there is not exactly one."""
        return artifact_utils.get_single_instance(self.inputs[name])

    def input_uri(self, name: str) -> str:
        """Returns the URI of the single artifact of an input; raises ValueError if there is not exactly one."""
        return artifact_utils.get_single_uri(self.inputs[name])

    def optional_input_uri(self, name: str) -> str | None:
        """Returns the URI of the single artifact of an optional input, or None if the input is left out."""
        return self.input_uri(name) if self.inputs.get(name) else None

    def output(self, name: str) -> types.Artifact:
        """Returns the single artifact of an output; raises ValueError if there is not exactly one."""
        return artifact_utils.get_single_instance(self.outputs[name])

    def output_uri(self, name: str) -> str:
        """Returns the URI of the single artifact of an output; raises ValueError if there is not exactly one."""
        return artifact_utils.get_single_uri(self.outputs[name])

    def text(self, name: str) -> str:
        """Returns an optional execution property of type str; empty if it is left out."""
        return self.properties.get(name) or ""

    def settings(self) -> Settings:
        """Returns the settings in the execution property `settings`.

        Raises:
            ConfigError: if the property is not valid JSON of `storygan_tf.config.schema.Settings`.
        """
        return Settings.from_json(self.properties[SETTINGS])
