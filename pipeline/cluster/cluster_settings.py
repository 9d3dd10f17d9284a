"""Settings for a cluster (resources, retries, volumes, secrets), and the arguments of a compilation.

This module imports nothing heavy, so that a wrong setting is reported before TFX is loaded.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Literal

from components.beam_options import LOOPBACK
from storygan_tf.common.errors import ConfigError, require
from storygan_tf.config.parsing import override
from storygan_tf.config.schema import Settings

PREFIX = "cluster."
"""Prefix of the keys of cluster settings in `--set cluster.KEY=VALUE`; other keys are settings of the run."""

NVIDIA, TPU = "nvidia.com/gpu", "google.com/tpu"
"""Resource names of accelerators in Kubernetes."""

_UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)(|k|M|G|T|Ki|Mi|Gi|Ti)")


def _require(condition: bool, field: str, found: object, expected: str) -> None:
    require(condition, f"cluster.{field}", found, expected)


@dataclasses.dataclass(frozen=True)
class Toleration:
    """A toleration of a node's taint, with the fields of a toleration in a pod's specification."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""

    @property
    def fields(self) -> dict[str, str]:
        """The fields that are not empty, as Kubernetes expects them."""
        return {name: value for name, value in vars(self).items() if value}


@dataclasses.dataclass(frozen=True)
class Volume:
    """A persistent volume claim that is mounted in every step.

    Attributes:
        claim: name of the claim.
        path: absolute path of the mount in the container.
    """

    claim: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        _require(bool(self.claim), "volumes: claim", self.claim, "the name of a persistent volume claim")
        _require(self.path.startswith("/"), "volumes: path", self.path, "an absolute path in the container")


@dataclasses.dataclass(frozen=True)
class Secret:
    """A reference to a Kubernetes Secret: one key as an environment variable, or the whole Secret as files.

    Attributes:
        name: name of the Secret.
        key: key in the Secret whose value `env` gets.
        env: name of the environment variable.
        path: folder with a file for each key, instead of `key` and `env`.
    """

    name: str = ""
    key: str = ""
    env: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        _require(bool(self.name), "secrets: name", self.name, "the name of a Secret")
        as_variable, as_files = bool(self.key and self.env), self.path.startswith("/")
        found = {"key": self.key, "env": self.env, "path": self.path}
        _require(
            as_variable != as_files and bool(self.key) == bool(self.env),
            f"secrets: {self.name}",
            found,
            "`key` and `env`, or `path`, an absolute one",
        )


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """Resources and other requirements of a step. The cluster chooses values that are None.

    Attributes:
        cpu: number of cores.
        memory: bytes in Kubernetes' notation, such as `16Gi`.
        accelerators: number of GPUs or TPU chips.
        accelerator: kind of the accelerators: `nvidia.com/gpu` or `google.com/tpu`; on Vertex a name such as
            `NVIDIA_TESLA_T4`.
        node_selector: labels that a node must have, as `key=value`.
        tolerations: taints of nodes that the step tolerates.
        beam: options for Beam.
    """

    cpu: float | None = None
    memory: str | None = None
    accelerators: int | None = None
    accelerator: str | None = None
    node_selector: tuple[str, ...] | None = None
    tolerations: tuple[Toleration, ...] | None = None
    beam: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _require(self.cpu is None or 0 < self.cpu < math.inf, "cpu", self.cpu, "a number of cores above 0")
        _require(
            self.memory is None or bool(_AMOUNT.fullmatch(self.memory)), "memory", self.memory, "bytes, such as '16Gi'"
        )
        _require((self.accelerators or 0) >= 0, "accelerators", self.accelerators, "0 or more")
        for label in self.node_selector or ():
            _require(label.partition("=")[0] != "" and "=" in label, "node_selector", label, "'key=value'")
        for option in self.beam or ():
            _require(option.startswith("--"), "beam", option, "an option of Beam, such as '--runner=DataflowRunner'")
        _require(
            LOOPBACK not in (self.beam or ()),
            "beam",
            LOOPBACK,
            "EXTERNAL, since workers cannot run in the step's own pod",
        )

    @property
    def memory_bytes(self) -> float | None:
        """The memory in bytes, or None if it is not set."""
        match = _AMOUNT.fullmatch(self.memory or "")
        return float(match[1]) * _UNITS[match[2]] if match else None

    @property
    def node_labels(self) -> dict[str, str]:
        """The labels that a node must have, as a dictionary."""
        return {key: value for key, _, value in (label.partition("=") for label in self.node_selector or ())}

    @property
    def accelerator_name(self) -> str:
        """Kind of the accelerators, by default `nvidia.com/gpu`; empty if the step has no accelerators."""
        return (self.accelerator or NVIDIA) if self.accelerators else ""


