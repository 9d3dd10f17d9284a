"""Options that choose Beam's runner and its workers, for every command that uses Beam."""

from __future__ import annotations

from typing import Annotated

import typer

BeamRunner = Annotated[
    str | None,
    typer.Option(
        help="in-memory (default), multi-threading or multi-processing on this machine, or the name of a Beam runner, "
        "such as FlinkRunner, whose own options --beam sets."
    ),
]

BeamWorkers = Annotated[
    int | None, typer.Option(help="Number of worker processes on this machine; with FlinkRunner, its parallelism.")
]

BeamOptions = Annotated[
    list[str] | None,
    typer.Option(help="One of Beam's own options, such as --beam=--flink_master=localhost:8081. Repeat it for more."),
]


def beam_arguments(runner: str | None, workers: int | None, options: list[str] | None) -> list[str]:
    """Returns the arguments of a Beam pipeline for the values of `--beam-runner`, `--beam-workers` and `--beam`.

    Raises:
        ConfigError: if the runner is unknown, or an option does not fit it.
    """
    from components.beam_options import runner_arguments

    return runner_arguments(runner, workers, options or [])
