"""Uses of private parts of TensorFlow and gRPC, each in one function, tried with the versions of requirements.lock.

`tests/serving/test_compat.py` has a test for each, which fails by name when a new version of the library differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.python.client import pywrap_tf_session


def run_session(
    session: tf.compat.v1.Session, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], timeout_ms: int
) -> list[Any]:
    """Runs a graph without the checks of TensorFlow's Python, as TensorFlow Serving does.

    Calls `Session._call_tf_sessionrun` with a buffer of `pywrap_tf_session`. The public `Session.run` checks types and
    shapes in Python first and raises ValueError or TypeError in its own words, where TensorFlow Serving returns the
    errors of the C++ runtime. Tried with TensorFlow 2.15.1.

    Args:
        session: session with the graph.
        feeds: arrays by tensor name, such as `x:0`.
        fetches: tensor names.
        timeout_ms: milliseconds until the run is ended; 0 for no limit.

    Returns:
        The fetched values in order: arrays, and bytes for a scalar string.

    Raises:
        tf.errors.OpError: if the graph fails, or DeadlineExceededError if the time is over.
    """
    options = tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms)
    buffer = pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())
    output = session.graph.get_tensor_by_name
    try:
        values: list[Any] = session._call_tf_sessionrun(
            buffer,
            {output(name)._as_tf_output(): array for name, array in feeds.items()},
            [output(name)._as_tf_output() for name in fetches],
            [],
            None,
        )
        return values
    finally:
        pywrap_tf_session.TF_DeleteBuffer(buffer)


def is_empty_saved_model(error: BaseException) -> bool:
    """Returns whether `tf.compat.v1.saved_model.load` found no meta graph at all, as in some damaged files.

    Python's protobuf reads as much of a damaged file as it can, possibly nothing, and TensorFlow has no error class for
    that: the message is matched. Tried with TensorFlow 2.15.1.
    """
    return "available tags '[]'" in str(error)


def lacks_tags(error: BaseException) -> bool:
    """Returns whether `tf.compat.v1.saved_model.load` found no meta graph with the requested tags.

    It raises a plain RuntimeError, as it does for other reasons: the message is matched. Tried with TensorFlow 2.15.1.
    """
    return isinstance(error, RuntimeError) and "MetaGraphDef associated with tags" in str(error)


def status_number(code: grpc.StatusCode) -> int:
    """Returns the number of a status code, such as 3 for INVALID_ARGUMENT.

    gRPC's Python documents the names but no way to the numbers, which are the first item of an enum member's value.
    Tried with grpcio 1.85.1.
    """
    return int(code.value[0])
