"""`storygan compare`: compares the evaluations of two or more models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from storygan_cli.runner_options import BeamOptions, BeamRunner, BeamWorkers, beam_arguments
from storygan_tf.common.errors import ConfigError

EPILOG = "Example: storygan compare runs/quick runs/longer --out comparison.html"


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more run directories, or output folders of `storygan evaluate`.")
    ],
    out: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("comparison.html"),
    beam_runner: BeamRunner = None,
    beam_workers: BeamWorkers = None,
    beam: BeamOptions = None,
) -> None:
    """Compare models: print a table and write a page of storyboards, on the same stories and with the same judge."""
    if len(runs) < 2:
        raise ConfigError(f"compare: found {len(runs)} run, expected at least two.")
    if out.suffix != ".html":
        raise ConfigError(f"--out {out}: found {out.suffix or 'no ending'!r}, expected .html.")
    from pipeline.run_comparison import compare_runs

    print(compare_runs(runs, out, beam_arguments(beam_runner, beam_workers, beam)))
    print(f"page       {out}")
