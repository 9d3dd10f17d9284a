"""Runs a step of a compiled pipeline in a container: `python -m pipeline.cluster.step`.

TFX's own entry point reads the types of artifacts from its input message. Kubeflow Pipelines 2 writes its own types
there, or none. This entry point takes the types from its arguments instead, where the compiler puts them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from absl import logging as absl_logging
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx import types
from tfx.dsl.components.base import base_beam_executor, base_component, base_executor
from tfx.dsl.io import fileio
from tfx.utils import import_utils, name_utils

from components.beam_options import beam_options, is_local
from components.staging import staged
from pipeline import compat
from pipeline.cluster.launcher_paths import local_artifact_paths
from storygan_tf.common.errors import ConfigError, StoryGANError
from storygan_tf.training.callbacks.interruption import TrainingInterruptedError

FAILED, INTERRUPTED = 1, 143
"""Exit codes: of an error, and of an interrupted training, which resumes when the step is run again."""

Artifacts = dict[str, list[types.Artifact]]


@dataclasses.dataclass(frozen=True)
class StepTypes:
    """Types of the artifacts and parameters of a step.

    Attributes:
        inputs: dotted name of the artifacts' class, by the input's name.
        outputs: dotted name of the artifacts' class, by the output's name.
        integers: names of parameters that are integers, which JSON does not distinguish from other numbers.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    integers: Sequence[str] = ()

    @classmethod
    def from_component(cls, component: base_component.BaseComponent) -> StepTypes:
        """Returns the types of a component."""
        return cls(
            {name: name_utils.get_full_name(channel.type) for name, channel in component.inputs.items()},
            {name: name_utils.get_full_name(channel.type) for name, channel in component.outputs.items()},
            [name for name, value in component.exec_properties.items() if isinstance(value, int)],
        )

    def to_json(self) -> str:
        """Returns the types as JSON, for the argument `--types` of this entry point."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> StepTypes:
        """Reads JSON that `to_json` returned.

        Raises:
            ConfigError: if the text is something else.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"--types: found {text[:80]!r} ({error}); expected JSON of `storygan compile`."
            ) from error


