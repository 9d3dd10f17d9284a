"""Devices and workers of a training: strategies, the chief, numeric precision, agreement between workers.

See `docs/devices.md`. With several workers, all of them run everything that reads variables, in the same order. Only
the files of the chief are kept; the other workers write to temporary directories.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from storygan_tf.common.compat import collective_error_cause, is_lost_worker_error
from storygan_tf.common.errors import ConfigError, TrainingError
from storygan_tf.config.schema import Settings

TF_CONFIG = "TF_CONFIG"
"""The environment variable that describes the workers of a cluster."""

TPU_NAME = "TPU_NAME"
"""The environment variable that names a TPU which is not in this machine."""

_EXAMPLE = '{"cluster": {"worker": ["host-0:2222", "host-1:2222"]}, "task": {"type": "worker", "index": 0}}'
_JOBS = ("chief", "worker")
_START_AGAIN = "Start all workers again with the same commands: they continue from the last checkpoint."


class WorkerLostError(TrainingError):
    """Another worker ended or does not answer. All workers must be started again."""


@dataclasses.dataclass(frozen=True)
class Worker:
    """The workers of a cluster, and which of them this process is.

    Attributes:
        cluster: job (`chief`, `worker`) -> addresses `host:port` of its processes.
        job: job of this process.
        index: index of this process within its job.
    """

    cluster: dict[str, list[str]]
    job: str
    index: int

    @property
    def count(self) -> int:
        """Number of workers, including the chief."""
        return sum(len(addresses) for addresses in self.cluster.values())

    @property
    def number(self) -> int:
        """Number of this process among all workers; the chief has 0."""
        return self.index + (len(self.cluster.get("chief", ())) if self.job == "worker" else 0)

    @property
    def chief(self) -> str:
        """Address of the chief: the process of job `chief` if there is one, else worker 0."""
        return (self.cluster.get("chief") or self.cluster["worker"])[0]


def find_worker(environment: Mapping[str, str] = os.environ) -> Worker | None:
    """Returns the worker that `TF_CONFIG` describes, or None if it is not set.

    Args:
        environment: environment variables.

    Raises:
        ConfigError: if `TF_CONFIG` does not describe all workers and which of them this process is.
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
    problem = _find_problem(worker)
    if problem:
        raise _bad_tf_config(text, problem)
    return worker


def _find_problem(worker: Worker) -> str:
    """Returns what is wrong with the description of a worker, or an empty string."""
    unknown = sorted(set(worker.cluster) - set(_JOBS))
    if unknown:
        return f"jobs {', '.join(unknown)} are not known, only {' and '.join(_JOBS)}"
    if len(worker.cluster.get("chief", ())) > 1:
        return "there is more than one chief"
    addresses = worker.cluster.get(worker.job, [])
    if not 0 <= worker.index < len(addresses):
        return f"cluster has no task {worker.job!r} {worker.index}"
    wrong = [address for job in worker.cluster.values() for address in job if not _is_address(address)]
    return f"{wrong[0]!r} is no host:port" if wrong else ""


def _is_address(text: Any) -> bool:
    return isinstance(text, str) and text.rpartition(":")[0] != "" and text.rpartition(":")[2].isdigit()


def _bad_tf_config(found: str, why: str) -> ConfigError:
    return ConfigError(
        f"{TF_CONFIG}: found {found[:200]!r} ({why}), expected JSON that names all workers and which of them this "
        f"process is, such as {TF_CONFIG}='{_EXAMPLE}' for the first of two."
    )


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy that `TrainConfig.strategy` names.

    Call it once in a process, before TensorFlow computes anything.

    Args:
        name: `one-device`: the first GPU, else the CPU. `mirrored`: all GPUs, or all logical CPUs if there is no GPU.
            `multi-worker`: all devices of all workers that `TF_CONFIG` names. `tpu`: the TPU that `TPU_NAME` names, or
            the TPU of this machine. `auto`: `multi-worker` if `TF_CONFIG` names several workers, `mirrored` if there
            are several GPUs, else `one-device`.

    Raises:
        ConfigError: if `TF_CONFIG` is missing or wrong, or no TPU is found.
        TrainingError: if TensorFlow has computed something before, so that workers cannot connect any more.
        WorkerLostError: if another worker ends, or does not answer, while the workers connect.
    """
    grow_memory()
    if name == "auto":
        name = _automatic_name()
    return _STRATEGIES[name]()


def grow_memory() -> None:
    """Makes TensorFlow allocate GPU memory as it is needed. Has no effect on a GPU that is already in use."""
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)


def _automatic_name() -> str:
    """Returns the strategy that `auto` stands for on this machine."""
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
            f"of them this process is, such as {TF_CONFIG}='{_EXAMPLE}' for the first of two."
        )
    try:
        with _preserved_signal_handlers():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise WorkerLostError(
            f"the workers could not connect ({collective_error_cause(error)}). {_START_AGAIN}"
        ) from error
    except RuntimeError as error:
        raise TrainingError(
            f"training.strategy=multi-worker: the workers cannot connect ({error}). They must connect before "
            "TensorFlow computes anything: use `storygan train`, which does so first, in a process of its own."
        ) from error


@contextlib.contextmanager
def _preserved_signal_handlers() -> Iterator[None]:
    """Lets SIGINT end the process inside the context, and restores the handlers of SIGINT and SIGTERM afterwards.

    While TensorFlow waits for other workers no Python code runs, so that Python's handler of SIGINT would not be
    called. TensorFlow also installs a handler of SIGTERM of its own, as a notice of preemption, which this package does
    not use.
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
            f"training.strategy=tpu: no TPU {name!r} was found ({str(error)[:200]}); expected a TPU in this machine, "
            f"or the environment variable {TPU_NAME} with the name of one. Otherwise set another strategy."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


