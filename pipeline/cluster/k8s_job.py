"""`--target k8s-job`: a training by several workers as a Kubernetes Indexed Job and a headless service.

The service gives each pod of the Job an address. `docs/distributed.md` describes how to use the Job, and what happens
when a worker is lost.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pipeline.cluster.cluster_settings import ClusterSettings, StepSettings
from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.errors import ConfigError
from storygan_tf.config.schema import TrainConfig
from storygan_tf.training import indexed_job

STEP = "Trainer"
"""Name of the step whose settings apply to the workers."""

PORT = 2222
CONTAINER = "trainer"
USER = 1000
"""Id of the user and the group in the image (see the Dockerfile)."""

GRACE_SECONDS = 120
"""Seconds between SIGTERM and SIGKILL, enough to finish a training step and save a checkpoint."""

FATAL_CODES, RESTART_CODES = [1, 2], [75, 130, 143]
"""Exit codes of `storygan train`: of errors that a restart does not fix, and of interruptions before a restart."""

LABELS = {"app.kubernetes.io/name": "storygan", "app.kubernetes.io/component": "training"}


@dataclasses.dataclass(frozen=True)
class KubernetesJob:
    """The arguments of `storygan compile` for a training job.

    Attributes:
        image: container image that contains the project.
        data: path of the folder of prepared stories in the containers.
        root: path of the output folder of the training (`--out`) in the containers.
        workers: number of workers.
        options: further options for `storygan train`.
        training: training settings that result from these options.
        cluster: settings of the cluster.
    """

    image: str
    data: str
    root: str
    workers: int
    options: tuple[str, ...]
    training: TrainConfig
    cluster: ClusterSettings

    def __post_init__(self) -> None:
        if not self.image or self.image != self.image.strip():
            raise ConfigError(f"--image {self.image!r}: expected a name without spaces around it.")
        if self.workers < 1:
            raise ConfigError(f"--workers {self.workers}: expected 1 or more.")
        for option, place in (("--data", self.data), ("--root", self.root)):
            _check_place(option, place, self.cluster)
        kind = self.worker.accelerator_name
        if kind and ("/" not in kind or not kind.endswith("gpu")):
            raise ConfigError(
                f"cluster.accelerator: found {kind!r}, expected the resource name of a GPU, such as 'nvidia.com/gpu'."
            )
        self._check_batches()

    @property
    def worker(self) -> StepSettings:
        """Settings of each worker."""
        return self.cluster.for_step(STEP)

    @property
    def name(self) -> str:
        """Name of the Job."""
        return f"{self.cluster.name}-train"

    @property
    def service(self) -> str:
        """Name of the service."""
        return f"{self.cluster.name}-workers"

    def _check_batches(self) -> None:
        """Checks that the replicas can share every batch, before any pod waits for a node.

        Raises:
            TrainingError: as `storygan_tf.data.training_input.batch_shares`.
        """
        from storygan_tf.data.training_input import batch_shares

        for phase in self.training.phases:
            batch_shares(phase, self.workers * (self.worker.accelerators or 1))


def compile(job: KubernetesJob, out: Path) -> list[str]:
    """Writes the manifest of a training job.

    Args:
        job: the training job.
        out: YAML file to write.

    Returns:
        Lines of text for the user: the commands that start the Job and follow its logs.
    """
    documents = manifest(job)
    write_atomically(out, yaml.safe_dump_all(documents, sort_keys=False, width=120).encode())
    return [
        f"start      kubectl apply -f {out}",
        f"follow     kubectl logs --follow --prefix --tail=-1 --max-log-requests={job.workers} "
        f"--selector batch.kubernetes.io/job-name={job.name}",
    ]


def manifest(job: KubernetesJob) -> list[dict[str, Any]]:
    """Returns the Kubernetes objects of a training job: the service and the Job."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": job.service, "labels": dict(LABELS)},
        "spec": {
            "clusterIP": "None",
            # Workers connect to each other before any of them is ready.
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": job.name},
            "ports": [{"name": "workers", "port": PORT}],
        },
    }
    return [service, _job(job)]


def _job(job: KubernetesJob) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job.name, "labels": dict(LABELS)},
        "spec": {
            "completionMode": "Indexed",
            "completions": job.workers,
            "parallelism": job.workers,
            "backoffLimit": job.cluster.retries,
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": {"metadata": {"labels": dict(LABELS)}, "spec": _pod(job)},
        },
    }


