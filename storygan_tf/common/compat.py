"""The private parts of TensorFlow and Keras that this package relies on, one function each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
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
