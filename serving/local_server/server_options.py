"""The server's options: those of tensorflow_model_server that are implemented, by the same names."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from storygan_tf.common.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """What a server is started with.

    Attributes:
        port: for gRPC; 0 for none.
        grpc_socket_path: a UNIX socket for gRPC; empty for none.
        rest_api_port: for REST; 0 for none.
        rest_api_timeout_in_ms: for a REST request.
        model_name: of the only model, unless there is a `model_config_file`.
        model_base_path: of the only model: a folder of version directories.
        model_config_file: a ModelServerConfig in text format.
        model_config_file_poll_wait_seconds: between two looks at that file; 0 for one look.
        file_system_poll_wait_seconds: between two looks for new versions; 0 for one look.
        max_num_load_retries: after the first failure.
        load_retry_interval_micros: between two tries.
        num_load_threads: versions that load at the same time; 0 is 1.
        allow_version_labels_for_unavailable_models: a new label may name a version that is not loaded.
        enable_batching: whether requests are merged.
        batching_parameters_file: a BatchingParameters in text format.
        monitoring_config_file: a MonitoringConfig in text format.
        ssl_config_file: an SSLConfig in text format.
        enable_model_warmup: whether the requests that come with a model are run first.
        num_request_iterations_for_warmup: how often each; 0 is 1.
        enable_grpc_healthcheck_service: whether there is gRPC's health service.
        enable_signature_method_name_check: whether a signature's method must be one of TF Serving's.
        saved_model_tags: of the meta graph, separated by commas.
        grpc_channel_arguments: `key=value`, separated by commas.
        grpc_max_threads: requests that are worked on at the same time.
        tensorflow_session_parallelism: threads of a session; 0 for TensorFlow's choice.
        tensorflow_intra_op_parallelism: threads of an operation.
        tensorflow_inter_op_parallelism: operations at the same time.
    """

    port: int = 8500
    grpc_socket_path: str = ""
    rest_api_port: int = 0
    rest_api_timeout_in_ms: int = 30_000
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0
    file_system_poll_wait_seconds: int = 1
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    num_load_threads: int = 0
    allow_version_labels_for_unavailable_models: bool = False
    enable_batching: bool = False
    batching_parameters_file: str = ""
    monitoring_config_file: str = ""
    ssl_config_file: str = ""
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    enable_grpc_healthcheck_service: bool = False
    enable_signature_method_name_check: bool = False
    saved_model_tags: str = "serve"
    grpc_channel_arguments: str = ""
    grpc_max_threads: int = 4 * (os.cpu_count() or 1)
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0

    def __post_init__(self) -> None:
        if not self.port and not self.grpc_socket_path:
            raise ConfigError("--port and --grpc_socket_path: found neither, expected at least one of them.")
        if not self.model_base_path and not self.model_config_file:
            raise ConfigError("--model_base_path and --model_config_file: found neither, expected one of them.")
        if self.batching_parameters_file and not self.enable_batching:
            raise ConfigError("--batching_parameters_file: is set without --enable_batching; give that, too.")
        if self.rest_api_port and self.rest_api_port == self.port:
            raise ConfigError(f"--rest_api_port {self.rest_api_port}: is that of gRPC, too; give it another port.")

    def channel_arguments(self) -> dict[str, int | str]:
        """Returns `grpc_channel_arguments` by key; numbers as numbers.

        Raises:
            ConfigError: for an argument without a value.
        """
        arguments: dict[str, int | str] = {}
        for argument in filter(None, self.grpc_channel_arguments.split(",")):
            key, equals, value = argument.partition("=")
            if not equals:
                raise ConfigError(f"--grpc_channel_arguments: found {argument!r}, expected key=value.")
            arguments[key] = int(value) if value.removeprefix("-").isdigit() else value
        return arguments


NOT_IMPLEMENTED = (
    "rest_api_num_threads",
    "rest_api_enable_cors_support",
    "enable_per_model_batching_parameters",
    "num_unload_threads",
    "flush_filesystem_caches",
    "tensorflow_session_config_file",
    "use_alts_credentials",
    "platform_config_file",
    "per_process_gpu_memory_fraction",
    "remove_unused_fields_from_bundle_metagraph",
    "prefer_tflite_model",
    "num_tflite_pools",
    "num_tflite_interpreters_per_pool",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
    "enable_profiler",
    "thread_pool_factory_config_file",
    "mixed_precision",
    "skip_initialize_tpu",
    "enable_serialization_as_tensor_content",
    "version",
)
"""Flags of tensorflow_model_server that are refused."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}.")


def parse_flags(arguments: Sequence[str]) -> dict[str, Any]:
    """Returns the values of tensorflow_model_server's flags, by name: `--flag=value`, `--flag value`, `--flag`.

    Raises:
        ConfigError: for a flag that is unknown, not implemented here, or of the wrong type.
    """
    parser = _Parser(
        prog="serving.local_server", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS
    )
    fields = {field.name: field for field in dataclasses.fields(ServerOptions)}
    for name, field in fields.items():
        if isinstance(field.default, bool):
            parser.add_argument(f"--{name}", nargs="?", const=True, type=_boolean)
        else:
            kind: Callable[[str], Any] = type(field.default)
            parser.add_argument(f"--{name}", type=kind)
    known, others = parser.parse_known_args(arguments)
    for other in others:
        name = other.partition("=")[0].lstrip("-")
        if name in NOT_IMPLEMENTED:
            raise ConfigError(
                f"--{name}: is a flag of tensorflow_model_server that the local server does not implement; leave it "
                "out, or serve with TensorFlow Serving."
            )
        raise ConfigError(f"{other}: unknown argument{nearest(name, fields)}.")
    return vars(known)


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected true or false")
    return values[text.lower()]
