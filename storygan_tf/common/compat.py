"""The private parts of TensorFlow and Keras that this package relies on, one function each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""Key of the serialized object graph in an object-based checkpoint."""


def checkpoint_variable_names(reader: tf.train.CheckpointReader) -> dict[str, str]:
    """Returns the full name of each variable in an object-based checkpoint or SavedModel, by its checkpoint key.

    Tried on TensorFlow 2.15.1. The public `tf.train.list_variables` returns only keys such as
    `generator_variables/3/.ATTRIBUTES/VARIABLE_VALUE`, which number the variables of a list but do not name them. The
    names are in the object graph, whose key and protocol buffer are not part of the public API.
    """
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(OBJECT_GRAPH))
    return {saved.checkpoint_key: saved.full_name for node in graph.nodes for saved in node.attributes}


class _Float16VariablesPolicy(keras.mixed_precision.Policy):
    """A policy of float32 arithmetic on float16 variables, which are cast where they are used."""

    @property
    def variable_dtype(self) -> str:
        """The type of variables."""
        return "float16"


@contextlib.contextmanager
def float16_variables() -> Iterator[None]:
    """Makes Keras layers that are created in the `with` block store float16 variables and compute in float32.

    Tried on Keras 2.15.0. The public policies have float32 variables for float32 arithmetic: `float16` also computes in
    float16. So this sets a subclass of `Policy` with another `variable_dtype`, which layers read when they create their
    variables. Batch normalization stores float32 variables under every policy.
    """
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(_Float16VariablesPolicy("float32"))
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def accept_tensors_as_logs(callback: keras.callbacks.Callback) -> None:
    """Makes `fit` pass the tensors of a step to a callback as `logs`, without a copy to the host after each step.

    Tried on Keras 2.15.0. There is no public way for a callback of one's own: Keras' own callbacks set the attribute
    `_supports_tf_logs`. If any callback with a method for batches does not, `fit` waits for each step to end.
    """
    callback._supports_tf_logs = True


_ABORTED = "Collective ops is aborted"

COLLECTIVE_ABORTED = f"{_ABORTED} by: "
"""How TensorFlow begins the cause of a collective operation that was cancelled."""

VARIABLE_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""How the key of a variable ends in an object-based checkpoint."""


def is_lost_worker_error(error: tf.errors.OpError) -> bool:
    """Returns whether an error of `MultiWorkerMirroredStrategy` means that another worker ended or does not answer.

    Tried on TensorFlow 2.15.1. Public error types (`UnavailableError`, `AbortedError`, `CancelledError`) cover most
    cases. A worker that is cancelled in a collective operation can also raise `InternalError` or another type, which
    unrelated errors have as well; only the text of the message distinguishes them.
    """
    kinds = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
    return isinstance(error, kinds) or _ABORTED in str(error.message)


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
