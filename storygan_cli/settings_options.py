"""The options that settings are made of, for every command that takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from storygan_tf.config.schema import Settings
    from storygan_tf.training.warm_start import InitialModel

DEFAULT_PRESET = "quick"

Stories = Annotated[
    str,
    typer.Option(
        help="Folder of stories, in any layout that `storygan data check` knows; s3:// and gs:// are fetched."
    ),
]

Preset = Annotated[
    str | None,
    typer.Option(
        help="Settings to start from: quick, blocks, paper, pororo or flintstones; by default quick, or "
        "--init-from's own."
    ),
]

Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, key=value; may be repeated.", metavar="KEY=VALUE")
]

Encoder = Annotated[str | None, typer.Option(help="Sentence encoder: a hub handle, a SavedModel's path or 'embedded'.")]

MaxRejectFraction = Annotated[
    float | None, typer.Option(help="Fail when more than this fraction of stories has to be set aside.")
]


def start_settings(
    preset: str | None, init_from: str | None, assignments: list[str]
) -> tuple[Settings, InitialModel | None]:
    """Returns the settings, and the model that the training starts from; not checked yet whether it can."""
    from storygan_tf.config import presets

    if init_from is None:
        return presets.load(preset or DEFAULT_PRESET).override(assignments), None
    from storygan_cli.remote_folders import require_local
    from storygan_tf.common.model_paths import portable_name
    from storygan_tf.training.warm_start import load_initial_model

    require_local("--init-from", init_from, "its path is part of the settings; fetch it first")
    initial = load_initial_model(portable_name(init_from))
    start = presets.load(preset or initial.preset)
    return start.override([f"training.init_from={initial.where}", *assignments]), initial


def story_settings(
    preset: str | None,
    init_from: str | None,
    assignments: list[str] | None,
    encoder: str | None,
    max_reject_fraction: float | None,
) -> tuple[Settings, InitialModel | None]:
    """Returns the same for a command that begins with stories, checked."""
    given = {"data.encoder": encoder, "data.max_reject_fraction": max_reject_fraction}
    shorthands = [f"{key}={value}" for key, value in given.items() if value is not None]
    settings, initial = start_settings(preset, init_from, [*(assignments or []), *shorthands])
    if initial:
        initial.check(settings)
    return settings, initial
