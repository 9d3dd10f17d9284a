"""`storygan lineage`: where a model comes from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from storygan_tf.export.lineage import Lineage

EPILOG = "Example: storygan lineage runs/quick"


def lineage(
    model: Annotated[
        str,
        typer.Argument(
            help="A pretrained name (blocks), a run directory, a model base directory or a version directory."
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print all of it, settings included, as JSON.")] = False,
) -> None:
    """Print which data, code, settings and packages a model was made of, and how it was judged."""
    from storygan_tf.export.lineage import read_lineage

    found = read_lineage(model)
    print(found.to_json() if json else _table(found), end="")


def _table(found: Lineage) -> str:
    """Returns a line for each entry; of the settings only their number, for there are many."""
    from storygan_tf.export.lineage import flatten

    values = dataclasses.asdict(found)
    count, preset = len(list(flatten(values["settings"]))), values["settings"].get("preset")
    values["settings"] = f"{count}{f' of preset {preset}' if preset else ''}; --json prints them"
    entries = list(flatten({name: value for name, value in values.items() if value != {}}))
    width = max(len(name) for name, _ in entries)
    return "".join(f"{name.ljust(width)}  {' '.join(value.split()) or 'none'}\n" for name, value in entries)
