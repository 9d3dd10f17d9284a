"""Learning rate schedules over a phase of training."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig

HALVING_EPOCHS = 20
"""Epochs between two halvings of the learning rate, as in the code that the paper's authors released."""


@keras.saving.register_keras_serializable(package="storygan")
class LinearTail(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is constant for the first half of the updates and then falls linearly to 0.

    Use it for a phase with `decay: linear`.

    Args:
        rate: learning rate of the first half.
        updates: number of optimizer updates in the phase.

    Example:
        >>> float(LinearTail(1.0, updates=100)(75))
        0.5
    """

    def __init__(self, rate: float, updates: int) -> None:
        self.rate = rate
        self.updates = updates

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate at update `step`: integer scalar -> float32 scalar in [0, rate]."""
        left = 1.0 - tf.cast(step, tf.float32) / float(self.updates)
        return self.rate * tf.clip_by_value(2.0 * left, 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return {"rate": self.rate, "updates": self.updates}


def rate_over_phase(
    phase: PhaseConfig, rate: float, updates: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate of an optimizer over a phase: a number, or a schedule as `phase.decay` says.

    Args:
        phase: the phase.
        rate: learning rate at the beginning of the phase.
        updates: number of updates of this optimizer in the phase.
    """
    if phase.decay == "linear":
        return LinearTail(rate, updates)
    if phase.decay == "halving":
        between = max(1, round(updates * HALVING_EPOCHS / phase.epochs))
        return keras.optimizers.schedules.ExponentialDecay(rate, between, 0.5, staircase=True)
    return rate
