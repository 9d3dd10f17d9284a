"""Pipeline specifications for Kubeflow Pipelines 2 and Vertex: those that TFX compiles, with additions for a cluster.

TFX compiles the components, the tasks and their order. This module adds the project's entry point
(`pipeline.cluster.step`), resources, Beam options and retries to each step, and a value to each runtime parameter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_beam_executor, base_component
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.utils import name_utils

from components.beam_options import check_beam_options, is_local
from pipeline import compat
from pipeline.cluster.cluster_settings import CompileRequest, StepSettings
from pipeline.cluster.step import StepTypes
from pipeline.cluster.submission import Submission
from storygan_tf.common.errors import ConfigError

COMMAND = ("python", "-m", "pipeline.cluster.step")
"""Command of every container."""

_BACKOFF_SECONDS = 30
"""Seconds before a failed step is run again; doubled for every further retry."""

_UNCACHED_STEP = "StoryEvaluator"
"""Name of the step that always runs: its result depends on the pushed models, which are not in any cache key."""

SCHEMA_2_1 = "2.1.0"


def pipeline_job(request: CompileRequest, submission: Submission, version: str, *, mirrored: bool) -> dict[str, Any]:
    """Returns a PipelineJob: a pipeline specification and the values of its runtime parameters.

    Args:
        request: the arguments of the compilation.
        submission: the pipeline and its runtime parameters.
        version: version of the specification's schema.
        mirrored: whether the launcher copies artifacts to and from the container (`pipeline.cluster.launcher_paths`).

    Returns:
        The PipelineJob as a dictionary.

    Raises:
        ConfigError: if a Beam runner lacks an option that it needs.
    """
    config = KubeflowV2DagRunnerConfig(
        display_name=request.cluster.name,
        default_image=request.image,
        default_commands=list(COMMAND),
        use_pipeline_spec_2_1=version == SCHEMA_2_1,
    )
    runner = KubeflowV2DagRunner(config)
    values = submission.parameters.values
    job: dict[str, Any] = runner.run(submission.pipeline, parameter_values=values, write_out=False)
    spec = job["pipelineSpec"]
    spec["pipelineInfo"]["name"] = request.cluster.name
    spec["defaultPipelineRoot"] = submission.paths.artifacts
    for component in submission.pipeline.components:
        step_settings = request.cluster.for_step(component.id)
        task, container = compat.find_task_and_container(spec, component.id)
        container["args"] = _step_arguments(component, _beam_options(request, step_settings), mirrored=mirrored)
        _set_unless_empty(container, "resources", _resources(step_settings))
        _set_unless_empty(task, "retryPolicy", _retry_policy(request.cluster.retries))
    del spec["root"]["dag"]["tasks"][_UNCACHED_STEP]["cachingOptions"]
    if version == SCHEMA_2_1:
        for name, value in values.items():
            spec["root"]["inputDefinitions"]["parameters"][name]["defaultValue"] = value
    return job


def _step_arguments(component: base_component.BaseComponent, beam: Sequence[str], *, mirrored: bool) -> list[str]:
    """Returns the arguments of `pipeline.cluster.step` for a step.

    Args:
        component: the step.
        beam: options for Beam.
        mirrored: whether the launcher copies artifacts to and from the container.
    """
    executor = component.executor_spec.executor_class
    on_beam = issubclass(executor, base_beam_executor.BaseBeamExecutor)
    mirrors = ["--mirrored"] if mirrored and is_local(beam) else []
    return [
        *("--step", component.id),
        *("--executor", name_utils.get_full_name(executor)),
        *("--types", StepTypes.from_component(component).to_json()),
        *("--input", "{{$}}"),
        *mirrors,
        *(beam if on_beam else ()),
    ]


def _beam_options(request: CompileRequest, step_settings: StepSettings) -> tuple[str, ...]:
    """Returns the Beam options of a step.

    Dataflow's workers use the image of the request unless the options contain another image.

    Raises:
        ConfigError: if the runner lacks an option that it needs.
    """
    beam = step_settings.beam or ()
    named = any(option.startswith("--sdk_container_image") for option in beam)
    if "--runner=DataflowRunner" in beam and not named:
        beam = (*beam, f"--sdk_container_image={request.image}")
    check_beam_options(beam)
    return beam


def _resources(step_settings: StepSettings) -> dict[str, Any]:
    """Returns the resources of a container in a pipeline specification, without those that are not set."""
    resources: dict[str, Any] = {}
    if step_settings.cpu:
        resources["cpuLimit"] = step_settings.cpu
    if step_settings.memory_bytes:
        resources["memoryLimit"] = step_settings.memory_bytes / 1e9
    if step_settings.accelerators:
        resources["accelerator"] = {"count": str(step_settings.accelerators), "type": step_settings.accelerator_name}
    return resources


def _retry_policy(retries: int) -> dict[str, Any]:
    if not retries:
        return {}
    return {
        "maxRetryCount": retries,
        "backoffDuration": f"{_BACKOFF_SECONDS}s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "3600s",
    }


def _set_unless_empty(values: dict[str, Any], key: str, value: dict[str, Any]) -> None:
    if value:
        values[key] = value


def check_out(out: Path, endings: Sequence[str]) -> None:
    """Raises ConfigError if the ending of a file name is not one of `endings`."""
    if out.suffix not in endings:
        raise ConfigError(f"--out {out}: found {out.suffix or 'no ending'!r}, expected {' or '.join(endings)}.")


def service_account_note(request: CompileRequest) -> list[str]:
    """Returns lines that remind the user of the service account, which a specification cannot contain."""
    account = request.cluster.service_account
    return [f"account    choose the service account {account} when you submit"] if account else []


def parameter_notes(submission: Submission) -> list[str]:
    """Returns lines that list the runtime parameters and their default values."""
    shown = {name: json.dumps(value) for name, value in submission.parameters.values.items()}
    lines = [f"  {name} = {text if len(text) <= 80 else text[:77] + '...'}" for name, text in shown.items()]
    return ["parameters that a submission can change:", *lines]
