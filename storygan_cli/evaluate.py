"""`storygan evaluate`: computes the metrics of a model, or of another system's frames, and of baselines."""

from __future__ import annotations

import contextlib
import enum
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storygan_cli.model_options import Model
from storygan_cli.remote_folders import local_model, read_folder, require_local, require_local_workers, synced_folder
from storygan_cli.runner_options import BeamOptions, BeamRunner, BeamWorkers, beam_arguments
from storygan_cli.settings_options import Assignments, fit_to_data
from storygan_tf.common.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from storygan_tf.config.schema import Settings
    from storygan_tf.evaluation.result import Evaluation
    from storygan_tf.export.lineage import Lineage

EPILOG = "Example: storygan evaluate --model runs/quick --data runs/data/quick --out runs/evaluation"


class Layout(str, enum.Enum):
    """Layout of the folder of another system's frames."""

    auto = "auto"
    storyviz = "storyviz"
    arldm = "arldm"
    cpcsv = "cpcsv"


def evaluate(
    data: Annotated[
        str,
        typer.Option(help="Folder of training and test stories. It may be in a bucket (s3:// or gs://)."),
    ],
    out: Annotated[
        str,
        typer.Option(help="Folder for the report and the files it is built from, also in a bucket (s3:// or gs://)."),
    ],
    model: Model = None,
    images: Annotated[
        Path | None, typer.Option(help="Evaluate the frames of another system in this folder instead of a model.")
    ] = None,
    images_layout: Annotated[Layout, typer.Option(help="With --images: how the files are named.")] = Layout.auto,
    images_given: Annotated[
        str, typer.Option(help="With --images: the input of that system, text or 'text and gold labels'.")
    ] = "text",
    skip_first_frame: Annotated[
        bool,
        typer.Option(
            "--skip-first-frame",
            help="Leave out the first frame of each story, for systems that receive it as input (story continuation).",
        ),
    ] = False,
    served: Annotated[
        str | None, typer.Option(help="Served model to compare with, as the gate of `storygan run` does.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset to start from, such as quick or paper; by default the model's settings.")
    ] = None,
    assignments: Assignments = None,
    gate: Annotated[bool, typer.Option("--gate", help="End with exit code 1 if a threshold is missed.")] = False,
    beam_runner: BeamRunner = None,
    beam_workers: BeamWorkers = None,
    beam: BeamOptions = None,
) -> None:
    """Evaluate a model, or another system's frames, on the test stories of a folder."""
    if (model is None) == (images is None):
        raise ConfigError("--model and --images: expected exactly one of them.")
    require_local("--images", images, "fetch the pictures first")
    beam_args = beam_arguments(beam_runner, beam_workers, beam)
    require_local_workers(beam_args, data, out)
    with contextlib.ExitStack() as stack:
        stories, folder = stack.enter_context(read_folder(data)), stack.enter_context(synced_folder(out))
        path, served_path = (_version(stack.enter_context(local_model(name))) for name in (model, served))
        settings = _settings(path, preset, assignments or [], stories.path)
        from pipeline.run_evaluation import EvaluationRequest, ExternalImages, run_evaluation
        from storygan_tf.reporting.evaluation_files import REPORT_FILE, STORYBOARD_FILE

        request = EvaluationRequest(
            data=stories.path,
            out=folder.path,
            settings=settings,
            model=path,
            pictures=ExternalImages(images, images_layout.value, images_given) if images else None,
            served=served_path,
            skip_first_frame=skip_first_frame,
            commands={"repeat": shlex.join(["storygan", *sys.argv[1:]])},
            beam_args=beam_args,
        )
        evaluation = run_evaluation(request)
    _print_summary(evaluation)
    name = folder.name.rstrip("/")
    print(f"pictures   {name}/{STORYBOARD_FILE}\nreport     {name}/{REPORT_FILE}")
    if gate and not evaluation.blessed:
        raise ModelError(f"the model does not pass the gate. {evaluation.reason}")


def _version(model: str | None) -> Path | None:
    """Returns the version directory of a model, or None for None."""
    from storygan_tf.common.model_paths import find_model

    return find_model(model) if model else None


def _settings(model: Path | None, preset: str | None, assignments: list[str], data: Path) -> Settings:
    """Returns the settings of the evaluation: those of the preset or of the model, with the data's story length."""
    from storygan_tf.config import presets
    from storygan_tf.config.schema import Settings

    info, lineage = _info(model), _lineage(model)
    if lineage and preset is None:
        settings = Settings.from_json(json.dumps(lineage.settings))
    else:
        settings = presets.load(preset or info.get("preset", "paper"))
    if info.get("frames"):
        return settings.override([f"model.frames={info['frames']}", *assignments])
    return fit_to_data(settings.override(assignments), assignments, None, data)


def _lineage(model: Path | None) -> Lineage | None:
    """Returns the lineage of a model, or None if it has none."""
    from storygan_tf.export.lineage import lineage_of

    return None if model is None else lineage_of(model)


def _info(model: Path | None) -> dict[str, Any]:
    """Returns the description that the model's `info` signature gives; empty without a model."""
    if model is None:
        return {}
    from storygan_tf.export.loaded_model import SavedStoryGAN

    return SavedStoryGAN(model).info


def _print_summary(evaluation: Evaluation) -> None:
    """Prints the table of metrics and the result of each check of the gate."""
    from storygan_tf.reporting.comparison import ComparedModel, comparison_table

    print(comparison_table([ComparedModel("the model", evaluation)]))
    for check in evaluation.checks:
        mark = {True: "passed", False: "failed", None: "does not apply"}[check.passed]
        print(f"{mark:14} {check.why}")
