"""Which devices a training runs on, which process is the chief, and which part of a batch is whose (`docs/devices.md`).

With several workers everything that reads variables is done by all of them together, in the same order, and the chief
alone leaves something behind: the others work in a temporary folder.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from storygan_tf.common.errors import ConfigError, TrainingError

TF_CONFIG = "TF_CONFIG"
"""The environment variable in which a worker finds the others."""

TPU_NAME = "TPU_NAME"
"""The environment variable that names a TPU which is not in this machine."""

_EXAMPLE = '{"cluster": {"worker": ["host-0:2222", "host-1:2222"]}, "task": {"type": "worker", "index": 0}}'
_JOBS = ("chief", "worker")
_AGAIN = "Start all workers again with the same commands: they go on from the last checkpoint."


class WorkerLostError(TrainingError):
    """Another worker does not answer; all are to be started again."""


@dataclasses.dataclass(frozen=True)
class Worker:
    """The place of this process among the workers.

    Attributes:
        cluster: job (`chief`, `worker`) -> addresses `host:port` of its processes.
        job: of this process.
        index: of this process in its job.
    """

    cluster: dict[str, list[str]]
    job: str
    index: int

    @property
    def count(self) -> int:
        """All workers, the chief among them."""
        return sum(len(addresses) for addresses in self.cluster.values())

    @property
    def number(self) -> int:
        """Of this process among all workers, the chief's is 0."""
        return self.index + (len(self.cluster.get("chief", ())) if self.job == "worker" else 0)

    @property
    def chief(self) -> str:
        """Address of the chief: the process of job `chief`, else worker 0."""
        return (self.cluster.get("chief") or self.cluster["worker"])[0]


def find_worker(environment: Mapping[str, str] = os.environ) -> Worker | None:
    """Reads `TF_CONFIG`; returns None where it is not set.

    Raises:
        ConfigError: where it does not say who the workers are and which of them this process is.
    """
    text = environment.get(TF_CONFIG, "")
    if not text:
        return None
    try:
        values = json.loads(text)
        cluster, task = values["cluster"], values["task"]
        worker = Worker({job: list(cluster[job]) for job in cluster}, task["type"], int(task["index"]))
    except (ValueError, KeyError, TypeError) as error:
        raise _bad_tf_config(text, f"{type(error).__name__}: {error}") from error
    problem = _problem(worker)
    if problem:
        raise _bad_tf_config(text, problem)
    return worker


def _problem(worker: Worker) -> str:
    """Returns what is wrong with the place of a worker, empty where nothing is."""
    unknown = sorted(set(worker.cluster) - set(_JOBS))
    if unknown:
        return f"jobs {', '.join(unknown)} are not known here, only {' and '.join(_JOBS)}"
    if len(worker.cluster.get("chief", ())) > 1:
        return "there is more than one chief"
    addresses = worker.cluster.get(worker.job, [])
    if not 0 <= worker.index < len(addresses):
        return f"cluster has no task {worker.job!r} {worker.index}"
    wrong = [address for all_of in worker.cluster.values() for address in all_of if not _is_address(address)]
    return f"{wrong[0]!r} is no host:port" if wrong else ""


def _is_address(text: Any) -> bool:
    return isinstance(text, str) and text.rpartition(":")[0] != "" and text.rpartition(":")[2].isdigit()


def _bad_tf_config(found: str, why: str) -> ConfigError:
    return ConfigError(
        f"{TF_CONFIG}: found {found[:200]!r} ({why}), expected JSON that names all workers and which of them this is, "
        f"such as {TF_CONFIG}='{_EXAMPLE}' in the first of two."
    )


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy that `TrainConfig.strategy` names; to be called once, before TensorFlow computes anything.

    Args:
        name: `one-device`: the first GPU, else the CPU. `mirrored`: all GPUs, or without any all logical CPUs.
            `multi-worker`: all devices of all workers that `TF_CONFIG` names. `tpu`: the TPU of this machine, or the
            one that `TPU_NAME` names. `auto`: `multi-worker` where `TF_CONFIG` names several, `mirrored` where there
            are several GPUs, else `one-device`.

    Raises:
        ConfigError: where workers or TPU cannot be found.
        TrainingError: where TensorFlow has computed before, and cannot be joined to other workers any more.
        WorkerLostError: where other workers end while they are being joined, or do not come for too long.
    """
    grow_memory()
    if name == "auto":
        name = _chosen()
    return _STRATEGIES[name]()


def grow_memory() -> None:
    """Lets TensorFlow take a GPU's memory bit by bit, unless the GPU is in use already."""
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)


