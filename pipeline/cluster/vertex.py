"""`--target vertex`: a JSON file for Vertex AI Pipelines, with schema version 2.1.0 or 2.0.0."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.cluster.cluster_settings import NVIDIA, TPU, CompileRequest
from pipeline.cluster.pipeline_spec import check_out, parameter_notes, pipeline_job, service_account_note
from pipeline.cluster.submission import Submission
from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.errors import ConfigError


def compile(request: CompileRequest, out: Path) -> list[str]:
    """Writes the pipeline as a file for Vertex AI Pipelines.

    Args:
        request: the arguments of the compilation.
        out: JSON file to write.

    Returns:
        Lines of text for the user.

    Raises:
        ConfigError: if `out` does not end in `.json`, or if a setting does not exist on Vertex.
        StoryGANError: as `pipeline.cluster.submission.Submission.from_request`.
    """
    check_out(out, (".json",))
    _check(request)
    submission = Submission.from_request(request)
    job = pipeline_job(request, submission, request.cluster.schema, mirrored=False)
    write_atomically(out, (json.dumps(job, indent=1, sort_keys=True) + "\n").encode())
    return [*submission.notes, *service_account_note(request), *parameter_notes(submission)]


def _check(request: CompileRequest) -> None:
    cluster = request.cluster
    if not request.root.startswith("gs://"):
        raise ConfigError(f"--root {request.root}: Vertex keeps artifacts in Google Cloud Storage; expected gs://...")
    for name in ("volumes", "secrets"):
        if getattr(cluster, name):
            raise ConfigError(
                f"cluster.{name}: Vertex does not have it; remove it, and give the service account of the run "
                "the permissions that it needs."
            )
    for step in vars(cluster.steps):
        step_settings = cluster.for_step(step)
        for name in ("node_selector", "tolerations"):
            if getattr(step_settings, name):
                raise ConfigError(
                    f"cluster.{name} of {step}: Vertex chooses machines only by cpu, memory and accelerator."
                )
        if step_settings.accelerator_name in (NVIDIA, TPU):
            raise ConfigError(
                f"cluster.accelerator of {step}: found {step_settings.accelerator_name!r}, a name in Kubernetes; "
                "expected a name in Vertex, such as NVIDIA_TESLA_T4."
            )
