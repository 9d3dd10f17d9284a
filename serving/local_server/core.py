"""Answers the requests of the gRPC and REST APIs: takes messages, returns messages or raises a StatusError."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from serving.local_server.batching import Runner
from serving.local_server.manager import Manager
from serving.local_server.predict import to_response, to_session_call
from serving.local_server.request_metrics import Metrics
from serving.local_server.status import StatusError, as_proto, invalid

T = TypeVar("T")

SIGNATURE_DEF = "signature_def"

SMALL_MESSAGE_BYTES = 2**14
"""Messages of this size are converted on the event loop: while a model runs, a thread takes longer to wake up."""


class ServerCore:
    """Answers requests of every protocol. Its methods run on the event loop; slow work is done in threads.

    Args:
        manager: the loaded models.
        runner: runs the sessions.
        threads: threads for converting large messages.
        metrics: counters of requests.
        check_method: whether a signature's method name is checked; see `to_session_call`.
    """

    def __init__(
        self,
        manager: Manager,
        runner: Runner,
        threads: ThreadPoolExecutor,
        metrics: Metrics,
        check_method: bool = False,
    ) -> None:
        self.manager = manager
        self.metrics = metrics
        self._runner = runner
        self._threads = threads
        self._check_method = check_method

    async def predict(
        self, request: predict_pb2.PredictRequest, seconds: float | None, entrypoint: str
    ) -> predict_pb2.PredictResponse:
        """Runs a model.

        Args:
            request: the request, unchecked.
            seconds: time left until the caller's deadline; None for no deadline.
            entrypoint: GRPC or REST, for the metrics.

        Raises:
            StatusError: if the request is invalid, its model is not served, or the run fails (docs/serving.md).
        """
        started = time.monotonic()
        with self.counting_failures(request.model_spec.name):
            response = await self._predict(request, None if seconds is None else started + seconds)
        self.metrics.count_success(request.model_spec.name, entrypoint, time.monotonic() - started)
        return response

    @contextlib.contextmanager
    def counting_failures(self, model: str) -> Iterator[None]:
        """Counts an exception of the block as a failed request, and raises it as a StatusError."""
        try:
            yield
        except Exception as error:
            status = StatusError.from_exception(error)
            self.metrics.count_failure(model, status)
            raise status from error

    async def _predict(
        self, request: predict_pb2.PredictRequest, deadline: float | None
    ) -> predict_pb2.PredictResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        version = self.manager.find(request.model_spec)
        with version.keep_loaded() as servable:
            size = request.ByteSize()
            call = await self._convert(size, lambda: to_session_call(servable.meta_graph, request, self._check_method))
            started = time.monotonic()
            arrays = await self._runner.run(version, call, deadline)
            self.metrics.observe_run(request.model_spec.name, time.monotonic() - started)
            name, number = request.model_spec.name, version.number
            size = sum(array.nbytes for array in arrays)
            return await self._convert(size, lambda: to_response(call, arrays, name, number))

    async def _convert(self, size: int, function: Callable[[], T]) -> T:
        """Converts a message of `size` bytes, in a thread if it is large."""
        if size <= SMALL_MESSAGE_BYTES:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Returns a model's signatures.

        Raises:
            StatusError: INVALID_ARGUMENT if the request names no model or another metadata field than `signature_def`,
                NOT_FOUND if the model is not served.
        """
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise invalid(f"Metadata field {field} is not supported")
        version = self.manager.find(request.model_spec)
        with version.keep_loaded() as servable:
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=dict(servable.meta_graph.signature_def))
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = version.model
        response.model_spec.version.value = version.number
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the states of a model's versions.

        Raises:
            StatusError: INVALID_ARGUMENT if the request names no model, NOT_FOUND if the model or version is unknown.
        """
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        return self.manager.status(request.model_spec)

    async def reload(
        self, request: model_management_pb2.ReloadConfigRequest
    ) -> model_management_pb2.ReloadConfigResponse:
        """Replaces the list of models and labels, and returns when the new models are loaded.

        Raises:
            StatusError: INVALID_ARGUMENT for another kind of configuration, UNIMPLEMENTED for `metric_names`, otherwise
                as `Manager.configure` raises it.
        """
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        if request.metric_names:
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, "metric_names are not implemented by the local server")
        await self.manager.configure(request.config)
        return model_management_pb2.ReloadConfigResponse(status=as_proto(None))
