"""The server's options: the flags of tensorflow_model_server that are implemented, under the same names."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from storygan_tf.common.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """Options of a server.

    Attributes:
        port: gRPC port; 0 for none.
        grpc_socket_path: UNIX socket for gRPC; empty for none.
        rest_api_port: REST port; 0 for none.
        rest_api_timeout_in_ms: milliseconds for a REST request.
        model_name: name of the model, without a `model_config_file`.
        model_base_path: folder of the model's version directories, without a `model_config_file`.
        model_config_file: a ModelServerConfig in text format.
        model_config_file_poll_wait_seconds: seconds between two readings of that file; 0 reads it only once.
        file_system_poll_wait_seconds: seconds between two searches for new versions; 0 searches only once.
        max_num_load_retries: number of retries after a version could not be loaded.
        load_retry_interval_micros: microseconds between two tries.
        num_load_threads: number of versions that load at the same time; 0 is 1.
        allow_version_labels_for_unavailable_models: whether a new label may name a version that is not loaded.
        enable_batching: whether requests are merged into batches.
        batching_parameters_file: a BatchingParameters in text format.
        monitoring_config_file: a MonitoringConfig in text format.
        ssl_config_file: an SSLConfig in text format.
        enable_model_warmup: whether a model's warm-up requests are run before it is served.
        num_request_iterations_for_warmup: how often each warm-up request is run; 0 is 1.
        enable_grpc_healthcheck_service: whether to add gRPC's health service.
        enable_signature_method_name_check: whether a signature's method must be one of TensorFlow Serving's.
        saved_model_tags: tags of the meta graph, separated by commas.
        grpc_channel_arguments: `key=value` pairs, separated by commas.
        grpc_max_threads: number of requests that are processed at the same time.
        tensorflow_session_parallelism: threads of a session; 0 for TensorFlow's default.
        tensorflow_intra_op_parallelism: threads of an operation; 0 for `tensorflow_session_parallelism`.
        tensorflow_inter_op_parallelism: operations that run at the same time; 0 for `tensorflow_session_parallelism`.

    Raises:
        ConfigError: if required options are missing or options contradict each other.
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
            raise ConfigError("--batching_parameters_file: is set without --enable_batching; set that, too.")
        if self.rest_api_port and self.rest_api_port == self.port:
            raise ConfigError(f"--rest_api_port {self.rest_api_port}: is the gRPC port, too; give it another port.")

    def channel_arguments(self) -> dict[str, int | str]:
        """Returns `grpc_channel_arguments` by key; values that are numbers become int.

        Raises:
            ConfigError: if an argument is not `key=value`.
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
"""Flags of tensorflow_model_server that the local server refuses."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}.")


def parse_flags(arguments: Sequence[str]) -> dict[str, Any]:
    """Parses flags of tensorflow_model_server, such as `--flag=value`, `--flag value` or `--flag`.

    Returns:
        The values by flag name, without defaults: fields of `ServerOptions`.

    Raises:
        ConfigError: if a flag is unknown, not implemented by the local server, or has a value of the wrong type.
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
