"""The compiled function that runs an outer step on all replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from storygan_tf.training.storygan import StoryGAN


def make_step(gan: StoryGAN, strategy: tf.distribute.Strategy, *, xla: bool) -> Callable[[Any], None]:
    """Returns a function that runs one outer step of the current phase on all replicas of this process.

    The function takes the mini-batches of the step as an iterator of a distributed dataset yields them
    (`train_schedules.Data`, one per replica).

    Args:
        gan: a model that was compiled for the phase.
        strategy: the strategy that the model was created with.
        xla: whether the step is compiled by XLA. TPUs always do so.
    """
    train_step = gan.train_step
    if xla and not isinstance(strategy, tf.distribute.TPUStrategy):
        train_step = tf.function(train_step, jit_compile=True, reduce_retracing=True)

    @tf.function
    def step(data: Any) -> None:
        strategy.run(train_step, args=(data,))

    return step
