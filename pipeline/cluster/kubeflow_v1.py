"""The pipeline as an Argo workflow, for clusters whose Kubeflow Pipelines still has the V1 API.

A step finds its inputs, its cache and its outputs in ML Metadata, which it asks by gRPC. Kubeflow Pipelines 2 is the
target of `pipeline.cluster.kubeflow`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from kfp.dsl import ContainerOp
from kubernetes import client as k8s
from tfx.dsl.components.base import base_beam_component
from tfx.orchestration.kubeflow import kubeflow_dag_runner
from tfx.orchestration.kubeflow.proto import kubeflow_pb2

from components.beam_options import beam_options
from pipeline.cluster.cluster_settings import (
    PREFIX,
    ClusterSettings,
    CompileRequest,
    Secret,
    Steps,
    StepSettings,
    Volume,
)
from pipeline.cluster.pipeline_spec import BACKOFF_SECONDS, JUDGE_STEP, check_out, parameter_notes, step_beam
from pipeline.cluster.submission import Submission
from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.errors import ConfigError

NOTICE = (
    "kubeflow-v1 is for old clusters: the workflow needs Kubeflow Pipelines' V1 API and an ML Metadata gRPC service, "
    "and Kubeflow Pipelines is removing both. For a new cluster there is --target kubeflow."
)

COMMAND = ("python", "-m", "pipeline.cluster.step_v1")
"""What a container runs, in place of TFX's own entry point."""

UI_METADATA = "/tmp/mlpipeline-ui-metadata.json"
"""Where a step tells Kubeflow's pages of itself. TFX's default is in `/`, which only root may write."""

_ACCOUNT = "pipeline-runner"
"""Service account that Kubeflow Pipelines has for workflows."""

_COMPILED_AT = "pipelines.kubeflow.org/pipeline_compilation_time"


def compile(request: CompileRequest, out: Path) -> list[str]:
    """Writes the workflow, and says on standard error what it needs of a cluster; returns what else to say of it.

    Raises:
        StoryGANError: as `pipeline.cluster.submission.Submission.of`.
        ConfigError: for data and places that are not on a mounted volume, or Beam options that no cluster can follow.
    """
    check_out(out, (".yaml", ".yml"))
    _check_places(request)
    beam = {
        step.name: beam_options(step_beam(request, request.cluster.of(step.name))) for step in dataclasses.fields(Steps)
    }
    print(f"storygan: {NOTICE}", file=sys.stderr)
    submission = Submission.of(request)
    for component in submission.pipeline.components:
        if isinstance(component, base_beam_component.BaseBeamComponent):
            component.with_beam_pipeline_args(beam[component.id])
    write_atomically(out, yaml.safe_dump(_workflow(request, submission), sort_keys=False, width=120).encode())
    return [*submission.notes, *parameter_notes(submission)]


def _workflow(request: CompileRequest, submission: Submission) -> dict[str, Any]:
    """Returns TFX's workflow, with what TFX leaves out: the same for the same request, whenever it is compiled."""
    config = kubeflow_dag_runner.KubeflowDagRunnerConfig(
        pipeline_operator_funcs=[lambda op: _equip(op, request.cluster)],
        tfx_image=request.image,
        kubeflow_metadata_config=_metadata(request.cluster),
        metadata_ui_path=UI_METADATA,
    )
    with tempfile.TemporaryDirectory() as aside:
        kubeflow_dag_runner.KubeflowDagRunner(aside, "workflow.yaml", config).run(submission.pipeline)
        workflow: dict[str, Any] = yaml.safe_load(Path(aside, "workflow.yaml").read_text())
    del workflow["metadata"]["annotations"][_COMPILED_AT]
    workflow["metadata"]["generateName"] = f"{request.cluster.name}-"
    workflow["spec"]["serviceAccountName"] = request.cluster.service_account or _ACCOUNT
    for template in workflow["spec"]["templates"]:
        if "container" in template:
            _mend_step(template["container"]["args"])
    return workflow