_STRATEGIES: dict[str, Callable[[], tf.distribute.Strategy]] = {
    "one-device": _one_device,
    "mirrored": _mirrored,
    "multi-worker": _multi_worker,
    "tpu": _tpu,
}


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether the strategy spans several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one whose files are kept. A single process always is."""
    if not is_multi_worker(strategy):
        return True
    resolver = strategy.cluster_resolver
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return bool((resolver.task_type, resolver.task_id) == (first, 0))


def worker_directory(strategy: tf.distribute.Strategy, work_dir: Path) -> Path:
    """Returns the directory that this process writes to: `work_dir` for the chief, else a temporary directory.

    The temporary directory is removed when the process ends.
    """
    if is_chief(strategy):
        return work_dir
    folder = tempfile.mkdtemp(prefix="storygan-worker-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def local_replica_ids(context: tf.distribute.InputContext) -> range:
    """Returns the numbers, among all replicas of the strategy, of the replicas that an input pipeline feeds.

    Use it in the function given to `Strategy.distribute_datasets_from_function`, as the argument `mine` of
    `storygan_tf.data.training_input.training_dataset`.
    """
    count = context.num_replicas_in_sync // context.num_input_pipelines
    return range(context.input_pipeline_id * count, (context.input_pipeline_id + 1) * count)


@contextlib.contextmanager
def raise_worker_lost(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Raises WorkerLostError in place of the error that TensorFlow raises when another worker ended."""
    try:
        yield
    except tf.errors.OpError as error:
        if not is_multi_worker(strategy) or not is_lost_worker_error(error):
            raise
        cause = collective_error_cause(error)
        raise WorkerLostError(f"another worker ended or does not answer ({cause}). {_START_AGAIN}") from error


def check_devices(settings: Settings, strategy: tf.distribute.Strategy) -> None:
    """Checks that the devices of a strategy support the training settings.

    Raises:
        ConfigError: if XLA is enabled on several CPU devices.
    """
    replicas = strategy.num_replicas_in_sync
    if settings.training.xla and replicas > 1 and any("CPU" in name for name in strategy.extended.worker_devices):
        raise ConfigError(
            f"training.xla: found true with {replicas} replicas on CPU devices, expected one device, GPUs or TPUs: "
            "TensorFlow does not compile steps for several CPU devices. Set training.xla=false or "
            "training.strategy=one-device."
        )


@contextlib.contextmanager
def precision(strategy: tf.distribute.Strategy, *, mixed: bool) -> Iterator[None]:
    """Sets the precision of the layers that are created in this context.

    Args:
        strategy: its devices decide which 16-bit type is used: float16 if all are GPUs, else bfloat16.
        mixed: whether layers compute in 16 bits; if false, the global policy is left as it is.
    """
    before = keras.mixed_precision.global_policy()
    gpus = all("GPU" in name for name in strategy.extended.worker_devices)
    try:
        if mixed:
            keras.mixed_precision.set_global_policy("mixed_float16" if gpus else "mixed_bfloat16")
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def any_worker(strategy: tf.distribute.Strategy, flags: Sequence[bool]) -> list[bool]:
    """Returns for each flag whether it is true on any worker.

    All workers must call it at the same point, with the same number of flags.
    """
    return [count > 0 for count in _sum_over_replicas(strategy, [float(flag) for flag in flags])]


def check_same_on_workers(strategy: tf.distribute.Strategy, name: str, number: int) -> None:
    """Waits for all workers and checks that they have the same number.

    Args:
        strategy: the strategy.
        name: what the number counts, for the error message.
        number: the number of this worker.

    Raises:
        TrainingError: if the workers have different numbers.
    """
    count, total, squares = _sum_over_replicas(strategy, [1.0, float(number), float(number) ** 2])
    if count * squares != total**2:
        raise TrainingError(
            f"workers found different numbers of {name} (here {number}, {total / count:g} on average), expected the "
            "same. Give all of them the same folder, shared between them."
        )


def _sum_over_replicas(strategy: tf.distribute.Strategy, values: list[float]) -> list[float]:
    """Returns the sums over all replicas of all workers, or the values themselves if there is only one worker."""
    if not is_multi_worker(strategy):
        return values
    return [float(total) for total in _make_sum(strategy)(tf.constant(values, tf.float64))]


@functools.lru_cache(maxsize=1)
def _make_sum(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function that sums a tensor over all replicas.

    It is compiled to a graph: it runs after every step, and the graph takes a tenth of the time.
    """

    @tf.function
    def add(values: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(lambda own: own, args=(values,)), axis=None)

    return add
