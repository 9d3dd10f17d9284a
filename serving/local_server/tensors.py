"""TensorProto to array and back, as TensorFlow's own C++ reads and writes them."""

from __future__ import annotations

import math
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.local_server.status import StatusError, invalid

LARGEST = 2**22
"""Bytes of an input of which a message leaves values out, filled with the last one: a few can ask for any size."""

_GROWTH = 32
"""By which the bytes of a message that leaves nothing out may grow: numbers and short strings take few."""

_STRING_BYTES = 64

_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}


def to_array(proto: tensor_pb2.TensorProto, alias: str) -> np.ndarray:
    """Returns the array of an input.

    Args:
        proto: what the caller sent.
        alias: the input's name in the signature.

    Raises:
        StatusError: INVALID_ARGUMENT, where it is no tensor.
    """
    try:
        dtype = tf.as_dtype(proto.dtype)
        if _bytes(proto, dtype) > max(LARGEST, _GROWTH * proto.ByteSize()):
            raise ValueError("too large")
        array = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    # An unknown or abstract type, negative or overflowing dimensions, content of another size.
    except (TypeError, ValueError, OverflowError, NotImplementedError, tf.errors.OpError):
        raise invalid(f"tensor parsing error: {alias}") from None
    return np.asarray(array, object if dtype == tf.string else None)


def _bytes(proto: tensor_pb2.TensorProto, dtype: tf.DType) -> int:
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise ValueError("no shape of a tensor")
    return math.prod(sizes) * (_STRING_BYTES if dtype == tf.string else dtype.size)


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Returns an output in the fields of its type, not as bytes: what `Tensor::AsProtoField` writes.

    Raises:
        StatusError: UNIMPLEMENTED, for a type that no StoryGAN has (half, complex, quantized).
    """
    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    if dtype not in _FIELDS:
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"the local server writes no tensors of type {dtype.name}")
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    values: list[Any] = array.ravel().tolist()
    getattr(proto, _FIELDS[dtype]).extend(values)
    return proto
