"""A step of the pipeline in a container: `python -m pipeline.cluster.step`, the entry point of compiled pipelines.

TFX has one of its own, which reads the types of artifacts from what it is given. Kubeflow Pipelines 2 gives types of
its own instead, or none, so here they come from the step itself: they are compiled into its arguments.
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
"""Exit codes: of an error, and of a training that was asked to stop and goes on when it is run again."""

Artifacts = dict[str, list[types.Artifact]]


@dataclasses.dataclass(frozen=True)
class StepTypes:
    """What a step takes and gives.

    Attributes:
        inputs: dotted name of the artifacts' class, by the input's name.
        outputs: the same of outputs.
        integers: names of parameters that are whole numbers, which JSON does not tell from others.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    integers: Sequence[str] = ()

    @classmethod
    def from_component(cls, component: base_component.BaseComponent) -> StepTypes:
        """Returns a component's."""
        return cls(
            {name: name_utils.get_full_name(channel.type) for name, channel in component.inputs.items()},
            {name: name_utils.get_full_name(channel.type) for name, channel in component.outputs.items()},
            [name for name, value in component.exec_properties.items() if isinstance(value, int)],
        )

    def to_json(self) -> str:
        """Returns it as an argument of this entry point."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> StepTypes:
        """Reads what `to_json` wrote.

        Raises:
            ConfigError: for anything else.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"--types: found {text[:80]!r} ({error}); expected what the compiler wrote.") from error


@dataclasses.dataclass(frozen=True)
class StepInvocation:
    """What a step is to do, read from an ExecutorInput message.

    Attributes:
        inputs: artifacts, by the input's name.
        outputs: the same of outputs; their URIs are where the step writes.
        properties: execution properties.
        output_file: where the step tells what it made.
        names: names of the artifacts in the cluster's metadata, by their numbers here.
    """

    inputs: Artifacts
    outputs: Artifacts
    properties: dict[str, Any]
    output_file: str
    names: dict[int, str]

    @classmethod
    def from_json(cls, text: str, step_types: StepTypes) -> StepInvocation:
        """Reads it, and gives artifacts the types of the step.

        Raises:
            ConfigError: for text that is no such message, or that has artifacts of which the step does not know.
        """
        message = pipeline_spec_pb2.ExecutorInput()
        try:
            # A newer launcher may say more.
            json_format.Parse(text, message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise ConfigError(f"--input: found {text[:80]!r} ({error}); expected an ExecutorInput.") from error
        names: dict[int, str] = {}
        inputs = _artifacts(message.inputs.artifacts, step_types.inputs, names)
        outputs = _artifacts(message.outputs.artifacts, step_types.outputs, names)
        return cls(inputs, outputs, _properties(message.inputs, step_types), message.outputs.output_file, names)

    def write_output(self) -> None:
        """Writes what the step made, as an ExecutorOutput message."""
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
    """Returns execution properties: of schema 2.1 `parameter_values`, of 2.0 `parameters`."""
    properties = {name: getattr(value, value.WhichOneof("value")) for name, value in inputs.parameters.items()}
    properties |= {name: getattr(value, value.WhichOneof("kind")) for name, value in inputs.parameter_values.items()}
    return {name: int(value) if name in step_types.integers else value for name, value in properties.items()}


def run_step(
    executor_class: type[base_executor.BaseExecutor], invocation: StepInvocation, beam: Sequence[str], mirrored: bool
) -> None:
    """Runs a step and tells what it made.

    Args:
        executor_class: of the step.
        invocation: what it is to do.
        beam: Beam's options.
        mirrored: whether artifacts are in the launcher's folders (`pipeline.cluster.launcher_paths`).
    """
    executor = executor_class(_context(executor_class, invocation, beam))
    # Beam's workers on other machines reach buckets, and nothing of this one.
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
    """Runs the step that the arguments name; returns the process's exit code."""
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
    parser.add_argument("--types", required=True, help="JSON: classes of its artifacts")
    parser.add_argument("--input", required=True, help="ExecutorInput message in JSON")
    parser.add_argument("--mirrored", action="store_true", help="artifacts are in folders of Kubeflow's launcher")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
