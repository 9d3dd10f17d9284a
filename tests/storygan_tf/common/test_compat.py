"""The private parts of TensorFlow and Keras that the package relies on still work as it expects."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.common import compat


def test_checkpoint_variable_names_are_the_full_names_by_key(tmp_path):
    module = tf.Module()
    module.values = [tf.Variable([1.0, 2.0], name="layer/kernel"), tf.Variable(3.0, name="layer/bias")]
    tf.train.Checkpoint(root=module).write(str(tmp_path / "weights"))
    names = compat.checkpoint_variable_names(tf.train.load_checkpoint(str(tmp_path / "weights")))
    suffix = ".ATTRIBUTES/VARIABLE_VALUE"
    assert names[f"values/0/{suffix}"] == "layer/kernel"
    assert names[f"values/1/{suffix}"] == "layer/bias"


def test_float16_variables_are_stored_as_float16_and_computed_in_float32():
    with compat.float16_variables():
        dense, normalization = keras.layers.Dense(3), keras.layers.BatchNormalization()
        output = normalization(dense(tf.ones([2, 4])))
    assert {variable.dtype for variable in dense.variables} == {tf.float16}
    assert {variable.dtype for variable in normalization.variables} == {tf.float32}
    assert output.dtype == dense(tf.ones([2, 4])).dtype == tf.float32
    # In float16 the sum of 2048 and 1 is 2048.
    dense.kernel.assign(np.array([[2048], [1], [0], [0]], np.float16).repeat(3, axis=1))
    np.testing.assert_array_equal(dense(tf.ones([1, 4])), 2049)


def test_float16_variables_restores_the_policy_that_was_set_before():
    before = keras.mixed_precision.global_policy()
    with pytest.raises(ZeroDivisionError), compat.float16_variables():
        raise ZeroDivisionError
    assert keras.mixed_precision.global_policy() is before
