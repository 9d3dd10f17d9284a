"""The REST API: predict, metadata, status, and the metrics for Prometheus."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from urllib.parse import unquote

import grpc
from aiohttp import web
from google.protobuf.json_format import MessageToDict, MessageToJson
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from serving.local_server.core import SIGNATURE_DEF, ServerCore
from serving.local_server.json_tensors import read_request, write_response
from serving.local_server.predict import DEFAULT_SIGNATURE
from serving.local_server.status import StatusError, invalid

PREDICT = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)", re.IGNORECASE
)

STATUS = re.compile(r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?", re.IGNORECASE)

HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""HTTP status by gRPC status; all others are 500."""

MAX_BODY_BYTES = 2**31 - 1


class RestApi:
    """Answers HTTP requests.

    Args:
        core: answers the requests.
        timeout: seconds for a request.
        prometheus_path: URL path of the metrics; None to leave them out.
    """

    def __init__(self, core: ServerCore, timeout: float, prometheus_path: str | None) -> None:
        self._core = core
        self._timeout = timeout
        self._prometheus_path = prometheus_path

    def app(self) -> web.Application:
        """Returns the aiohttp application."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        if self._prometheus_path:
            app.router.add_get(self._prometheus_path, self._metrics)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _metrics(self, request: web.Request) -> web.Response:
        del request
        return web.Response(body=self._core.metrics.page(), content_type="text/plain")

    async def _handle(self, request: web.Request) -> web.Response:
        path = request.rel_url.raw_path
        if not path.lower().startswith("/v1/"):
            return web.Response(status=404, text="Not Found")
        try:
            body = await self._response_body(request, path)
            return web.Response(body=body, content_type="application/json")
        except Exception as error:
            failure = StatusError.from_exception(error)
            status = HTTP_STATUS.get(failure.code, 500)
            # The whole message: only gRPC's are cut.
            return web.json_response({"error": failure.message}, status=status)

    async def _response_body(self, request: web.Request, path: str) -> bytes:
        if request.method == "POST" and (match := PREDICT.fullmatch(path)):
            name, number, label, method = match.groups()
            if method.lower() != "predict":
                raise StatusError(
                    grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented by the local server; use predict"
                )
            return await self._predict(_spec(name, number, label), await _read(request))
        if request.method == "GET" and (match := STATUS.fullmatch(path)):
            name, number, label, metadata = match.groups()
            if not name:
                raise invalid("Missing model name in request.")
            spec = _spec(name, number, label)
            return self._metadata(spec) if metadata else self._status(spec)
        raise invalid(f"Malformed request: {request.method} {path}")

    async def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        request = predict_pb2.PredictRequest(model_spec=spec)
        with self._core.counting_failures(spec.name):
            # One version reads and runs the request, even if another one is loaded meanwhile.
            version = self._core.manager.find(spec)
        request.model_spec.version.value = version.number

        def inputs_of(signature: str) -> Any:
            name = signature or DEFAULT_SIGNATURE
            if name not in servable.meta_graph.signature_def:
                raise invalid(f'Serving signature name: "{name}" not found in signature def')
            return servable.meta_graph.signature_def[name].inputs

        with version.keep_loaded() as servable:
            with self._core.counting_failures(spec.name):
                rows = await asyncio.to_thread(read_request, body, request, inputs_of)
            response = await self._core.predict(request, self._timeout, "REST")
        return await asyncio.to_thread(write_response, response, rows)

    def _status(self, spec: model_pb2.ModelSpec) -> bytes:
        response = self._core.status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        return MessageToJson(response, including_default_value_fields=True).encode()

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
        response = self._core.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        body = {"model_spec": _as_dict(response.model_spec), "metadata": {SIGNATURE_DEF: _as_dict(signatures)}}
        return json.dumps(body, indent=1).encode()


def _as_dict(message: Any) -> dict[str, Any]:
    values: dict[str, Any] = MessageToDict(
        message, including_default_value_fields=True, preserving_proto_field_name=True
    )
    return values


async def _read(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise invalid("request body is larger than 2 GiB") from error


def _spec(name: str, number: str | None, label: str | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(name))
    if number:
        digits = number.lstrip("0") or "0"
        if len(digits) > 19 or int(digits) >= 2**63:  # int() refuses thousands of digits
            raise invalid(f"Failed to convert version: {number} to numeric.")
        spec.version.value = int(digits)
    if label:
        spec.version_label = unquote(label)
    return spec
