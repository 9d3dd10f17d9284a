"""The private parts of TensorFlow that the package relies on are still what it takes them for."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.common import compat


def test_tensorflow_still_words_an_aborted_collective_operation_as_collective_aborted_says():
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
