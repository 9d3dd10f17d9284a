"""What a cluster is asked for: resources, retries, volumes, secrets; and all that a compilation is told.

It imports nothing heavy, so that a wrong setting is told before TFX is loaded.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Literal

from components.beam_options import LOOPBACK
from storygan_tf.common.errors import ConfigError
from storygan_tf.config.schema import Settings, override

PREFIX = "cluster."
"""Of `--set cluster.KEY=VALUE`; other assignments are the run's own settings."""

NVIDIA, TPU = "nvidia.com/gpu", "google.com/tpu"
"""Kubernetes' names of accelerators."""

_UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)(|k|M|G|T|Ki|Mi|Gi|Ti)")


def _require(condition: bool, field: str, found: object, expected: str) -> None:
    if not condition:
        raise ConfigError(f"cluster.{field}: found {found!r}, expected {expected}.")


@dataclasses.dataclass(frozen=True)
class Toleration:
    """A taint of nodes that a step bears; as in a pod's specification."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""

    @property
    def fields(self) -> dict[str, str]:
        """What is said of it, as Kubernetes takes it."""
        return {name: value for name, value in vars(self).items() if value}


@dataclasses.dataclass(frozen=True)
class Volume:
    """A persistent volume claim, mounted in every step.

    Attributes:
        claim: its name.
        path: where it appears in the container.
    """

    claim: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        _require(bool(self.claim), "volumes: claim", self.claim, "the name of a persistent volume claim")
        _require(self.path.startswith("/"), "volumes: path", self.path, "an absolute path in the container")


@dataclasses.dataclass(frozen=True)
class Secret:
    """A key of a Kubernetes Secret as a variable of the environment, or a whole Secret as files; never its value.

    Attributes:
        name: of the Secret.
        key: in it, for `env`.
        env: variable that holds the key's value.
        path: folder that has a file for each key, in place of `key` and `env`.
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
    """What a step asks for; null where it is the cluster's own to choose.

    Attributes:
        cpu: cores.
        memory: bytes, as Kubernetes writes them: `16Gi`.
        accelerators: GPUs, or TPU chips.
        accelerator: their kind: `nvidia.com/gpu`, `google.com/tpu`; on Vertex `NVIDIA_TESLA_T4` and the like.
        node_selector: labels that a node must have, `key=value`.
        tolerations: taints of nodes that the step bears.
        beam: Beam's options for the step.
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
            "EXTERNAL, not workers in the step's own pod",
        )

    @property
    def memory_bytes(self) -> float | None:
        """The memory as a number."""
        match = _AMOUNT.fullmatch(self.memory or "")
        return float(match[1]) * _UNITS[match[2]] if match else None

    @property
    def node_labels(self) -> dict[str, str]:
        """The labels that a node must have."""
        return {key: value for key, _, value in (label.partition("=") for label in self.node_selector or ())}

    @property
    def accelerator_name(self) -> str:
        """Kind of the accelerators, by default NVIDIA's; empty where there are none."""
        return (self.accelerator or NVIDIA) if self.accelerators else ""


@dataclasses.dataclass(frozen=True)
class Steps:
    """What single steps ask for beside what all do, by the step's name."""

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
    """What all steps ask for, and what is asked for once.

    Attributes:
        name: of the pipeline, and of what else is made of it.
        retries: how often a step that failed is run again.
        steps: what single steps ask for.
        volumes: mounted in every step.
        secrets: given to every step, by reference.
        service_account: Kubernetes' or Google's, where it is not set when a run is started.
        serving: model base directory that Pusher adds a version to; by default below the root.
        work: where the Trainer keeps what it resumes from; by default below the root.
        schema: version of Vertex's pipeline specification.
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
        """Returns what a step asks for: its own, else what all do."""
        own = getattr(self.steps, step)
        fields = [field.name for field in dataclasses.fields(StepSettings)]
        given = {name: getattr(own, name) for name in fields if getattr(own, name) is not None}
        return dataclasses.replace(StepSettings(**{name: getattr(self, name) for name in fields}), **given)


@dataclasses.dataclass(frozen=True)
class _ClusterAssignments:
    cluster: ClusterSettings = ClusterSettings()


def split_assignments(assignments: Sequence[str]) -> tuple[ClusterSettings, list[str]]:
    """Returns the cluster's settings, and the assignments that are the run's own.

    Args:
        assignments: of `--set`, `key=value`.

    Raises:
        ConfigError: for an unknown key of the cluster, or a value that it cannot have.
    """
    ours = [assignment for assignment in assignments if assignment.strip().startswith(PREFIX)]
    others = [assignment for assignment in assignments if assignment not in ours]
    return override(_ClusterAssignments(), ours).cluster, others


@dataclasses.dataclass(frozen=True)
class CompileRequest:
    """What `storygan compile` was told.

    Attributes:
        image: container image with the project in it.
        data: URI or path, in the containers, of the folder of stories.
        root: URI or path, in the containers, that artifacts, checkpoints and pushed models go below.
        settings: everything that the run is made of.
        cluster: what the cluster is asked for.
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
