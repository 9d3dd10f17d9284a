"""Options that set the configuration of a training, for every command that takes settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from storygan_tf.config.schema import Settings
    from storygan_tf.training.warm_start import InitialModel

DEFAULT_PRESET = "quick"

Stories = Annotated[
    str,
    typer.Option(
        help="Folder of stories, in any layout that `storygan data check` reads. It may be in a bucket (s3:// or gs://)."
    ),
]

Preset = Annotated[
    str | None,
    typer.Option(
        help="Preset to start from: quick, blocks, paper, pororo or flintstones. By default quick, or with --init-from "
        "the preset of that model."
    ),
]

InitFrom = Annotated[
    str | None,
    typer.Option(
        help="Model to start the training from, with its sentence encoder and PCA: a pretrained name, a run "
        "directory, a model base directory or a version directory."
    ),
]

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one setting, as key=value. Repeat it for more.", metavar="KEY=VALUE"),
]

Encoder = Annotated[
    str | None, typer.Option(help="Sentence encoder: a TensorFlow Hub handle, the path of a SavedModel, or 'embedded'.")
]

MaxRejectFraction = Annotated[
    float | None, typer.Option(help="Fail if more than this fraction of the stories cannot be used.")
]


def start_settings(
    preset: str | None, init_from: str | None, assignments: list[str]
) -> tuple[Settings, InitialModel | None]:
    """Returns the settings, and the initial model if `init_from` names one.

    Does not check whether the initial model fits the settings: call its `check` for that.

    Args:
        preset: name of the preset; None for the initial model's preset, or for `quick` without an initial model.
        init_from: name or path of the initial model, on this machine.
        assignments: changes of settings, each `key=value`.

    Raises:
        ConfigError: if a preset or setting is unknown or has a wrong value, or `init_from` is in a bucket.
        ModelError: if there is no such initial model.
    """
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
    """Returns the settings and the initial model for a command that reads a folder of stories.

    Unlike `start_settings`, it applies `--encoder` and `--max-reject-fraction`, and checks that the initial model fits.

    Raises:
        ConfigError: as `start_settings`, and if the initial model does not fit the settings.
        ModelError: if there is no such initial model.
    """
    values = {"data.encoder": encoder, "data.max_reject_fraction": max_reject_fraction}
    shorthands = [f"{key}={value}" for key, value in values.items() if value is not None]
    settings, initial = start_settings(preset, init_from, [*(assignments or []), *shorthands])
    if initial:
        initial.check(settings)
    return settings, initial


def fit_to_data(
    settings: Settings, assignments: list[str] | None, initial: InitialModel | None, data: Path
) -> Settings:
    """Returns the settings with the number of frames that the stories of a folder have.

    They are returned as they are if an assignment sets `model.frames`, there is an initial model, which determines it,
    or the folder has no stories.

    Raises:
        DataError: if the stories have different numbers of frames, or the folder cannot be read.
    """
    from storygan_tf.data.datasets import open_configured
    from storygan_tf.data.datasets.story_length import only_length

    if initial or any(assignment.partition("=")[0].strip() == "model.frames" for assignment in assignments or ()):
        return settings
    length = only_length(open_configured(data, settings.data).stories(), str(data))
    return settings.override([f"model.frames={length}"]) if length else settings
