"""Converts TensorProtos to arrays and back, as TensorFlow's C++ does."""

from __future__ import annotations

import math
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.local_server.status import StatusError, invalid

MAX_FILLED_BYTES = 2**22
"""Bytes of an input whose message leaves values out.

TensorFlow fills such a tensor up with its last value, so that a message of a few bytes could ask for any size.
"""

_MAX_GROWTH = 32
"""How many times larger than its message an array may be; a message with all its values stays below that."""

_STRING_BYTES = 64
"""Bytes of memory counted for a string."""

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
    """Converts an input to an array.

    Args:
        proto: the tensor of the request, unchecked.
        alias: name of the input in the signature, for the error message.

    Returns:
        An array of the tensor's shape; strings are bytes in an array of objects.

    Raises:
        StatusError: INVALID_ARGUMENT if the message is no valid tensor, or too large for what it holds.
    """
    try:
        dtype = tf.as_dtype(proto.dtype)
        if _array_bytes(proto, dtype) > max(MAX_FILLED_BYTES, _MAX_GROWTH * proto.ByteSize()):
            raise ValueError("too large")
        array = tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    # Unknown or abstract types, negative or overflowing dimensions, content of another size.
    except (TypeError, ValueError, OverflowError, NotImplementedError, tf.errors.OpError):
        raise invalid(f"tensor parsing error: {alias}") from None
    return np.asarray(array, object if dtype == tf.string else None)


def _array_bytes(proto: tensor_pb2.TensorProto, dtype: tf.DType) -> int:
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise ValueError("no shape of a tensor")
    return math.prod(sizes) * (_STRING_BYTES if dtype == tf.string else dtype.size)


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Converts an output to a TensorProto with values in the field of their type, as `Tensor::AsProtoField` does.

    Raises:
        StatusError: UNIMPLEMENTED for a type that no StoryGAN has (half, complex, quantized).
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
