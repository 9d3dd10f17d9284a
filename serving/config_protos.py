"""The messages of TensorFlow Serving's batching, monitoring and TLS files.

`tensorflow-serving-api` does not contain these messages, so they are defined here from their published fields.
`read_text` reads messages of all kinds from text files; an unknown field is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, message_factory, text_format, wrappers_pb2
from google.protobuf.message import Message

from storygan_tf.common.errors import ConfigError

_PACKAGE = "tensorflow.serving"

_FIELDS = {
    "BatchingParameters": (
        ("max_batch_size", 1, "Int64Value"),
        ("batch_timeout_micros", 2, "Int64Value"),
        ("max_enqueued_batches", 3, "Int64Value"),
        ("num_batch_threads", 4, "Int64Value"),
        ("thread_pool_name", 5, "StringValue"),
        ("allowed_batch_sizes", 6, "repeated int64"),
        ("pad_variable_length_inputs", 7, "bool"),
        ("enable_large_batch_splitting", 8, "BoolValue"),
        ("max_execution_batch_size", 9, "Int64Value"),
    ),
    "PrometheusConfig": (("enable", 1, "bool"), ("path", 2, "string")),
    "MonitoringConfig": (("prometheus_config", 1, "PrometheusConfig"),),
    "SSLConfig": (
        ("server_key", 1, "string"),
        ("server_cert", 2, "string"),
        ("custom_ca", 3, "string"),
        ("client_verify", 4, "bool"),
    ),
}

_Field = descriptor_pb2.FieldDescriptorProto

_SCALARS = {"bool": _Field.TYPE_BOOL, "string": _Field.TYPE_STRING, "int64": _Field.TYPE_INT64}


def _field(name: str, number: int, kind: str) -> Any:
    label = _Field.LABEL_REPEATED if kind.startswith("repeated ") else _Field.LABEL_OPTIONAL
    kind = kind.removeprefix("repeated ")
    if kind in _SCALARS:
        return _Field(name=name, number=number, label=label, type=_SCALARS[kind])
    package = _PACKAGE if kind in _FIELDS else "google.protobuf"
    return _Field(name=name, number=number, label=label, type=_Field.TYPE_MESSAGE, type_name=f".{package}.{kind}")


def _classes() -> dict[str, Any]:
    wrappers = descriptor_pb2.FileDescriptorProto.FromString(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="storygan/serving_files.proto", package=_PACKAGE, syntax="proto3", dependency=[wrappers.name]
    )
    for name, fields in _FIELDS.items():
        file.message_type.add(name=name, field=[_field(*field) for field in fields])
    return message_factory.GetMessages([wrappers, file])


_CLASSES = _classes()

BatchingParameters: Any = _CLASSES[f"{_PACKAGE}.BatchingParameters"]
MonitoringConfig: Any = _CLASSES[f"{_PACKAGE}.MonitoringConfig"]
SSLConfig: Any = _CLASSES[f"{_PACKAGE}.SSLConfig"]

M = TypeVar("M", bound=Message)


def read_text(path: str | Path, message: type[M], option: str) -> M:
    """Reads a message in protobuf's text format.

    Args:
        path: the file.
        message: class of the message.
        option: command-line option that names the file, for error messages.

    Raises:
        ConfigError: if the file cannot be read or holds no such message.
    """
    try:
        return text_format.Parse(Path(path).read_text(encoding="utf-8"), message())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option} {path}: cannot be read ({error}); expected a text file.") from error
    except text_format.ParseError as error:
        raise ConfigError(
            f"{option} {path}: Error parsing text-format {message.DESCRIPTOR.full_name}: {error}; expected its fields "
            "in protobuf's text format."
        ) from error
