"""The flags of tensorflow_model_server."""

from __future__ import annotations

import pytest

from serving.local_server.server_options import ServerOptions, parse_flags
from storygan_tf.common.errors import ConfigError


def test_flags_in_all_their_forms():
    flags = parse_flags(["--port=1", "--rest_api_port", "2", "--enable_batching", "--enable_model_warmup=false"])
    assert flags == {"port": 1, "rest_api_port": 2, "enable_batching": True, "enable_model_warmup": False}
    options = ServerOptions(model_base_path="/m", **flags)
    assert (options.rest_api_timeout_in_ms, options.model_name) == (30_000, "default")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--use_alts_credentials"],
            "--use_alts_credentials: is a flag of tensorflow_model_server that the local server",
        ),
        (["--prefer_tflite_model=true"], "does not implement"),
        (["--model_base_pth=/m"], "unknown argument; did you mean 'model_base_path'"),
        (["--port=x"], "invalid int value: 'x'"),
        (["--enable_batching=perhaps"], "found 'perhaps', expected true or false"),
    ],
)
def test_flags_that_are_refused(flags, words):
    with pytest.raises(ConfigError, match=words):
        parse_flags(flags)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "--model_base_path and --model_config_file: found neither"),
        ({"model_base_path": "/m", "port": 0}, "--port and --grpc_socket_path: found neither"),
        ({"model_base_path": "/m", "batching_parameters_file": "f"}, "is set without --enable_batching"),
        ({"model_base_path": "/m", "rest_api_port": 8500}, "give it another port"),
    ],
)
def test_options_that_contradict_each_other(values, words):
    with pytest.raises(ConfigError, match=words):
        ServerOptions(**values)


def test_channel_arguments():
    options = ServerOptions(model_base_path="/m", grpc_channel_arguments="grpc.max_connection_age_ms=2000,a=b")
    assert options.channel_arguments() == {"grpc.max_connection_age_ms": 2000, "a": "b"}
    with pytest.raises(ConfigError, match="found 'a', expected key=value"):
        ServerOptions(model_base_path="/m", grpc_channel_arguments="a").channel_arguments()
