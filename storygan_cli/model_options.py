"""Options that name a model, on disk or on a server, for every command that draws with one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from storygan_tf.common.errors import StoryGANError

MODEL_HELP = "A pretrained name (such as blocks), a run directory, a model base directory or a version directory."

Model = Annotated[str | None, typer.Option(help=MODEL_HELP)]

Target = Annotated[
    str | None, typer.Option(help="Use a model on a server instead of --model: host:port of the server's gRPC.")
]

ServedName = Annotated[str, typer.Option(help="With --target: the name of the model on the server.")]

VersionLabel = Annotated[
    str | None, typer.Option(help="With --target: the label of the version to use, such as canary.")
]

TlsCa = Annotated[
    Path | None, typer.Option(help="With --target: use TLS, and trust the certificates in this PEM file.")
]


def require_model_or_target(model: str | None, target: str | None, error: type[StoryGANError]) -> None:
    """Raises `error` unless exactly one of `--model` and `--target` is given."""
    if (model is None) == (target is None):
        raise error(f"--model and --target: found {'neither' if model is None else 'both'}, expected one of them.")
