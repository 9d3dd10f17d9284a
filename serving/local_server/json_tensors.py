"""Converts REST bodies to PredictRequests and PredictResponses to REST bodies, in TensorFlow Serving's formats.

There is a row format (`instances`, `predictions`) and a column format (`inputs`, `outputs`). Strings that are not text
are written as `{"b64": "..."}`, as are the values of string outputs whose names end in `_bytes`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from serving.local_server.status import invalid

MAX_SHOWN_CHARACTERS = 256
"""Characters of a JSON value that an error message shows."""

Inputs = Mapping[str, Any]
"""The TensorInfo of each input of a signature, by name."""


def read_request(body: bytes, request: predict_pb2.PredictRequest, inputs_of: Callable[[str], Inputs]) -> bool:
    """Reads the signature and inputs of a REST body into a request.

    Args:
        body: the JSON body.
        request: the request to fill; it names the model already.
        inputs_of: returns the inputs of a signature by its name.

    Returns:
        Whether the body is in the row format (`instances`). The response must have the same format.

    Raises:
        StatusError: INVALID_ARGUMENT if the body is no JSON object of either format, or does not fit the signature.
    """
    try:
        return _read(body, request, inputs_of)
    except RecursionError:
        raise invalid("JSON Parse error: Terminate parsing due to lists within lists. at offset: 0") from None


def _read(body: bytes, request: predict_pb2.PredictRequest, inputs_of: Callable[[str], Inputs]) -> bool:
    document = _parse(body)
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_shown(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    request.model_spec.signature_name = name
    inputs = inputs_of(name)
    if not inputs:
        raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    rows, columns = "instances" in document, "inputs" in document
    if rows and columns:
        raise invalid(
            f"JSON Value: {_shown(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if not rows and not columns:
        raise invalid("Missing 'inputs' or 'instances' key")
    tensors = _from_rows(document, inputs) if rows else _from_columns(document["inputs"], inputs)
    for alias, tensor in tensors.items():
        request.inputs[alias].CopyFrom(tensor)
    return rows


def _parse(body: bytes) -> dict[str, Any]:
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document, _ = json.JSONDecoder().raw_decode(body.decode("utf-8").lstrip())
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from None
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg}. at offset: {error.pos}") from None
    except ValueError as error:  # a number of thousands of digits
        raise invalid(f"JSON Parse error: {error}. at offset: 0") from None
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def _shown(value: Any) -> str:
    return json.dumps(value)[:MAX_SHOWN_CHARACTERS]


def _from_rows(document: dict[str, Any], inputs: Inputs) -> dict[str, tensor_pb2.TensorProto]:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise invalid(f"JSON Value: {_shown(document)} Expecting 'instances' to be an list/array")
    if not rows:
        raise invalid(f"JSON Value: {_shown(document)} No values in 'instances' array")
    named = _is_object(rows[0])
    if not named and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    columns: dict[str, list[Any]] = {}
    for number, row in enumerate(rows):
        if _is_object(row) != named:
            problem = "Expecting object but got list" if named else "Expecting value/list but got object"
            raise invalid(f"{problem} at item {number} of input list")
        if named and set(row) != set(inputs):
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {_shown(row)} keys must be "
                f"equal to: {','.join(sorted(inputs))}"
            )
        for alias, value in (row if named else {next(iter(inputs)): row}).items():
            columns.setdefault(alias, []).append(value)
    return {alias: _tensor(values, inputs[alias].dtype) for alias, values in columns.items()}


def _from_columns(value: Any, inputs: Inputs) -> dict[str, tensor_pb2.TensorProto]:
    if not _is_object(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        value = {next(iter(inputs)): value}
    for alias in inputs:
        if alias not in value:
            raise invalid(f"Missing named input: {alias} in 'inputs' object.")
    return {alias: _tensor(value[alias], info.dtype) for alias, info in inputs.items()}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _tensor(value: Any, dtype: int) -> tensor_pb2.TensorProto:
    """Converts nested lists to a tensor. Its shape is that of the first element at each level."""
    proto = tensor_pb2.TensorProto(dtype=dtype)
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    _fill(proto, value, 0, shape, _scalar(tf.as_dtype(dtype)))
    return proto


def _fill(
    proto: tensor_pb2.TensorProto,
    value: Any,
    level: int,
    shape: list[int],
    add: Callable[[tensor_pb2.TensorProto, Any], None],
) -> None:
    """Adds the values of nested lists to a tensor, and raises INVALID_ARGUMENT if they do not have its shape."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at "
                f"level: {len(shape)}"
            )
        add(proto, value)
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _fill(proto, item, level + 1, shape, add)


