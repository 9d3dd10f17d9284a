"""The private parts of TensorFlow and Keras that this package relies on, one function each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

COLLECTIVE_ABORTED = "Collective ops is aborted by: "
"""How TensorFlow begins the cause of a collective operation that was cancelled."""

VARIABLE_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""How the key of a variable ends in an object-based checkpoint."""


def is_lost_worker_error(error: tf.errors.OpError) -> bool:
    """Returns whether an error of `MultiWorkerMirroredStrategy` means that another worker ended or does not answer.

    Tried on TensorFlow 2.15.1. Public error types (`UnavailableError`, `AbortedError`, `CancelledError`) cover most
    cases. A worker that is cancelled in a collective operation can also raise `InternalError` or another type, which
    unrelated errors have as well; only the text of the message tells them apart.
    """
    kinds = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
    return isinstance(error, kinds) or COLLECTIVE_ABORTED.rstrip(": ") in str(error.message)


def collective_error_cause(error: tf.errors.OpError) -> str:
    """Returns the cause of an error of a collective operation in one line of at most 200 characters.

    Tried on TensorFlow 2.15.1. The public `error.message` also lists the place in the program, over many lines; the
    cause follows a fixed text, which is not documented. A message without that text is returned from its beginning.
    """
    before, _, cause = str(error.message).partition(COLLECTIVE_ABORTED)
    return " ".join((cause or before).split())[:200]


def checkpoint_values(prefix: Path) -> Iterator[np.ndarray]:
    """Yields the values of all variables of an object-based checkpoint, whatever objects they belong to.

    Tried on TensorFlow 2.15.1. The public `tf.train.Checkpoint.read` needs the objects that were saved. The public
    `tf.train.load_checkpoint` lists keys, but how the key of a variable differs from that of the serialized object
    graph is not documented.

    Args:
        prefix: path of the checkpoint as it was passed to `tf.train.Checkpoint.write`.
    """
    reader = tf.train.load_checkpoint(str(prefix))
    for key in reader.get_variable_to_shape_map():
        if VARIABLE_VALUE in key:
            yield reader.get_tensor(key)
