"""The private parts of TensorFlow and Keras that the package relies on still work as it expects."""

from __future__ import annotations

import mmap
from pathlib import Path

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


def test_the_message_of_an_aborted_collective_operation_in_tensorflow_is_collective_aborted():
    """The text is searched in TensorFlow's library: to raise the error itself takes two processes."""
    (library,) = Path(tf.sysconfig.get_lib()).glob("libtensorflow_framework.so*")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert content.find(compat.COLLECTIVE_ABORTED.encode()) >= 0


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (tf.errors.UnavailableError(None, None, "no route"), True),
        (tf.errors.AbortedError(None, None, ""), True),
        (tf.errors.CancelledError(None, None, ""), True),
        (tf.errors.InternalError(None, None, "in a node\nCollective ops is aborted by: worker 1 is down"), True),
        (tf.errors.InternalError(None, None, "out of memory"), False),
        (tf.errors.InvalidArgumentError(None, None, "a wrong shape"), False),
    ],
)
def test_is_lost_worker_error(error, lost):
    assert compat.is_lost_worker_error(error) is lost


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("in a node\nCollective ops is aborted by: worker 1\nis down", "worker 1 is down"),
        ("two\nlines", "two lines"),
        (201 * "x", 200 * "x"),
    ],
)
def test_collective_error_cause(message, cause):
    assert compat.collective_error_cause(tf.errors.UnavailableError(None, None, message)) == cause


def test_checkpoint_values_are_those_of_all_variables_and_nothing_else(tmp_path):
    module = tf.Module()
    module.list = [tf.Variable([1.0, 2.0]), tf.Variable(3)]
    tf.train.Checkpoint(trained=module).write(str(tmp_path / "weights"))
    found = sorted(compat.checkpoint_values(tmp_path / "weights"), key=np.ndim)
    assert [value.tolist() for value in found] == [3, [1.0, 2.0]]


def test_callbacks_that_accept_tensors_get_tensors_as_logs():
    class Logs(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.found = logs["loss"]

    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse")
    found = []
    for accepts in (False, True):
        callback = Logs()
        if accepts:
            compat.accept_tensors_as_logs(callback)
        model.fit(tf.ones([2, 3]), tf.ones([2, 1]), verbose=0, callbacks=[callback])
        found.append(tf.is_tensor(callback.found))
    assert found == [False, True]
