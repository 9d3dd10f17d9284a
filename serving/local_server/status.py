"""The errors of requests: a gRPC status and a message as in TensorFlow Serving."""

from __future__ import annotations

import grpc
import tensorflow as tf
from tensorflow_serving.apis import status_pb2

from serving.compat import status_number

MAX_DETAIL_BYTES = 1024
"""Bytes of an error message over gRPC; a longer one is cut, as in TensorFlow Serving."""

_CODES = {status_number(code): code for code in grpc.StatusCode}


class StatusError(Exception):
    """Raised if a request or the loading of a model fails.

    Args:
        code: the gRPC status code.
        message: the whole message.

    Attributes:
        code: the gRPC status code.
        message: the whole message.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message

    @property
    def details(self) -> str:
        """The message, cut to `MAX_DETAIL_BYTES`: gRPC sends a byte that is not ASCII as three and refuses 8 kB."""
        data = self.message.encode(errors="replace")
        if len(data) <= MAX_DETAIL_BYTES:
            return data.decode()
        return f"{data[:MAX_DETAIL_BYTES].decode(errors='ignore')}...TRUNCATED"

    @classmethod
    def from_exception(cls, error: BaseException) -> StatusError:
        """Converts an exception: TensorFlow's errors keep their status, unexpected exceptions become INTERNAL."""
        if isinstance(error, StatusError):
            return error
        if isinstance(error, tf.errors.OpError):
            return cls(_CODES[error.error_code], error.message)
        return cls(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")


def invalid(message: str) -> StatusError:
    """Returns an INVALID_ARGUMENT error."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def as_proto(error: StatusError | None) -> status_pb2.StatusProto:
    """Converts an error to a StatusProto; None becomes OK."""
    if error is None:
        return status_pb2.StatusProto()
    return status_pb2.StatusProto(error_code=status_number(error.code), error_message=error.message)
