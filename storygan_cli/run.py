"""`storygan run`: a folder of stories to a trained, judged and pushed StoryGAN, by the TFX pipeline on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storygan_cli.remote_folders import fetch_data, require_local, require_local_workers
from storygan_cli.runner_options import BeamOptions, BeamRunner, BeamWorkers, beam_arguments
from storygan_cli.settings_options import Assignments, Encoder, MaxRejectFraction, Preset, Stories, story_settings
from storygan_cli.train import INTERRUPTED, TERMINATED

if TYPE_CHECKING:
    from pipeline.local_runner import RunResult

EPILOG = "Example: storygan run --data runs/data/quick --out runs/quick --preset quick --set training.seed=2"


def run(
    data: Stories,
    out: Annotated[Path, typer.Option(help="Run directory; the same command goes on there after an interruption.")],
    preset: Preset = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Model to go on from, with its sentence encoder and PCA: a pretrained name, a run directory, a model "
            "base directory or a version directory."
        ),
    ] = None,
    assignments: Assignments = None,
    encoder: Encoder = None,
    max_reject_fraction: MaxRejectFraction = None,
    beam_runner: BeamRunner = None,
    beam_workers: BeamWorkers = None,
    beam: BeamOptions = None,
    reconfigure: Annotated[
        bool, typer.Option("--reconfigure", help="Go on in a run directory made with other settings or data.")
    ] = False,
) -> None:
    """Train, judge and export a StoryGAN from a folder of stories."""
    beam_args = beam_arguments(beam_runner, beam_workers, beam)
    require_local("--out", out, "the pipeline keeps its metadata there in sqlite; `storygan compile` is for clusters")
    require_local_workers(beam_args, data)
    settings, _ = story_settings(preset, init_from, assignments, encoder, max_reject_fraction)
    from pipeline.run_directory import RunDirectory

    claimed = RunDirectory.open(out, settings, fetch_data(data, out), reconfigure)
    # After the claim: loading TFX takes seconds.
    from pipeline.local_runner import run_pipeline
    from storygan_tf.training.callbacks.interruption import TrainingInterruptedError

    try:
        result = run_pipeline(claimed, beam_args=beam_args)
    except TrainingInterruptedError as error:
        print(f"storygan: {error}", file=sys.stderr)
        raise SystemExit(INTERRUPTED if error.signal == "SIGINT" else TERMINATED) from error
    _tell(result)


def _tell(result: RunResult) -> None:
    """Says where everything is and how it was judged; a model that was not pushed ends with exit code 1."""
    from storygan_tf.common.errors import ModelError

    print(f"pictures   {result.run_dir / 'storyboard.png'}")
    print(f"report     {result.run_dir / 'report.html'}")
    if result.pushed is None:
        raise ModelError(f"the model was not pushed. {' '.join(result.verdicts)}")
    for verdict in result.verdicts:
        print(f"judged     {verdict}")
    print(f"model      {result.pushed}")
    print(f"draw more  storygan generate --model {result.run_dir} --out board.png")
