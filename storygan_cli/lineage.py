"""`storygan lineage`: prints the data, code and settings that a model was built from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from storygan_cli.model_options import MODEL_HELP

if TYPE_CHECKING:
    from storygan_tf.export.lineage import Lineage

EPILOG = "Example: storygan lineage runs/quick"


def lineage(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    json: Annotated[bool, typer.Option("--json", help="Print everything, settings included, as JSON.")] = False,
) -> None:
    """Print the data, code, settings and packages that a model was built from, and the results of its evaluation."""
    from storygan_tf.export.lineage import read_lineage

    model_lineage = read_lineage(model)
    print(model_lineage.to_json() if json else _table(model_lineage), end="")


def _table(model_lineage: Lineage) -> str:
    """Returns one line for each entry; the many settings are summarised in a single line."""
    from storygan_tf.export.lineage import flatten

    values = dataclasses.asdict(model_lineage)
    count, preset = len(list(flatten(values["settings"]))), values["settings"].get("preset")
    values["settings"] = f"{count}{f' of preset {preset}' if preset else ''}; --json prints them"
    entries = list(flatten({name: value for name, value in values.items() if value != {}}))
    width = max(len(name) for name, _ in entries)
    return "".join(f"{name.ljust(width)}  {' '.join(value.split()) or 'none'}\n" for name, value in entries)
