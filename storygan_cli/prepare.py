"""`storygan prepare`: a folder of stories to prepared ones, which `storygan train` takes, on any of Beam's runners."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from storygan_cli.runner_options import BeamOptions, BeamRunner, BeamWorkers, beam_arguments
from storygan_cli.settings_options import Assignments, Encoder, MaxRejectFraction, Preset, Stories, story_settings

EPILOG = "Example: storygan prepare --data runs/data/quick --out runs/prepared --preset quick --beam-workers 2"


def prepare(
    data: Stories,
    out: Annotated[
        str,
        typer.Option(help="Folder for prepared stories, also s3:// or gs://; what is unchanged there is used again."),
    ],
    preset: Preset = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Model that the training is to go on from, whose sentence encoder and PCA make the vectors: a "
            "pretrained name, a run directory, a model base directory or a version directory."
        ),
    ] = None,
    assignments: Assignments = None,
    encoder: Encoder = None,
    max_reject_fraction: MaxRejectFraction = None,
    beam_runner: BeamRunner = None,
    beam_workers: BeamWorkers = None,
    beam: BeamOptions = None,
) -> None:
    """Prepare stories for a training: records with sentence vectors, the Transform graph, schema and statistics."""
    beam_args = beam_arguments(beam_runner, beam_workers, beam)
    settings, initial = story_settings(preset, init_from, assignments, encoder, max_reject_fraction)
    from storygan_cli.remote_folders import read_folder, require_local_workers, synced_folder

    require_local_workers(beam_args, data, out)
    with read_folder(data) as stories, synced_folder(out) as place:
        from pipeline.preparation import Preparation, remove_unfinished
        from pipeline.preparation import prepare as make_prepared

        if place.cut_off:
            remove_unfinished(place.path)
        counts = make_prepared(Preparation(stories.path, place.path, settings, initial, beam_args))
    _tell(out.rstrip("/"), counts)


def _tell(out: str, counts: dict[str, Any]) -> None:
    """Says what became of the stories, and how to go on."""
    splits = ", ".join(f"{count} {split}" for split, count in counts["splits"].items())
    aside = counts["given"] - counts["accepted"]
    print(f"stories    {counts['accepted']} of {counts['given']}: {splits}")
    if aside:
        print(f"set aside  {aside}: {out}/rejects.jsonl")
    print(f"prepared   {out}")
    print(f"train      storygan train --data {out} --out DIR")
