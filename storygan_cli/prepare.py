"""`storygan prepare`: a folder of stories to prepared ones, which `storygan train` takes, on any of Beam's runners."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from storygan_cli.beam import BeamOptions, BeamRunner, BeamWorkers, beam_arguments
from storygan_cli.train import start_settings

EPILOG = "Example: storygan prepare --data runs/data/quick --out runs/prepared --preset quick --beam-workers 2"


def prepare(
    data: Annotated[Path, typer.Option(help="Folder of stories, in any layout that `storygan data check` knows.")],
    out: Annotated[Path, typer.Option(help="Folder for prepared stories; what is unchanged there is used again.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings to start from: quick, blocks, paper, pororo or flintstones; by default quick, or "
            "--init-from's own."
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Model that the training is to go on from, whose sentence encoder and PCA make the vectors: a "
            "pretrained name, a run directory, a model base directory or a version directory."
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, key=value; may be repeated.", metavar="KEY=VALUE")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Sentence encoder: a hub handle, a SavedModel's path or 'embedded'.")
    ] = None,
    max_reject_fraction: Annotated[
        float | None, typer.Option(help="Fail when more than this fraction of stories has to be set aside.")
    ] = None,
    beam_runner: BeamRunner = None,
    beam_workers: BeamWorkers = None,
    beam: BeamOptions = None,
) -> None:
    """Prepare stories for a training: records with sentence vectors, the Transform graph, schema and statistics."""
    beam_args = beam_arguments(beam_runner, beam_workers, beam)
    given = {"data.encoder": encoder, "data.max_reject_fraction": max_reject_fraction}
    settings, initial = start_settings(preset, init_from, [*(assignments or []), *assignments_of(given)])
    if initial:
        initial.check(settings)
    from pipeline.preparation import Preparation
    from pipeline.preparation import prepare as make_prepared

    _tell(out, make_prepared(Preparation(data, out, settings, initial, beam_args)))


def assignments_of(given: Mapping[str, object]) -> list[str]:
    """Returns the settings that options of their own were given for."""
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def _tell(out: Path, counts: dict[str, Any]) -> None:
    """Says what became of the stories, and how to go on."""
    splits = ", ".join(f"{count} {split}" for split, count in counts["splits"].items())
    aside = counts["given"] - counts["accepted"]
    print(f"stories    {counts['accepted']} of {counts['given']}: {splits}")
    if aside:
        print(f"set aside  {aside}: {out / 'rejects.jsonl'}")
    print(f"prepared   {out}")
    print(f"train      storygan train --data {out} --out DIR")