@dataclasses.dataclass(frozen=True)
class StepInvocation:
    """The inputs and outputs of one run of a step, read from an ExecutorInput message.

    Attributes:
        inputs: input artifacts, by the input's name.
        outputs: output artifacts, by the output's name; the step writes to their URIs.
        properties: execution properties.
        output_file: path or URI of the ExecutorOutput message that the step writes.
        names: names of the artifacts in the cluster's metadata, by the artifact's id in this process.
    """

    inputs: Artifacts
    outputs: Artifacts
    properties: dict[str, Any]
    output_file: str
    names: dict[int, str]

    @classmethod
    def from_json(cls, text: str, step_types: StepTypes) -> StepInvocation:
        """Reads an ExecutorInput message.

        Args:
            text: the message as JSON.
            step_types: types of the step's artifacts, which replace the types in the message.

        Raises:
            ConfigError: if the text is not such a message, or if it contains artifacts that the step does not have.
        """
        message = pipeline_spec_pb2.ExecutorInput()
        try:
            # A newer launcher may write further fields.
            json_format.Parse(text, message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise ConfigError(f"--input: found {text[:80]!r} ({error}); expected an ExecutorInput.") from error
        names: dict[int, str] = {}
        inputs = _artifacts(message.inputs.artifacts, step_types.inputs, names)
        outputs = _artifacts(message.outputs.artifacts, step_types.outputs, names)
        return cls(inputs, outputs, _properties(message.inputs, step_types), message.outputs.output_file, names)

    def write_output(self) -> None:
        """Writes the output artifacts with their properties to `output_file`, as an ExecutorOutput message."""
        message = compat.executor_output(self.outputs, self.names)
        fileio.makedirs(os.path.dirname(self.output_file))  # noqa: PTH120 - may be a URI
        with fileio.open(self.output_file, "wb") as file:
            file.write(json_format.MessageToJson(message).encode())


def _artifacts(
    given: Mapping[str, pipeline_spec_pb2.ArtifactList], classes: Mapping[str, str], names: dict[int, str]
) -> Artifacts:
    for name in given:
        if name not in classes:
            raise ConfigError(f"--input: found artifacts {name!r}, expected only {', '.join(classes) or 'none'}.")
    return {name: listed for name, listed in compat.parse_artifacts(given, classes, names).items() if listed}


def _properties(inputs: Any, step_types: StepTypes) -> dict[str, Any]:
    """Returns the execution properties, from `parameter_values` (schema 2.1) or `parameters` (schema 2.0)."""
    properties = {name: getattr(value, value.WhichOneof("value")) for name, value in inputs.parameters.items()}
    properties |= {name: getattr(value, value.WhichOneof("kind")) for name, value in inputs.parameter_values.items()}
    return {name: int(value) if name in step_types.integers else value for name, value in properties.items()}


def run_step(
    executor_class: type[base_executor.BaseExecutor], invocation: StepInvocation, beam: Sequence[str], mirrored: bool
) -> None:
    """Runs a step and writes its ExecutorOutput message.

    Args:
        executor_class: class of the step's executor.
        invocation: inputs and outputs of the step.
        beam: options for Beam.
        mirrored: whether artifacts are in the launcher's folders (`pipeline.cluster.launcher_paths`).
    """
    executor = executor_class(_context(executor_class, invocation, beam))
    # Workers of Beam on other machines can read buckets, but no local copies of this machine.
    buckets = (
        staged(invocation.inputs, invocation.outputs, invocation.properties)
        if is_local(beam)
        else nullcontext(invocation.properties)
    )
    with local_artifact_paths(invocation.inputs, invocation.outputs, mirrored=mirrored), buckets as properties:
        executor.Do(invocation.inputs, invocation.outputs, properties)
    invocation.write_output()


def _context(executor_class: type[base_executor.BaseExecutor], invocation: StepInvocation, beam: Sequence[str]) -> Any:
    root = os.path.dirname(invocation.output_file)  # noqa: PTH120 - may be a URI
    places = {"tmp_dir": f"{root}/.temp", "unique_id": os.path.basename(root)}  # noqa: PTH119
    if issubclass(executor_class, base_beam_executor.BaseBeamExecutor):
        return base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=beam_options(beam), **places)
    return base_executor.BaseExecutor.Context(**places)


def main(arguments: Sequence[str]) -> int:
    """Runs the step that the command-line arguments describe.

    Args:
        arguments: arguments of the process; unknown ones are options for Beam.

    Returns:
        The exit code of the process.
    """
    options, beam = _parser().parse_known_args(arguments)
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        invocation = StepInvocation.from_json(options.input, StepTypes.from_json(options.types))
        with compat.hidden_command_line():
            run_step(import_utils.import_class_by_path(options.executor), invocation, beam, options.mirrored)
    except TrainingInterruptedError as error:
        return _fail(options.step, error, INTERRUPTED)
    except StoryGANError as error:
        return _fail(options.step, error, FAILED)
    return 0


def _fail(step: str, error: StoryGANError, code: int) -> int:
    logging.getLogger(__name__).error("step %s ended with code %d", step, code)
    print(f"storygan: step {step} failed. {step}: {error}", file=sys.stderr, flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pipeline.cluster.step", description=__doc__, allow_abbrev=False)
    parser.add_argument("--step", required=True, help="name of the step")
    parser.add_argument("--executor", required=True, help="dotted name of the executor's class")
    parser.add_argument("--types", required=True, help="JSON with the classes of the step's artifacts")
    parser.add_argument("--input", required=True, help="ExecutorInput message as JSON")
    parser.add_argument("--mirrored", action="store_true", help="artifacts are in the folders of Kubeflow's launcher")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
