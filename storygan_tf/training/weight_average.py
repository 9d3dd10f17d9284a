"""Moving average of the weights and the moving statistics of a network.

TensorFlow Addons' `MovingAverage` supports legacy optimizers only, and does not average the statistics of batch
normalisation, which must belong to the averaged weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import tensorflow as tf


def copy_weights(to: keras.Model, source: keras.Model) -> None:
    """Copies all weights and moving statistics from `source` to `to`, a network of the same configuration."""
    for average, value in _pairs(to, source):
        average.assign(tf.convert_to_tensor(value))


def update_average(average: keras.Model, network: keras.Model, decay: float, updates: tf.Tensor) -> None:
    """Updates a moving average in place: `average = d * average + (1 - d) * network`.

    The effective decay `d` is the minimum of `decay` and `(1 + updates) / (10 + updates)`, as in
    `tf.train.ExponentialMovingAverage`, so that the initial weights lose their influence quickly.

    Args:
        average: the averaged network, of the same configuration as `network`.
        network: the network that is being trained.
        decay: decay of the average, from 0 to 1.
        updates: integer scalar, number of updates of the average before this one.
    """
    count = tf.cast(updates, tf.float32)
    rate = 1.0 - tf.minimum(decay, (1.0 + count) / (10.0 + count))
    for mean, value in _pairs(average, network):
        mean.assign_sub(rate * (mean - value))


def _pairs(one: keras.Model, other: keras.Model) -> Iterator[tuple[tf.Variable, tf.Variable]]:
    """Yields the variables of two networks that belong together.

    They are matched by their paths, because the order of `weights` depends on which of them are trainable.
    """
    variables = other.get_weight_paths()
    for path, variable in one.get_weight_paths().items():
        yield variable, variables[path]