@dataclasses.dataclass(frozen=True)
class Steps:
    """Settings of single steps, by the step's name; they override the settings of all steps."""

    StoryExampleGen: StepSettings = StepSettings()
    StatisticsGen: StepSettings = StepSettings()
    SchemaGen: StepSettings = StepSettings()
    ExampleValidator: StepSettings = StepSettings()
    Transform: StepSettings = StepSettings()
    Trainer: StepSettings = StepSettings()
    JudgeTrainer: StepSettings = StepSettings()
    StoryEvaluator: StepSettings = StepSettings()
    ServingCheck: StepSettings = StepSettings()
    Pusher: StepSettings = StepSettings()
    BulkInferrer: StepSettings = StepSettings()


@dataclasses.dataclass(frozen=True)
class ClusterSettings(StepSettings):
    """Settings of all steps, and settings of the whole run.

    Attributes:
        name: name of the pipeline; names of other objects begin with it.
        retries: number of times that a failed step is run again.
        steps: settings of single steps.
        volumes: volumes that are mounted in every step.
        secrets: secrets that every step gets.
        service_account: service account of the pods of a training job; for a pipeline, a reminder to choose it on
            submission.
        serving: model base directory, to which Pusher adds a version; by default below the root.
        work: folder of the checkpoints that the Trainer resumes from; by default below the root.
        schema: version of the schema of Vertex's pipeline specification.
    """

    name: str = "storygan"
    retries: int = 2
    steps: Steps = Steps()
    volumes: tuple[Volume, ...] = ()
    secrets: tuple[Secret, ...] = ()
    service_account: str = ""
    serving: str = ""
    work: str = ""
    schema: Literal["2.0.0", "2.1.0"] = "2.1.0"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.retries <= 10, "retries", self.retries, "a whole number from 0 to 10")
        _require(
            bool(re.fullmatch(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?", self.name)),
            "name",
            self.name,
            "at most 52 lower-case letters, digits and hyphens, a letter first",
        )

    def for_step(self, step: str) -> StepSettings:
        """Returns the settings of a step; values that the step does not set are those of all steps."""
        own = getattr(self.steps, step)
        fields = [field.name for field in dataclasses.fields(StepSettings)]
        given = {name: getattr(own, name) for name in fields if getattr(own, name) is not None}
        return dataclasses.replace(StepSettings(**{name: getattr(self, name) for name in fields}), **given)


@dataclasses.dataclass(frozen=True)
class _ClusterAssignments:
    """The root of assignments with the key `cluster`, for `storygan_tf.config.schema.override`."""

    cluster: ClusterSettings = ClusterSettings()


def split_assignments(assignments: Sequence[str]) -> tuple[ClusterSettings, list[str]]:
    """Separates the settings of the cluster from those of the run.

    Args:
        assignments: values of `--set`, each `key=value`.

    Returns:
        The settings of the cluster, and the assignments to settings of the run.

    Raises:
        ConfigError: if a key below `cluster.` is unknown or its value is not valid.
    """
    ours = [assignment for assignment in assignments if assignment.strip().startswith(PREFIX)]
    others = [assignment for assignment in assignments if assignment not in ours]
    return override(_ClusterAssignments(), ours).cluster, others


@dataclasses.dataclass(frozen=True)
class CompileRequest:
    """The arguments of `storygan compile` for a pipeline.

    Attributes:
        image: container image that contains the project.
        data: folder of stories: a URI, or a path in the containers.
        root: folder of artifacts, checkpoints and pushed models: a URI, or a path in the containers.
        settings: all settings of the run.
        cluster: settings of the cluster.
    """

    image: str
    data: str
    root: str
    settings: Settings
    cluster: ClusterSettings = ClusterSettings()

    def __post_init__(self) -> None:
        for name in ("image", "data", "root"):
            value = getattr(self, name)
            if not value or value != value.strip():
                raise ConfigError(f"--{name} {value!r}: expected a name without spaces around it.")
