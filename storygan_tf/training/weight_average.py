"""A network that follows another one: a moving average of its weights and of its moving statistics.

TensorFlow Addons' `MovingAverage` takes optimizers of the old kind only, and leaves batch normalisation's statistics as
they are; averaged weights want averaged statistics.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import tensorflow as tf


def copy_weights(to: keras.Model, source: keras.Model) -> None:
    """Gives `to` the weights and statistics of `source`, a network of the same configuration."""
    for average, value in _pairs(to, source):
        average.assign(tf.convert_to_tensor(value))


def update_average(average: keras.Model, network: keras.Model, decay: float, updates: tf.Tensor) -> None:
    """Moves `average` towards `network`: `average = d * average + (1 - d) * network`.

    Args:
        average: a network of the same configuration.
        network: what is being trained.
        decay: from 0 to 1; `d` is at most this, and at first `(1 + updates) / (10 + updates)`, as
            `tf.train.ExponentialMovingAverage` has it, so that the start is soon forgotten.
        updates: how often it was moved before.
    """
    count = tf.cast(updates, tf.float32)
    rate = 1.0 - tf.minimum(decay, (1.0 + count) / (10.0 + count))
    for mean, value in _pairs(average, network):
        mean.assign_sub(rate * (mean - value))


def _pairs(one: keras.Model, other: keras.Model) -> Iterator[tuple[tf.Variable, tf.Variable]]:
    """Goes by the variables' paths: their order depends on what is trainable."""
    variables = other.get_weight_paths()
    for path, variable in one.get_weight_paths().items():
        yield variable, variables[path]
