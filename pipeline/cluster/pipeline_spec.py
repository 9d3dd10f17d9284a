"""Pipeline specifications, which Kubeflow Pipelines 2 and Vertex take: TFX's own, with what a cluster needs besides.

TFX compiles components, tasks and their order. Here every step gets the project's entry point
(`pipeline.cluster.step`), its resources, its Beam options and its retries, and every runtime parameter its value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfx import v1 as tfx
from tfx.dsl.components.base import base_beam_executor, base_component
from tfx.utils import name_utils

from components.beam_options import check_beam_options, is_local
from pipeline import compat
from pipeline.cluster.cluster_settings import CompileRequest, StepSettings
from pipeline.cluster.step import StepTypes
from pipeline.cluster.submission import Submission
from storygan_tf.common.errors import ConfigError

COMMAND = ("python", "-m", "pipeline.cluster.step")
"""What every container runs."""

_BACKOFF_SECONDS = 30
"""Before a step is run again; twice as long each time."""

_UNCACHED_STEP = "StoryEvaluator"
"""Reads the pushed models, which no cache knows of: it always runs."""

SCHEMA_2_1 = "2.1.0"


def pipeline_job(request: CompileRequest, submission: Submission, version: str, *, mirrored: bool) -> dict[str, Any]:
    """Returns a PipelineJob: the specification, and values of its runtime parameters.

    Args:
        request: what was resources for.
        submission: the pipeline.
        version: of the specification's schema.
        mirrored: whether artifacts are brought to the container and fetched from there by who starts it.
    """
    config = tfx.orchestration.experimental.KubeflowV2DagRunnerConfig(
        display_name=request.cluster.name,
        default_image=request.image,
        default_commands=list(COMMAND),
        use_pipeline_spec_2_1=version == SCHEMA_2_1,
    )
    runner = tfx.orchestration.experimental.KubeflowV2DagRunner(config)
    values = submission.parameters.values
    job: dict[str, Any] = runner.run(submission.pipeline, parameter_values=values, write_out=False)
    spec = job["pipelineSpec"]
    spec["pipelineInfo"]["name"] = request.cluster.name
    spec["defaultPipelineRoot"] = submission.paths.artifacts
    for component in submission.pipeline.components:
        step_settings = request.cluster.for_step(component.id)
        task, container = compat.find_task_and_container(spec, component.id)
        container["args"] = step_arguments(component, _beam_options(request, step_settings), mirrored=mirrored)
        _set_unless_empty(container, "resources", resources(step_settings))
        _set_unless_empty(task, "retryPolicy", _retry_policy(request.cluster.retries))
    del spec["root"]["dag"]["tasks"][_UNCACHED_STEP]["cachingOptions"]
    if version == SCHEMA_2_1:
        for name, value in values.items():
            spec["root"]["inputDefinitions"]["parameters"][name]["defaultValue"] = value
    return job


def step_arguments(component: base_component.BaseComponent, beam: Sequence[str], *, mirrored: bool) -> list[str]:
    """Returns the arguments of `pipeline.cluster.step` for a step."""
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
    """Returns a step's Beam options; Dataflow's workers start from the same image unless another is named.

    Raises:
        ConfigError: where the runner needs an option that is not there.
    """
    beam = step_settings.beam or ()
    named = any(option.startswith("--sdk_container_image") for option in beam)
    if "--runner=DataflowRunner" in beam and not named:
        beam = (*beam, f"--sdk_container_image={request.image}")
    check_beam_options(beam)
    return beam


def resources(step_settings: StepSettings) -> dict[str, Any]:
    """Returns the resources of a container's specification; what is not resources for is left out."""
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
    """Refuses a file whose ending says something else than what will be in it."""
    if out.suffix not in endings:
        raise ConfigError(f"--out {out}: found {out.suffix or 'no ending'!r}, expected {' or '.join(endings)}.")


def service_account_note(request: CompileRequest) -> list[str]:
    """Returns what to say of a service account, for which a specification has no place."""
    account = request.cluster.service_account
    return [f"account    name the service account {account} when you submit"] if account else []


def parameter_notes(submission: Submission) -> list[str]:
    """Returns what to say of the runtime parameters."""
    shown = {name: json.dumps(value) for name, value in submission.parameters.values.items()}
    lines = [f"  {name} = {text if len(text) <= 80 else text[:77] + '...'}" for name, text in shown.items()]
    return ["parameters that a submission can change:", *lines]
