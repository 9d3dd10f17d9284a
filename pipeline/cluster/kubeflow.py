"""`--target kubeflow`: a YAML file for Kubeflow Pipelines 2.

The file has two documents: the pipeline specification, and, if any is set, the parts that only Kubernetes knows (node
selectors, tolerations, secrets, volumes), in the format of `kfp-kubernetes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tfx.types import standard_artifacts

from pipeline.cluster.cluster_settings import ClusterSettings, CompileRequest
from pipeline.cluster.pipeline_spec import SCHEMA_2_1, check_out, parameter_notes, pipeline_job, service_account_note
from pipeline.cluster.submission import Submission
from pipeline.compat import artifact_type_name
from storygan_tf.common.atomic_files import write_atomically

_MODELS = {standard_artifacts.Model.TYPE_NAME, standard_artifacts.PushedModel.TYPE_NAME}
_DATASETS = {standard_artifacts.Examples.TYPE_NAME}


def compile(request: CompileRequest, out: Path) -> list[str]:
    """Writes the pipeline as a file for Kubeflow Pipelines 2.

    Args:
        request: the arguments of the compilation.
        out: YAML file to write.

    Returns:
        Lines of text for the user.

    Raises:
        ConfigError: if `out` does not end in `.yaml` or `.yml`.
        StoryGANError: as `pipeline.cluster.submission.Submission.from_request`.
    """
    check_out(out, (".yaml", ".yml"))
    submission = Submission.from_request(request)
    spec = pipeline_job(request, submission, SCHEMA_2_1, mirrored=True)["pipelineSpec"]
    _use_system_types(spec["components"])
    platform = platform_spec(request.cluster, [component.id for component in submission.pipeline.components])
    write_atomically(out, yaml.safe_dump_all([spec, *([platform] if platform else [])], sort_keys=True).encode())
    return [*submission.notes, *service_account_note(request), *parameter_notes(submission)]


def _use_system_types(components: Mapping[str, Any]) -> None:
    """Replaces TFX's artifact types by Kubeflow's, which its pages can show; the entry point restores TFX's types."""
    for component in components.values():
        for side in ("inputDefinitions", "outputDefinitions"):
            for artifact in component.get(side, {}).get("artifacts", {}).values():
                title = artifact_type_name(artifact)
                kind = "Model" if title in _MODELS else "Dataset" if title in _DATASETS else "Artifact"
                artifact["artifactType"] = {"schemaTitle": f"system.{kind}", "schemaVersion": "0.0.1"}


def platform_spec(cluster: ClusterSettings, steps: list[str]) -> dict[str, Any]:
    """Returns the document with the settings of Kubernetes that a PipelineSpec cannot express.

    Args:
        cluster: settings of the cluster.
        steps: names of all steps.

    Returns:
        A PlatformSpec as a dictionary; empty if no such setting is set.
    """
    executors = {f"{step}_executor": step_settings for step in steps if (step_settings := _executor(cluster, step))}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}} if executors else {}


def _executor(cluster: ClusterSettings, step: str) -> dict[str, Any]:
    step_settings = cluster.for_step(step)
    parts = {
        "nodeSelector": {"labels": step_settings.node_labels} if step_settings.node_labels else {},
        "tolerations": [toleration.fields for toleration in step_settings.tolerations or ()],
        "pvcMount": [_named("pvcName", volume.claim) | {"mountPath": volume.path} for volume in cluster.volumes],
        "secretAsEnv": [
            _named("secretName", secret.name) | {"keyToEnv": [{"secretKey": secret.key, "envVar": secret.env}]}
            for secret in cluster.secrets
            if secret.env
        ],
        "secretAsVolume": [
            _named("secretName", secret.name) | {"mountPath": secret.path} for secret in cluster.secrets if secret.path
        ],
    }
    return {name: part for name, part in parts.items() if part}


def _named(field: str, name: str) -> dict[str, Any]:
    """Returns a name in the fields of older and of newer releases of Kubeflow Pipelines."""
    older = "constant" if field == "pvcName" else field
    return {older: name, f"{field}Parameter": {"runtimeValue": {"constant": name}}}
