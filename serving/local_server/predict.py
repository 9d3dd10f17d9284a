"""PredictRequest to what a session runs, and what it gives to PredictResponse: the checks and words of TF Serving."""

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
class Call:
    """A request, checked against its signature.

    Attributes:
        signature: its name.
        feeds: arrays by the names of graph tensors.
        fetches: names of graph tensors.
        aliases: the outputs' names in the signature, in the order of `fetches`.
    """

    signature: str
    feeds: dict[str, np.ndarray]
    fetches: tuple[str, ...]
    aliases: tuple[str, ...]


def prepare(
    meta_graph: meta_graph_pb2.MetaGraphDef, request: predict_pb2.PredictRequest, check_method: bool = False
) -> Call:
    """Checks a request.

    Args:
        meta_graph: of the model.
        request: any.
        check_method: whether a signature's method name must be one of TF Serving's.

    Raises:
        StatusError: FAILED_PRECONDITION for an unknown signature, INVALID_ARGUMENT for inputs or outputs it lacks.
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
    return Call(name, feeds, tuple(signature.outputs[alias].name for alias in aliases), aliases)


def _check_count(signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest) -> None:
    given, wanted = set(request.inputs), set(signature.inputs)
    if len(given) > len(wanted) or (len(given) < len(wanted) and not signature.defaults):
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(wanted)} len({_set(given)}) != "
            f"len({_set(wanted)}). Sent extra: {_set(given - wanted)}. Missing but required: {_set(wanted - given)}."
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


def respond(call: Call, arrays: Sequence[np.ndarray], model: str, version: int) -> predict_pb2.PredictResponse:
    """Returns the response of a call.

    Args:
        call: what was asked.
        arrays: in the order of its fetches.
        model: the name that the caller gave.
        version: that answered.
    """
    response = predict_pb2.PredictResponse()
    response.model_spec.name = model
    response.model_spec.signature_name = call.signature
    response.model_spec.version.value = version
    for alias, array in zip(call.aliases, arrays, strict=True):
        response.outputs[alias].CopyFrom(to_proto(array))
    return response