def _chosen() -> str:
    worker = find_worker()
    if worker and worker.count > 1:
        return "multi-worker"
    return "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "one-device"


def _one_device() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("/gpu:0" if tf.config.list_logical_devices("GPU") else "/cpu:0")


def _mirrored() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multi_worker() -> tf.distribute.Strategy:
    if find_worker() is None:
        raise ConfigError(
            f"training.strategy=multi-worker: {TF_CONFIG} is not set; expected JSON that names all workers and which "
            f"of them this is, such as {TF_CONFIG}='{_EXAMPLE}' in the first of two."
        )
    try:
        with _own_signals():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise WorkerLostError(f"the workers could not be joined ({_first_lines(error)}). {_AGAIN}") from error
    except RuntimeError as error:
        raise TrainingError(
            f"training.strategy=multi-worker: the workers cannot be joined ({error}). TensorFlow must be joined before "
            "it computes anything: use `storygan train`, which does so first, in a process of its own."
        ) from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Lets SIGINT end the process while it waits for other workers, and takes SIGTERM back from TensorFlow afterwards.

    While it waits TensorFlow lets no code of Python run, and it takes SIGTERM for a notice that nobody asks it for.
    """
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        if main:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _tpu() -> tf.distribute.Strategy:
    name = os.environ.get(TPU_NAME, "local")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ConfigError(
            f"training.strategy=tpu: no TPU {name!r} was found ({str(error)[:200]}). Expected one in this machine, or "
            f"{TPU_NAME} in the environment to name one; else choose another strategy."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


_STRATEGIES: dict[str, Callable[[], tf.distribute.Strategy]] = {
    "one-device": _one_device,
    "mirrored": _mirrored,
    "multi-worker": _multi_worker,
    "tpu": _tpu,
}


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether other processes take part."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one that leaves something behind."""
    if not is_multi_worker(strategy):
        return True
    resolver = strategy.cluster_resolver
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return bool((resolver.task_type, resolver.task_id) == (first, 0))


def worker_directory(strategy: tf.distribute.Strategy, work_dir: Path) -> Path:
    """Returns where this process writes: the chief into `work_dir`, any other into a folder that goes with it."""
    if is_chief(strategy):
        return work_dir
    folder = tempfile.mkdtemp(prefix="storygan-worker-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def local_replica_ids(context: tf.distribute.InputContext) -> range:
    """Returns the numbers of the replicas, among all of the strategy, that an input pipeline is for.

    For `Strategy.distribute_datasets_from_function`, and `mine` of `storygan_tf.data.training_input.training_dataset`.
    """
    count = context.num_replicas_in_sync // context.num_input_pipelines
    return range(context.input_pipeline_id * count, (context.input_pipeline_id + 1) * count)


@contextlib.contextmanager
def raise_worker_lost(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns what TensorFlow raises where another worker is gone into WorkerLostError."""
    try:
        yield
    except tf.errors.OpError as error:
        if not is_multi_worker(strategy) or not _of_workers(error):
            raise
        raise WorkerLostError(f"another worker ended or does not answer ({_first_lines(error)}). {_AGAIN}") from error


def _of_workers(error: tf.errors.OpError) -> bool:
    kinds = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
    return isinstance(error, kinds) or "Collective ops is aborted" in str(error.message)


def _first_lines(error: tf.errors.OpError) -> str:
    """Returns the cause alone: TensorFlow's message says where in the program it was met, too."""
    text = str(error.message).partition("Collective ops is aborted by: ")
    return " ".join((text[2] or text[0]).split())[:200]
