"""A loaded SavedModel, run by a TF1 session.

That is what TensorFlow Serving does, and not what `tf.saved_model.load` gives: feeds reach the C++ runtime unchecked by
Python, so that its own errors come back, and a run can be given a deadline.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.local_server.predict import Call, prepare, respond
from serving.local_server.status import StatusError, invalid
from storygan_tf.export.serving_warmup import SERVING_WARMUP_FILE

MOST_WARMUP_RECORDS = 1000


class Servable:
    """A version of a model, ready to be asked from any thread.

    Args:
        path: the version directory.
        tags: of the meta graph.
        config: of the session; None for TensorFlow's own choice.

    Attributes:
        meta_graph: with the signatures.

    Raises:
        StatusError: NOT_FOUND or DATA_LOSS for no SavedModel, whatever TensorFlow says of a damaged one.
    """

    def __init__(
        self, path: Path, tags: Sequence[str] = ("serve",), config: config_pb2.ConfigProto | None = None
    ) -> None:
        if not (path / "saved_model.pb").is_file() and not (path / "saved_model.pbtxt").is_file():
            raise StatusError(
                grpc.StatusCode.NOT_FOUND,
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}",
            )
        self._graph = tf.Graph()
        self._session: Any = tf.compat.v1.Session(graph=self._graph, config=config)
        try:
            with self._graph.as_default(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.meta_graph = tf.compat.v1.saved_model.load(self._session, list(tags), str(path))
        except BaseException as error:
            self._session.close()
            raise _load_error(error, path) from error

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], timeout: float | None) -> list[np.ndarray]:
        """Runs the graph.

        Args:
            feeds: arrays by tensor name.
            fetches: tensor names.
            timeout: seconds; None for as long as it takes.

        Raises:
            StatusError: DEADLINE_EXCEEDED, or whatever the graph fails with.
        """
        milliseconds = 0 if timeout is None else max(1, int(timeout * 1000))
        options = config_pb2.RunOptions(timeout_in_ms=milliseconds)
        buffer = pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())
        try:
            # `Session.run` would refuse wrong types and shapes in Python's words.
            arrays = self._session._call_tf_sessionrun(
                buffer,
                {self._tensor(name)._as_tf_output(): array for name, array in feeds.items()},
                [self._tensor(name)._as_tf_output() for name in fetches],
                [],
                None,
            )
        except tf.errors.OpError as error:
            raise StatusError.of(error) from error
        finally:
            pywrap_tf_session.TF_DeleteBuffer(buffer)
        return [np.asarray(array, object) if isinstance(array, bytes) else np.asarray(array) for array in arrays]

    def _tensor(self, name: str) -> Any:
        return self._graph.get_tensor_by_name(name)

    def call(self, call: Call, timeout: float | None = None) -> list[np.ndarray]:
        """Runs what `prepare` made of a request; errors as of `run`."""
        return self.run(call.feeds, call.fetches, timeout)

    def close(self) -> None:
        """Frees the model; no run may be under way."""
        self._session.close()


def _load_error(error: BaseException, path: Path) -> BaseException:
    if isinstance(error, tf.errors.OpError):
        return StatusError.of(error)
    # Of some damaged files Python's protobuf reads as much as it can: nothing.
    if isinstance(error, OSError | DecodeError) or "available tags '[]'" in str(error):
        return StatusError(grpc.StatusCode.DATA_LOSS, f"Can't parse {path}/saved_model.pb as binary proto")
    if isinstance(error, RuntimeError) and "MetaGraphDef associated with tags" in str(error):
        return StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find meta graph def matching supplied tags: {error}")
    if isinstance(error, Exception):  # TensorFlow's Python raises nearly anything for a graph that makes no sense
        return StatusError(grpc.StatusCode.INVALID_ARGUMENT, f"{type(error).__name__}: {error}")
    return error


def replay_serving_warmup(servable: Servable, path: Path, iterations: int = 1) -> int:
    """Runs the requests that came with a model, so that the first caller does not wait for what is done once.

    Args:
        servable: of the same version.
        path: the version directory.
        iterations: how often each request is run.

    Returns:
        how many requests there were.

    Raises:
        StatusError: for a request that cannot be read or run: the version must not be served.
    """
    file = path / SERVING_WARMUP_FILE
    if not file.is_file():
        return 0
    count = 0
    try:
        for count, record in enumerate(tf.data.TFRecordDataset(str(file)).as_numpy_iterator(), start=1):
            if count > MOST_WARMUP_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MOST_WARMUP_RECORDS}) at {file}")
            for _ in range(max(1, iterations)):
                _replay(servable, _warmup_request(record, file))
    except tf.errors.DataLossError as error:
        message = f"{error.message}. Please verify your warmup data is in TFRecord format."
        raise StatusError(grpc.StatusCode.DATA_LOSS, message) from error
    return count


def _warmup_request(record: bytes, file: Path) -> predict_pb2.PredictRequest | None:
    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise invalid(f"Failed to parse warmup record: {record!r} from {file}") from error
    kind = log.WhichOneof("log_type")
    if kind not in (None, "predict_log"):
        raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")
    return log.predict_log.request if kind else None


def _replay(servable: Servable, request: predict_pb2.PredictRequest | None) -> None:
    if request is not None:
        call = prepare(servable.meta_graph, request)
        respond(call, servable.call(call), request.model_spec.name, 0)
