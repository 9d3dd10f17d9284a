"""`storygan export`: exports a model again, with its weights stored as float32 or float16."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from storygan_cli.model_options import MODEL_HELP

EPILOG = "Example: storygan export --model runs/quick --weights float16 --out models/storygan/1"


class Weights(str, enum.Enum):
    """Type in which weights are stored; the model computes in float32 in either case."""

    float32 = "float32"
    float16 = "float16"


def export(
    model: Annotated[str, typer.Option(help=MODEL_HELP)],
    out: Annotated[Path, typer.Option(help="Version directory to write. An export that is already there is replaced.")],
    weights: Annotated[
        Weights, typer.Option(help="Type in which weights are stored; float16 takes half the space.")
    ] = Weights.float32,
) -> None:
    """Export a trained model again, with the signatures of this version of storygan."""
    from storygan_tf.training.reexport import reexport

    rounding = reexport(model, out, half=weights is Weights.float16)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"export     {out}, {size / 1e6:.1f} MB, weights kept as {weights.value}")
    print(f"pictures   differ by {rounding.most} grey levels at the most ({rounding.mean:.4f} on average)")
