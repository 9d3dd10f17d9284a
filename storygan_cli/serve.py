"""`storygan serve`: serves a model over gRPC and REST, for development and tests."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storygan_cli.remote_folders import local_model
from storygan_tf.common.errors import ConfigError

if TYPE_CHECKING:
    from serving.local_server.server_options import ServerOptions

EPILOG = "Example: storygan serve --model blocks --port 8500 --rest-port 8501 --enable_batching"

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Click settings that let the flags of tensorflow_model_server through to `parse_flags`."""


def serve(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option(
            help="A pretrained name (such as blocks), a run directory, a model base directory, whose new versions are "
            "loaded while it serves, or a version directory."
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port for gRPC.")] = 8500,
    rest_port: Annotated[
        int | None, typer.Option(help="Port for REST; 0 turns REST off. With --model, 8501 by default.")
    ] = None,
) -> None:
    """Serve a model over gRPC and REST as TensorFlow Serving does, for development and tests.

    It also accepts the flags of tensorflow_model_server, such as --model_config_file, --model_base_path,
    --rest_api_port, --enable_batching and --batching_parameters_file. A flag that it does not implement is an error.
    In production, use TensorFlow Serving (docs/serving.md).
    """
    from serving.local_server.server_options import ServerOptions, parse_flags
    from serving.story_io import DEFAULT_MODEL

    flags = {"port": port} | parse_flags(context.args)
    if rest_port is not None:
        flags["rest_api_port"] = rest_port
    if model is None:
        _serve(ServerOptions(**flags))
        return
    if flags.keys() & {"model_config_file", "model_base_path"}:
        raise ConfigError("--model: found with --model_config_file or --model_base_path, expected one of them.")
    with local_model(model) as local, _base_directory(local or model) as base:
        defaults: dict[str, Any] = {
            "model_name": DEFAULT_MODEL,
            "rest_api_port": 8501,
            "enable_grpc_healthcheck_service": True,
        }
        _serve(ServerOptions(**defaults | flags | {"model_base_path": str(base)}))


def _serve(options: ServerOptions) -> None:
    """Runs the server until the process is stopped, with its log on standard error."""
    from serving.local_server.server import run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    run(options)


@contextmanager
def _base_directory(model: str) -> Iterator[Path]:
    """Yields the model base directory that holds the model, or a temporary one that holds this version only."""
    from storygan_tf.common.model_paths import BASE_DIRECTORY, find_model

    version = find_model(model)
    path = Path(model).absolute()
    for base in (path / BASE_DIRECTORY, path):
        if version.parent == base:
            yield base
            return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="storygan-serve-") as folder:
        number = version.name if version.name.isdigit() else "1"
        (Path(folder) / number).symlink_to(version, target_is_directory=True)
        yield Path(folder)
