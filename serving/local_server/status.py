"""What a request fails with: a gRPC status, and the words in which TensorFlow Serving says it."""

from __future__ import annotations

import grpc
import tensorflow as tf
from tensorflow_serving.apis import status_pb2

LONGEST = 1024
"""Bytes of a message; a longer one is cut."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class StatusError(Exception):
    """A request, or the loading of a model, failed.

    Attributes:
        code: the gRPC status.
        message: in full.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message

    @property
    def details(self) -> str:
        """The message as it goes over the wire, where each byte that is not ASCII takes three and 8 kB are too many."""
        told = self.message.encode(errors="replace")
        return told.decode() if len(told) <= LONGEST else f"{told[:LONGEST].decode(errors='ignore')}...TRUNCATED"

    @classmethod
    def of(cls, error: BaseException) -> StatusError:
        """Returns what any error is to a caller; one that nobody foresaw is INTERNAL."""
        if isinstance(error, StatusError):
            return error
        if isinstance(error, tf.errors.OpError):
            return cls(_CODES[error.error_code], error.message)
        return cls(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")


def invalid(message: str) -> StatusError:
    """Returns the error of a request that can never succeed."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def as_proto(error: StatusError | None) -> status_pb2.StatusProto:
    """Returns the message that tells an error, or that there is none."""
    if error is None:
        return status_pb2.StatusProto()
    return status_pb2.StatusProto(error_code=error.code.value[0], error_message=error.message)