def _mend_step(arguments: list[str]) -> None:
    """Gives TFX's own words for a step an order that does not change; the judge is not to be taken from the cache."""
    place = arguments.index("--tfx_ir") + 1
    pipeline = json.loads(arguments[place])
    for node in (node["pipelineNode"] for node in pipeline["nodes"]):
        if node["nodeInfo"]["id"] == JUDGE_STEP:
            node["executionOptions"]["cachingOptions"]["enableCache"] = False
    arguments[place] = json.dumps(pipeline, indent=1, sort_keys=True)


def _check_places(request: CompileRequest) -> None:
    """Refuses places that steps, each a container of its own, do not share."""
    cluster = request.cluster
    places = {"--data": request.data, "--root": request.root}
    places |= {name: place for name in ("serving", "work") if (place := getattr(cluster, name))}
    for name, place in places.items():
        if not any(PurePosixPath(place).is_relative_to(volume.path) for volume in cluster.volumes):
            raise ConfigError(
                f"{name if name.startswith('--') else PREFIX + name} {place}: with kubeflow-v1 steps share a volume; "
                "expected a path below one that cluster.volumes mounts: "
                '--set \'cluster.volumes=[{"claim": "stories", "path": "/mnt/stories"}]\'.'
            )


def _metadata(cluster: ClusterSettings) -> kubeflow_pb2.KubeflowMetadataConfig:
    """Returns where steps find ML Metadata."""
    if not cluster.metadata_host:
        return kubeflow_dag_runner.get_default_kubeflow_metadata_config()
    config = kubeflow_pb2.KubeflowMetadataConfig()
    config.grpc_config.grpc_service_host.value = cluster.metadata_host
    config.grpc_config.grpc_service_port.value = str(cluster.metadata_port)
    return config


# A step's container


def _equip(op: ContainerOp, cluster: ClusterSettings) -> ContainerOp:
    """Gives a step what the settings say."""
    op.container.command = list(COMMAND)
    if not cluster.metadata_host:
        _mount_service(op)
    if cluster.retries:
        # Always: also where a node goes away beneath a step, not only where the step fails.
        op.set_retry(str(cluster.retries), "Always", f"{BACKOFF_SECONDS}s", "2")
    _ask_for(op, cluster.of(op.human_name))
    for number, volume in enumerate(cluster.volumes):
        _mount(op, volume, f"volume-{number}")
    for number, secret in enumerate(cluster.secrets):
        _give(op, secret, f"secret-{number}")
    return op


def _mount_service(op: ContainerOp) -> None:
    reference = k8s.V1ConfigMapEnvSource(name="metadata-grpc-configmap", optional=True)
    op.container.add_env_from(k8s.V1EnvFromSource(config_map_ref=reference))


def _ask_for(op: ContainerOp, step: StepSettings) -> None:
    if step.cpu:
        op.container.add_resource_request("cpu", f"{step.cpu:g}")
    if step.memory:
        op.container.add_resource_request("memory", step.memory)
        op.container.add_resource_limit("memory", step.memory)
    if step.accelerators:
        op.container.add_resource_limit(step.accelerator_name, str(step.accelerators))
    for key, value in step.node_labels.items():
        op.add_node_selector_constraint(key, value)
    for toleration in step.tolerations or ():
        op.add_toleration(k8s.V1Toleration(**toleration.given))


def _mount(op: ContainerOp, volume: Volume, name: str) -> None:
    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=volume.claim)
    op.add_volume(k8s.V1Volume(name=name, persistent_volume_claim=claim))
    op.container.add_volume_mount(k8s.V1VolumeMount(name=name, mount_path=volume.path))


def _give(op: ContainerOp, secret: Secret, name: str) -> None:
    """Gives a step a secret by its name; its content is nowhere in the workflow."""
    if secret.path:
        op.add_volume(k8s.V1Volume(name=name, secret=k8s.V1SecretVolumeSource(secret_name=secret.name)))
        op.container.add_volume_mount(k8s.V1VolumeMount(name=name, mount_path=secret.path, read_only=True))
    else:
        reference = k8s.V1SecretKeySelector(name=secret.name, key=secret.key)
        variable = k8s.V1EnvVar(name=secret.env, value_from=k8s.V1EnvVarSource(secret_key_ref=reference))
        op.container.add_env_variable(variable)
