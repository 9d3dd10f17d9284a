"""Learning rates over a phase of training."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig

HALVING_EPOCHS = 20
"""Epochs between two halvings, the released code's."""


@keras.saving.register_keras_serializable(package="storygan")
class LinearTail(keras.optimizers.schedules.LearningRateSchedule):
    """Constant for the first half of `updates`, then a straight line to 0.

    Args:
        rate: of the first half.
        updates: optimizer updates in the phase.
    """

    def __init__(self, rate: float, updates: int) -> None:
        self.rate = rate
        self.updates = updates

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate at update `step`, a float scalar."""
        left = 1.0 - tf.cast(step, tf.float32) / float(self.updates)
        return self.rate * tf.clip_by_value(2.0 * left, 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`."""
        return {"rate": self.rate, "updates": self.updates}


def rate_over_phase(
    phase: PhaseConfig, rate: float, updates: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns an optimizer's learning rate over a phase.

    Args:
        phase: its configuration.
        rate: of its beginning.
        updates: that the optimizer makes in it.
    """
    if phase.decay == "linear":
        return LinearTail(rate, updates)
    if phase.decay == "halving":
        between = max(1, round(updates * HALVING_EPOCHS / phase.epochs))
        return keras.optimizers.schedules.ExponentialDecay(rate, between, 0.5, staircase=True)
    return rate
