"""`storygan serve`: a model over gRPC and REST, for development and tests."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from storygan_cli.remote_folders import local_model
from storygan_tf.common.errors import ConfigError

EPILOG = "Example: storygan serve --model blocks --port 8500 --rest-port 8501 --enable_batching"

MODEL_NAME = "storygan"
"""Under which `--model` is served."""

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Flags of tensorflow_model_server are passed on."""


def serve(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option(
            help="A pretrained name, a run directory, a model base directory (new versions are picked up) or a version "
            "directory."
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port for gRPC.")] = 8500,
    rest_port: Annotated[int | None, typer.Option(help="Port for REST; 0 for none. With --model, 8501.")] = None,
) -> None:
    """Serve a model over gRPC and REST as TensorFlow Serving does, for development and tests.

    It also takes the flags of tensorflow_model_server, such as --model_config_file, --model_base_path, --rest_api_port,
    --enable_batching and --batching_parameters_file; one that it does not implement is an error. In production, serve
    with TensorFlow Serving (docs/serving.md).
    """
    from serving.local_server.server_options import ServerOptions, parse_flags

    flags = {"port": port} | parse_flags(context.args)
    if rest_port is not None:
        flags["rest_api_port"] = rest_port
    if model is None:
        _serve(ServerOptions(**flags))
        return
    if flags.keys() & {"model_config_file", "model_base_path"}:
        raise ConfigError("--model: found beside --model_config_file or --model_base_path, expected one of them.")
    with local_model(model) as place, _base_directory(place or model) as base:
        given: dict[str, Any] = {
            "model_name": MODEL_NAME,
            "rest_api_port": 8501,
            "enable_grpc_healthcheck_service": True,
        }
        _serve(ServerOptions(**given | flags | {"model_base_path": str(base)}))


def _serve(options: Any) -> None:
    from serving.local_server.server import run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    run(options)


@contextmanager
def _base_directory(model: str) -> Iterator[Path]:
    """Gives the model base directory: the model's own, or one made of a single version."""
    from storygan_tf.common.model_paths import BASE_DIRECTORY, find_model

    version = find_model(model)
    given = Path(model).absolute()
    for base in (given / BASE_DIRECTORY, given):
        if version.parent == base:
            yield base
            return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="storygan-serve-") as folder:
        number = version.name if version.name.isdigit() else "1"
        (Path(folder) / number).symlink_to(version, target_is_directory=True)
        yield Path(folder)
