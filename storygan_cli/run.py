"""`storygan run`: a folder of stories to a trained, judged and pushed StoryGAN, by the TFX pipeline on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.local_runner import RunResult
    from storygan_tf.config import Settings

EPILOG = "Example: storygan run --data runs/data/quick --out runs/quick --preset quick --set training.seed=2"


def run(
    data: Annotated[Path, typer.Option(help="Folder of stories: a story folder or the public CLEVR-SV layout.")],
    out: Annotated[Path, typer.Option(help="Run directory; the same command goes on there after an interruption.")],
    preset: Annotated[str, typer.Option(help="Settings to start from: quick or paper.")] = "quick",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, key=value; may be repeated.", metavar="KEY=VALUE")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Sentence encoder: a hub handle, a SavedModel's path or 'embedded'.")
    ] = None,
    max_reject_fraction: Annotated[
        float | None, typer.Option(help="Fail when more than this fraction of stories has to be set aside.")
    ] = None,
    beam: Annotated[
        list[str] | None, typer.Option(help="One Beam option, such as --beam=--direct_num_workers=2; may be repeated.")
    ] = None,
    reconfigure: Annotated[
        bool, typer.Option("--reconfigure", help="Go on in a run directory made with other settings or data.")
    ] = False,
) -> None:
    """Train, judge and export a StoryGAN from a folder of stories."""
    settings = _settings(preset, assignments or [], encoder, max_reject_fraction)
    from pipeline.run_directory import RunDirectory

    claimed = RunDirectory.claim(out, settings, data, reconfigure)
    # After the claim: loading TFX takes seconds.
    from pipeline.local_runner import run_pipeline

    _tell(run_pipeline(claimed, beam_args=beam or []))


def _settings(preset: str, assignments: list[str], encoder: str | None, max_reject_fraction: float | None) -> Settings:
    from storygan_tf import presets

    shorthands = {"data.encoder": encoder, "data.max_reject_fraction": max_reject_fraction}
    given = [f"{key}={value}" for key, value in shorthands.items() if value is not None]
    return presets.load(preset).override([*assignments, *given])


def _tell(result: RunResult) -> None:
    """Says where everything is and how it was judged; a model that was not pushed ends with exit code 1."""
    from storygan_tf.errors import ModelError

    print(f"pictures   {result.run_dir / 'storyboard.png'}")
    print(f"report     {result.run_dir / 'report.html'}")
    if result.pushed is None:
        raise ModelError(f"the model was not pushed. {' '.join(result.verdicts)}")
    for verdict in result.verdicts:
        print(f"judged     {verdict}")
    print(f"model      {result.pushed}")
    print(f"draw more  storygan generate --model {result.run_dir} --out board.png")
