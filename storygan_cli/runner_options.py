"""The options that say where Beam runs, for every command that takes them."""

from __future__ import annotations

from typing import Annotated

import typer

BeamRunner = Annotated[
    str | None,
    typer.Option(
        help="in-memory (default), multi-threading or multi-processing on this machine, or a Beam runner, such as "
        "FlinkRunner, whose options --beam passes on."
    ),
]

BeamWorkers = Annotated[
    int | None, typer.Option(help="Workers on this machine, processes by default; with FlinkRunner its parallelism.")
]

BeamOptions = Annotated[
    list[str] | None,
    typer.Option(help="One of Beam's own options, such as --beam=--flink_master=localhost:8081; may be repeated."),
]


def beam_arguments(runner: str | None, workers: int | None, given: list[str] | None) -> list[str]:
    """Returns Beam's options for the command line's."""
    from components.beam_options import runner_arguments

    return runner_arguments(runner, workers, given or [])
