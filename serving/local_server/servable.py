"""A loaded SavedModel, run by a TF1 session as in TensorFlow Serving.

Unlike the functions that `tf.saved_model.load` returns, a session passes feeds to the C++ runtime unchecked, so that
callers get the runtime's own errors, and a run can have a deadline.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.compat import is_empty_saved_model, lacks_tags, run_session
from serving.local_server.predict import SessionCall, to_response, to_session_call
from serving.local_server.status import StatusError, invalid
from storygan_tf.export.serving_warmup import SERVING_WARMUP_FILE

MAX_WARMUP_RECORDS = 1000
"""Requests in a warm-up file; more are an error, as in TensorFlow Serving."""


class Servable:
    """A loaded version of a model. Several threads may run it at the same time.

    Args:
        path: the version directory.
        tags: tags of the meta graph to load.
        config: configuration of the session; None for TensorFlow's defaults.

    Attributes:
        meta_graph: the MetaGraphDef, with the signatures.

    Raises:
        StatusError: if the model cannot be loaded: NOT_FOUND without a SavedModel or a meta graph of these tags,
            DATA_LOSS for an unreadable file, otherwise TensorFlow's own status.
    """

    def __init__(
        self, path: Path, tags: Sequence[str] = ("serve",), config: tf.compat.v1.ConfigProto | None = None
    ) -> None:
        if not (path / "saved_model.pb").is_file() and not (path / "saved_model.pbtxt").is_file():
            raise StatusError(
                grpc.StatusCode.NOT_FOUND,
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}",
            )
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with graph.as_default(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.meta_graph = tf.compat.v1.saved_model.load(self._session, list(tags), str(path))
        except BaseException as error:
            self._session.close()
            raise _load_error(error, path) from error

    def run(self, call: SessionCall, timeout: float | None = None) -> list[np.ndarray]:
        """Runs the graph.

        Args:
            call: feeds and fetches.
            timeout: seconds until the run is ended; None for no limit.

        Returns:
            Arrays in the order of the call's fetches; strings are arrays of objects.

        Raises:
            StatusError: DEADLINE_EXCEEDED if the time is over, otherwise the status with which the graph fails.
        """
        milliseconds = 0 if timeout is None else max(1, int(timeout * 1000))
        try:
            arrays = run_session(self._session, call.feeds, call.fetches, milliseconds)
        except tf.errors.OpError as error:
            raise StatusError.from_exception(error) from error
        return [np.asarray(array, object) if isinstance(array, bytes) else np.asarray(array) for array in arrays]

    def close(self) -> None:
        """Frees the model. No thread may be running it."""
        self._session.close()


def _load_error(error: BaseException, path: Path) -> BaseException:
    if isinstance(error, tf.errors.OpError):
        return StatusError.from_exception(error)
    if isinstance(error, OSError | DecodeError) or is_empty_saved_model(error):
        return StatusError(grpc.StatusCode.DATA_LOSS, f"Can't parse {path}/saved_model.pb as binary proto")
    if lacks_tags(error):
        return StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find meta graph def matching supplied tags: {error}")
    if isinstance(error, Exception):  # TensorFlow's Python raises errors of many classes for an invalid graph
        return StatusError(grpc.StatusCode.INVALID_ARGUMENT, f"{type(error).__name__}: {error}")
    return error


def replay_serving_warmup(servable: Servable, path: Path, iterations: int = 1) -> int:
    """Runs a model's own warm-up requests, so that no caller waits while TensorFlow optimises the graphs.

    Args:
        servable: the loaded version.
        path: its version directory.
        iterations: how often each request is run; less than 1 is 1.

    Returns:
        The number of requests in the file; 0 if there is no file.

    Raises:
        StatusError: if a request cannot be read or fails. Such a version must not be served.
    """
    file = path / SERVING_WARMUP_FILE
    if not file.is_file():
        return 0
    count = 0
    try:
        for count, record in enumerate(tf.data.TFRecordDataset(str(file)).as_numpy_iterator(), start=1):
            if count > MAX_WARMUP_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at {file}")
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
        call = to_session_call(servable.meta_graph, request)
        to_response(call, servable.run(call), request.model_spec.name, 0)