def _scalar(dtype: tf.DType) -> Callable[[tensor_pb2.TensorProto, Any], None]:
    """Returns the function that adds one JSON value to a tensor of a type, or raises INVALID_ARGUMENT."""
    if dtype == tf.string:
        return _add_string
    fields = {tf.float32: "float_val", tf.float64: "double_val", tf.int64: "int64_val", tf.bool: "bool_val"}
    field = fields.get(dtype, "int_val")
    if dtype not in fields and not (dtype.is_integer and dtype.size <= 4 and dtype != tf.uint32):
        raise invalid(f"Conversion of JSON values to type: {dtype.name} is not implemented by the local server")

    def add(proto: tensor_pb2.TensorProto, value: Any) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = isinstance(value, bool) if dtype.is_bool else number and (dtype.is_floating or isinstance(value, int))
        limits = dtype if dtype.is_integer else tf.float64
        if not fits or (isinstance(value, int) and not limits.min <= value <= limits.max):
            raise _type_error(value, dtype)
        getattr(proto, field).append(value)

    return add


def _add_string(proto: tensor_pb2.TensorProto, value: Any) -> None:
    if isinstance(value, str):
        proto.string_val.append(value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, dict):
        proto.string_val.append(_decoded(value))
    else:
        raise _type_error(value, tf.string)


def _type_error(value: Any, dtype: tf.DType) -> Exception:
    kinds = {bool: "True" if value else "False", int: "Number", float: "Number", str: "String", dict: "Object"}
    kind = "Null" if value is None else kinds[type(value)]
    return invalid(f"JSON Value: {_shown(value)} Type: {kind} is not of expected type: {dtype.name}")


def _decoded(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def write_response(response: predict_pb2.PredictResponse, rows: bool) -> bytes:
    """Returns the JSON body of a response.

    Args:
        response: the response.
        rows: whether the request was in the row format.

    Raises:
        StatusError: INVALID_ARGUMENT if the outputs have no common first dimension, which the row format needs.
    """
    values = {name: _values(name, tensor) for name, tensor in sorted(response.outputs.items())}
    if not rows:
        return _dumped({"outputs": values if len(values) > 1 else next(iter(values.values()))})
    sizes = {}
    for name, tensor in sorted(response.outputs.items()):
        if not tensor.tensor_shape.dim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        sizes[name] = tensor.tensor_shape.dim[0].size
        first = next(iter(sizes.values()))
        if sizes[name] != first:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {sizes[name]} expecting: {first}")
    if len(values) == 1:
        return _dumped({"predictions": next(iter(values.values()))})
    return _dumped({"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]})


def _dumped(value: Any) -> bytes:
    return json.dumps(value, indent=4).encode()


def _values(name: str, proto: tensor_pb2.TensorProto) -> Any:
    """Converts a tensor to nested lists of JSON values."""
    array = tf.make_ndarray(proto)
    if proto.dtype == tf.string.as_datatype_enum:
        texts = [_text(value, name.endswith("_bytes")) for value in array.ravel()]
        return _nested(texts, array.shape)
    if array.dtype == np.float32:
        # The shortest decimal number that is read as the same float32.
        return _nested([float(str(value)) for value in array.ravel()], array.shape)
    return array.tolist()


def _text(value: bytes, as_bytes: bool) -> Any:
    return {"b64": base64.b64encode(value).decode()} if as_bytes else value.decode("utf-8", "replace")


def _nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return values[0]
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape).tolist()
