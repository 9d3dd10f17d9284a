"""How an outer step runs: as a graph, on a strategy's replicas, compiled by XLA or in 16 bits where wanted."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from storygan_tf.common.errors import ConfigError, TrainingError
from storygan_tf.config.schema import Settings
from storygan_tf.training.distribution import is_multi_worker
from storygan_tf.training.storygan import StoryGAN


def check_settings(settings: Settings, strategy: tf.distribute.Strategy) -> None:
    """Raises ConfigError for settings that would fail later on, some of them after hours."""
    for phase in settings.training.phases:
        for name in ("label_weight", "generator_label_weight"):
            if getattr(phase, name) and not settings.model.labels:
                raise ConfigError(
                    f"training.phases.{phase.name}.{name}: found {getattr(phase, name)} with model.labels=0, expected "
                    "a model that tells labels. Set model.labels to their number, or the weight to 0."
                )
    replicas = strategy.num_replicas_in_sync
    if settings.training.xla and replicas > 1 and any("CPU" in name for name in strategy.extended.worker_devices):
        raise ConfigError(
            f"training.xla: found true with {replicas} replicas on CPU devices, expected one device, GPUs or TPUs: "
            "TensorFlow does not compile steps for several CPU devices. Set training.xla=false or "
            "training.strategy=one-device."
        )


@contextlib.contextmanager
def precision(strategy: tf.distribute.Strategy, *, mixed: bool) -> Iterator[None]:
    """Lets layers that are made in here compute in 16 bits, where `mixed`: float16 on GPUs, bfloat16 elsewhere."""
    before = keras.mixed_precision.global_policy()
    gpus = all("GPU" in name for name in strategy.extended.worker_devices)
    try:
        if mixed:
            keras.mixed_precision.set_global_policy("mixed_float16" if gpus else "mixed_bfloat16")
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def make_step(gan: StoryGAN, strategy: tf.distribute.Strategy, *, xla: bool) -> Callable[[Any], None]:
    """Returns what makes one outer step on all replicas of this process, given their data."""
    train_step = gan.train_step
    if xla and not isinstance(strategy, tf.distribute.TPUStrategy):  # Which compiles in any case.
        train_step = tf.function(train_step, jit_compile=True, reduce_retracing=True)

    @tf.function
    def step(data: Any) -> None:
        strategy.run(train_step, args=(data,))

    return step


def sums_of_weights(gan: StoryGAN) -> dict[str, float]:
    """Returns the sum of the absolute values of each network and each optimizer: finite where all of them are."""
    sums = {f"sum of weights of {network.name}": network.weights for network in gan.networks}
    for name, optimizer in gan.optimizers._asdict().items():
        sums[f"sum of moments of {name}"] = [value for value in optimizer.variables if value.dtype.is_floating]
    return {name: float(tf.add_n([tf.reduce_sum(tf.abs(value)) for value in values])) for name, values in sums.items()}


def any_worker(strategy: tf.distribute.Strategy, wishes: Sequence[bool]) -> list[bool]:
    """Returns of each wish whether any worker has it; all workers must ask together."""
    return [count > 0 for count in _sums(strategy, [float(wish) for wish in wishes])]


def check_same_on_workers(strategy: tf.distribute.Strategy, what: str, number: int) -> None:
    """Waits for all workers.

    Raises:
        TrainingError: where they do not all have the same number of `what`.
    """
    count, total, squares = _sums(strategy, [1.0, float(number), float(number) ** 2])
    if count * squares != total**2:
        raise TrainingError(
            f"workers found different numbers of {what} (here {number}, {total / count:g} on average), expected the "
            "same. Give all of them the same folder, shared between them."
        )


def _sums(strategy: tf.distribute.Strategy, values: list[float]) -> list[float]:
    """Sums over all replicas of all workers; within one worker it just returns the values."""
    if not is_multi_worker(strategy):
        return values
    return [float(total) for total in _adder(strategy)(tf.constant(values, tf.float64))]


@functools.lru_cache(maxsize=1)
def _adder(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """As a graph: asked after every step, it takes a tenth of the time."""

    @tf.function
    def add(values: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(lambda own: own, args=(values,)), axis=None)

    return add
