"""Converts a PredictRequest to a run of a session, and its arrays to a PredictResponse, as TensorFlow Serving does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import grpc
import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from serving.local_server.status import StatusError, invalid
from serving.local_server.tensors import to_array, to_proto

DEFAULT_SIGNATURE = "serving_default"

METHODS = ("tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress")


@dataclasses.dataclass(frozen=True, eq=False)
class SessionCall:
    """Feeds and fetches of a request that was checked against its signature.

    Attributes:
        signature: name of the signature.
        feeds: arrays by graph tensor name.
        fetches: graph tensor names.
        aliases: names of the outputs in the signature, in the order of `fetches`.
    """

    signature: str
    feeds: dict[str, np.ndarray]
    fetches: tuple[str, ...]
    aliases: tuple[str, ...]


def to_session_call(
    meta_graph: meta_graph_pb2.MetaGraphDef, request: predict_pb2.PredictRequest, check_method: bool = False
) -> SessionCall:
    """Checks a request against its signature and returns what the session runs.

    Args:
        meta_graph: MetaGraphDef of the model.
        request: the request, unchecked.
        check_method: whether the signature's method name must be one of `METHODS`.

    Raises:
        StatusError: FAILED_PRECONDITION if the signature is unknown, INVALID_ARGUMENT if inputs are missing, unknown or
            no tensors, or an output is unknown.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if name not in meta_graph.signature_def:
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    signature = meta_graph.signature_def[name]
    if check_method and signature.method_name not in METHODS:
        raise StatusError(
            grpc.StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(METHODS)}}}. "
            f"Was: {signature.method_name}",
        )
    _check_count(signature, request)
    feeds = {info.name: _input(signature, alias, request) for alias, info in sorted(signature.inputs.items())}
    aliases = _outputs(signature, request.output_filter)
    return SessionCall(name, feeds, tuple(signature.outputs[alias].name for alias in aliases), aliases)


def _check_count(signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest) -> None:
    sent, required = set(request.inputs), set(signature.inputs)
    if len(sent) > len(required) or (len(sent) < len(required) and not signature.defaults):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(required)} len({_set(sent)}) != "
            f"len({_set(required)}). Sent extra: {_set(sent - required)}. "
            f"Missing but required: {_set(required - sent)}."
        )


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _input(signature: meta_graph_pb2.SignatureDef, alias: str, request: predict_pb2.PredictRequest) -> np.ndarray:
    if alias in request.inputs:
        return to_array(request.inputs[alias], alias)
    if alias in signature.defaults:
        return to_array(signature.defaults[alias], alias)
    raise invalid(
        f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in request and no "
        f"default value provided. Inputs expected to be in the set {_set(signature.inputs)}."
    )


def _outputs(signature: meta_graph_pb2.SignatureDef, wanted: Sequence[str]) -> tuple[str, ...]:
    for number, alias in enumerate(wanted):
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if alias in wanted[:number]:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return tuple(wanted) or tuple(sorted(signature.outputs))


def to_response(
    call: SessionCall, arrays: Sequence[np.ndarray], model: str, version: int
) -> predict_pb2.PredictResponse:
    """Returns the response to a request.

    Args:
        call: what was run.
        arrays: its results, in the order of the fetches.
        model: name of the model in the request.
        version: version that was run.
    """
    response = predict_pb2.PredictResponse()
    response.model_spec.name = model
    response.model_spec.signature_name = call.signature
    response.model_spec.version.value = version
    for alias, array in zip(call.aliases, arrays, strict=True):
        response.outputs[alias].CopyFrom(to_proto(array))
    return response
