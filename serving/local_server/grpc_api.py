"""The gRPC API: PredictionService, ModelService, health and reflection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from serving.local_server.core import ServerCore
from serving.local_server.status import StatusError

HEALTH_NAMES = ("", "ModelService", "PredictionService")

LARGEST_MESSAGE = 2**31 - 1
"""Bytes of the largest message, as in TensorFlow Serving."""


async def _answer(context: Any, answer: Callable[[], Awaitable[Any]]) -> Any:
    """Returns the result of `answer`, or ends the call with the status of its exception."""
    try:
        return await answer()
    except Exception as error:
        status = StatusError.from_exception(error)
        return await context.abort(status.code, status.details)


class _ParseInterceptor(grpc.aio.ServerInterceptor):
    """Parses requests, so that an invalid message fails with INTERNAL as in gRPC's C++, not with UNKNOWN."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Returns a handler that receives bytes and parses them."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def parsed(data: bytes, context: Any) -> Any:
            try:
                request = handler.request_deserializer(data)
            except DecodeError as error:
                return await context.abort(grpc.StatusCode.INTERNAL, f"Failed to parse the request: {error}")
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(parsed, None, handler.response_serializer)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the other methods answer UNIMPLEMENTED.

    Args:
        core: answers the requests.
    """

    def __init__(self, core: ServerCore) -> None:
        self._core = core

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Runs a model."""
        return await _answer(context, lambda: self._core.predict(request, context.time_remaining(), "GRPC"))

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns a model's signatures."""

        async def answer() -> Any:
            return self._core.metadata(request)

        return await _answer(context, answer)

    async def _refuse(self, request: Any, context: Any) -> Any:
        del request
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not implemented by the local server; use Predict")

    Classify = Regress = MultiInference = _refuse


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest.

    Args:
        core: answers the requests.
    """

    def __init__(self, core: ServerCore) -> None:
        self._core = core

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns the states of a model's versions."""

        async def answer() -> Any:
            return self._core.status(request)

        return await _answer(context, answer)

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Replaces the list of models and labels."""
        return await _answer(context, lambda: self._core.reload(request))


def make_server(core: ServerCore, arguments: dict[str, int | str], with_health: bool) -> tuple[grpc.aio.Server, Any]:
    """Returns a gRPC server without ports, and its health servicer.

    Args:
        core: answers the requests.
        arguments: gRPC channel arguments, by name.
        with_health: whether to add the health service.

    Returns:
        The server, and the health servicer or None.
    """
    options = {
        "grpc.max_receive_message_length": LARGEST_MESSAGE,
        "grpc.max_send_message_length": LARGEST_MESSAGE,
        # By default a second server would silently share the port of the first.
        "grpc.so_reuseport": 0,
    }
    server = grpc.aio.server(interceptors=[_ParseInterceptor()], options=list((options | arguments).items()))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(core), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), server)
    names = [
        prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
        model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
        reflection.SERVICE_NAME,
    ]
    servicer = None
    if with_health:
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        names.append(health.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return server, servicer


async def set_healthy(servicer: Any) -> None:
    """Reports the server and its services as SERVING."""
    for name in HEALTH_NAMES:
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
