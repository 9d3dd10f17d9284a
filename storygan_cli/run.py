"""`storygan run`: trains, evaluates and pushes a StoryGAN with the TFX pipeline on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storygan_cli.remote_folders import fetch_data, require_local, require_local_workers
from storygan_cli.runner_options import BeamOptions, BeamRunner, BeamWorkers, beam_arguments
from storygan_cli.settings_options import (
    Assignments,
    Encoder,
    InitFrom,
    MaxRejectFraction,
    Preset,
    Stories,
    fit_to_data,
    story_settings,
)
from storygan_cli.train import INTERRUPTED, TERMINATED

if TYPE_CHECKING:
    from pipeline.local_runner import RunResult

EPILOG = "Example: storygan run --data runs/data/quick --out runs/quick --preset quick --set training.seed=2"


def run(
    data: Stories,
    out: Annotated[
        Path, typer.Option(help="Run directory. Repeat the command to continue there after an interruption.")
    ],
    preset: Preset = None,
    init_from: InitFrom = None,
    assignments: Assignments = None,
    encoder: Encoder = None,
    max_reject_fraction: MaxRejectFraction = None,
    beam_runner: BeamRunner = None,
    beam_workers: BeamWorkers = None,
    beam: BeamOptions = None,
    reconfigure: Annotated[
        bool, typer.Option("--reconfigure", help="Use a run directory that was created with other settings or data.")
    ] = False,
) -> None:
    """Train, evaluate and export a StoryGAN from a folder of stories."""
    beam_args = beam_arguments(beam_runner, beam_workers, beam)
    require_local("--out", out, "the pipeline keeps its metadata there in sqlite; `storygan compile` is for clusters")
    require_local_workers(beam_args, data)
    settings, initial = story_settings(preset, init_from, assignments, encoder, max_reject_fraction)
    from pipeline.run_directory import RunDirectory

    stories = fetch_data(data, out)
    settings = fit_to_data(settings, assignments, initial, stories)
    run_directory = RunDirectory.open(out, settings, stories, reconfigure)
    # Imported after all checks because loading TFX takes seconds.
    from pipeline.local_runner import run_pipeline
    from storygan_tf.training.callbacks.interruption import TrainingInterruptedError

    try:
        result = run_pipeline(run_directory, beam_args=beam_args)
    except TrainingInterruptedError as error:
        print(f"storygan: {error}", file=sys.stderr)
        raise SystemExit(INTERRUPTED if error.signal == "SIGINT" else TERMINATED) from error
    _print_summary(result)


def _print_summary(result: RunResult) -> None:
    """Prints where the results are and why the model was pushed.

    Raises:
        ModelError: if the model was not pushed.
    """
    from storygan_tf.common.errors import ModelError

    print(f"pictures   {result.run_dir / 'storyboard.png'}")
    print(f"report     {result.run_dir / 'report.html'}")
    if result.pushed is None:
        raise ModelError(f"the model was not pushed. {' '.join(result.verdicts)}")
    for verdict in result.verdicts:
        print(f"judged     {verdict}")
    print(f"model      {result.pushed}")
    print(f"draw more  storygan generate --model {result.run_dir} --out board.png")
