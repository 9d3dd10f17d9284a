"""`storygan prepare`: prepares a folder of stories for `storygan train`, on any of Beam's runners."""

from __future__ import annotations

from typing import Annotated, Any

import typer

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

EPILOG = "Example: storygan prepare --data runs/data/quick --out runs/prepared --preset quick --beam-workers 2"


def prepare(
    data: Stories,
    out: Annotated[
        str,
        typer.Option(
            help="Folder for the prepared stories, on this machine or in a bucket (s3:// or gs://). Results that are "
            "already there and still valid are reused."
        ),
    ],
    preset: Preset = None,
    init_from: InitFrom = None,
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
    with read_folder(data) as stories, synced_folder(out) as folder:
        from pipeline.preparation import Preparation, remove_unfinished
        from pipeline.preparation import prepare as prepare_stories

        if folder.incomplete:
            remove_unfinished(folder.path)
        settings = fit_to_data(settings, assignments, initial, stories.path)
        counts = prepare_stories(Preparation(stories.path, folder.path, settings, initial, beam_args))
    _print_summary(out.rstrip("/"), counts)


def _print_summary(out: str, counts: dict[str, Any]) -> None:
    """Prints how many stories were accepted and rejected, and the command that trains on them."""
    splits = ", ".join(f"{count} {split}" for split, count in counts["splits"].items())
    rejected = sum(counts["rejected"].values())
    print(f"stories    {counts['accepted']} of {counts['given'] + counts['extra_parts']}: {splits}")
    if rejected:
        print(f"set aside  {rejected}: {out}/rejects.jsonl")
    print(f"prepared   {out}")
    print(f"train      storygan train --data {out} --out DIR")
