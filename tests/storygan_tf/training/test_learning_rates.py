"""Learning rates over a phase."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.training.learning_rates import LinearTail, rate_over_phase


def test_constant_for_a_half_then_a_straight_line_to_zero():
    schedule = LinearTail(0.4, 100)
    rates = [float(schedule(tf.constant(step, tf.int64))) for step in (0, 25, 50, 60, 75, 99, 100, 150)]
    assert rates == pytest.approx([0.4, 0.4, 0.4, 0.32, 0.2, 0.008, 0, 0], abs=1e-6)


def test_round_trip():
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(LinearTail(0.1, 7)))
    assert (again.rate, again.updates) == (0.1, 7)


def test_adam_follows_it():
    """Adam's first steps on a constant gradient are one learning rate long each."""
    variable = tf.Variable(0.0)
    optimizer = keras.optimizers.Adam(LinearTail(0.1, 4), jit_compile=False)
    places = [0.0]
    for _ in range(5):
        optimizer.apply_gradients([(tf.constant(-1.0), variable)])
        places.append(float(variable))
    np.testing.assert_allclose(np.diff(places), [0.1, 0.1, 0.1, 0.05, 0.0], atol=1e-5)


def test_the_released_rates_are_halved_every_20_epochs():
    schedule = rate_over_phase(PhaseConfig(epochs=120, decay="halving"), 2e-4, 120 * 7)
    rates = [float(schedule(tf.constant(7 * epoch + step, tf.int64))) for epoch, step in ((0, 0), (19, 6), (20, 0))]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 1e-4])
    np.testing.assert_allclose(float(schedule(tf.constant(7 * 119, tf.int64))), 2e-4 / 2**5)


def test_a_phase_shorter_than_a_halving_keeps_its_rate():
    schedule = rate_over_phase(PhaseConfig(epochs=1, decay="halving"), 0.5, 2)
    assert [float(schedule(tf.constant(step, tf.int64))) for step in (0, 1)] == [0.5, 0.5]
    assert rate_over_phase(PhaseConfig(), 0.5, 2) == 0.5