def _failure_rules() -> list[dict[str, Any]]:
    """Returns the rules for failed pods; the first matching rule applies.

    A failure that matches no rule, such as the end by SIGKILL, counts towards the limit of retries.
    """
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": _codes(RESTART_CODES)},
        {"action": "FailJob", "onExitCodes": _codes(FATAL_CODES)},
    ]


def _codes(values: list[int]) -> dict[str, Any]:
    return {"containerName": CONTAINER, "operator": "In", "values": values}


def _pod(job: KubernetesJob) -> dict[str, Any]:
    worker = job.worker
    pod: dict[str, Any] = {
        "subdomain": job.service,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "enableServiceLinks": False,
        "automountServiceAccountToken": bool(job.cluster.service_account),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job)],
        "volumes": [volume for volume, _ in _volumes(job)],
    }
    if job.cluster.service_account:
        pod["serviceAccountName"] = job.cluster.service_account
    if worker.node_labels:
        pod["nodeSelector"] = worker.node_labels
    if worker.tolerations:
        pod["tolerations"] = [toleration.fields for toleration in worker.tolerations]
    return pod


def _container(job: KubernetesJob) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": job.image,
        "command": ["storygan", "train"],
        "args": ["--data", job.data, "--out", job.root, "--strategy", "multi-worker", *job.options],
        "env": [*_environment(job), *_secret_variables(job.cluster)],
        "ports": [{"name": "workers", "containerPort": PORT}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [mount for _, mount in _volumes(job)],
    }
    resources = _resources(job.worker)
    return container | ({"resources": resources} if resources else {})


def _environment(job: KubernetesJob) -> list[dict[str, str]]:
    """Returns the environment variables that `storygan_tf.training.indexed_job` reads, except the index of the pod."""
    values = {
        indexed_job.WORKERS: job.workers,
        indexed_job.JOB: job.name,
        indexed_job.SERVICE: job.service,
        indexed_job.PORT: PORT,
    }
    return [{"name": name, "value": str(value)} for name, value in values.items()]


def _secret_variables(cluster: ClusterSettings) -> list[dict[str, Any]]:
    return [
        {"name": secret.env, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}
        for secret in cluster.secrets
        if secret.env
    ]


def _resources(worker: StepSettings) -> dict[str, dict[str, str]]:
    """Returns requests and limits of a container: memory and GPUs are limited, cores are only requested."""
    limits = {"memory": worker.memory} if worker.memory else {}
    if worker.accelerators:
        limits[worker.accelerator_name] = str(worker.accelerators)
    requests = limits | ({"cpu": f"{worker.cpu:g}"} if worker.cpu else {})
    return {name: amounts for name, amounts in (("requests", requests), ("limits", limits)) if amounts}


def _volumes(job: KubernetesJob) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns the volumes of a pod, each with its mount."""
    both: list[tuple[dict[str, Any], dict[str, Any]]] = [
        _volume("scratch", {"emptyDir": {}}, "/tmp"),  # Workers other than the chief save there.
    ]
    if (job.worker.accelerators or 0) > 1:
        # NCCL exchanges data between the GPUs of a pod in shared memory, of which containers have only 64 MB.
        both.append(_volume("shared-memory", {"emptyDir": {"medium": "Memory"}}, "/dev/shm"))
    for number, volume in enumerate(job.cluster.volumes):
        claim = {"persistentVolumeClaim": {"claimName": volume.claim}}
        both.append(_volume(f"volume-{number}", claim, volume.path))
    files = [secret for secret in job.cluster.secrets if secret.path]
    for number, secret in enumerate(files):
        source, mount = _volume(f"secret-{number}", {"secret": {"secretName": secret.name}}, secret.path)
        both.append((source, mount | {"readOnly": True}))
    return both


def _volume(name: str, source: dict[str, Any], path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"name": name, **source}, {"name": name, "mountPath": path}


def _check_place(option: str, place: str, cluster: ClusterSettings) -> None:
    """Raises ConfigError if a path is not in a mounted volume; all workers and their replacements must share it."""
    mounted = [volume.path for volume in cluster.volumes]
    if not any(PurePosixPath(place).is_relative_to(path) for path in mounted):
        below = ", ".join(mounted) or "none is"
        raise ConfigError(
            f"{option} {place}: expected a folder in a volume that every worker mounts ({below}): "
            '--set \'cluster.volumes=[{"claim": "NAME", "path": "/mnt/storygan"}]\' and a folder below that path. '
            "With a bucket, each worker would have its own copy."
        )
