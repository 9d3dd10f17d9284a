"""`storygan evaluate`: figures of a model, or of another system's frames, beside baselines."""

from __future__ import annotations

import contextlib
import enum
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storygan_cli.remote_folders import local_model, read_folder, require_local, require_local_workers, synced_folder
from storygan_cli.runner_options import BeamOptions, BeamRunner, BeamWorkers, beam_arguments
from storygan_cli.settings_options import Assignments
from storygan_tf.common.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from storygan_tf.config.schema import Settings
    from storygan_tf.evaluation.result import Evaluation
    from storygan_tf.export.lineage import Lineage

EPILOG = "Example: storygan evaluate --model runs/quick --data runs/data/quick --out runs/evaluation"


class Layout(str, enum.Enum):
    """How another system names its frames."""

    auto = "auto"
    storyviz = "storyviz"
    arldm = "arldm"
    cpcsv = "cpcsv"


def evaluate(
    data: Annotated[
        str, typer.Option(help="Folder of stories with training and test stories; s3:// and gs:// are fetched.")
    ],
    out: Annotated[str, typer.Option(help="Folder for the report and what it is made of, also s3:// or gs://.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="A pretrained name (blocks), a run directory, a model base directory or a version directory."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Instead of a model: folder of another system's frames.")] = None,
    images_layout: Annotated[Layout, typer.Option(help="How the frames are named.")] = Layout.auto,
    images_given: Annotated[
        str, typer.Option(help="What that system drew from: text, or 'text and gold labels'.")
    ] = "text",
    skip_first_frame: Annotated[
        bool, typer.Option("--skip-first-frame", help="The first frame was given (story continuation): leave it out.")
    ] = False,
    served: Annotated[str | None, typer.Option(help="A model to compare with, as the gate does.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings to start from: quick or paper; by default the model's own.")
    ] = None,
    assignments: Assignments = None,
    gate: Annotated[bool, typer.Option("--gate", help="End with exit code 1 where a threshold is missed.")] = False,
    beam_runner: BeamRunner = None,
    beam_workers: BeamWorkers = None,
    beam: BeamOptions = None,
) -> None:
    """Judge a model, or another system's frames, on the test stories of a folder."""
    if (model is None) == (images is None):
        raise ConfigError("--model and --images: expected exactly one of them.")
    require_local("--images", images, "fetch the pictures first")
    beam_args = beam_arguments(beam_runner, beam_workers, beam)
    require_local_workers(beam_args, data, out)
    with contextlib.ExitStack() as stack:
        stories, place = stack.enter_context(read_folder(data)), stack.enter_context(synced_folder(out))
        path, compared = (_version(stack.enter_context(local_model(given))) for given in (model, served))
        settings = _settings(path, preset, assignments or [], stories.path)
        from pipeline.run_evaluation import EvaluationRequest, ExternalImages, run_evaluation
        from storygan_tf.reporting.evaluation_files import REPORT_FILE, STORYBOARD_FILE

        question = EvaluationRequest(
            data=stories.path,
            out=place.path,
            settings=settings,
            model=path,
            pictures=ExternalImages(images, images_layout.value, images_given) if images else None,
            served=compared,
            skip_first_frame=skip_first_frame,
            commands={"repeat": shlex.join(["storygan", *sys.argv[1:]])},
            beam_args=beam_args,
        )
        evaluation = run_evaluation(question)
    _tell(evaluation)
    folder = place.name.rstrip("/")
    print(f"pictures   {folder}/{STORYBOARD_FILE}\nreport     {folder}/{REPORT_FILE}")
    if gate and not evaluation.blessed:
        raise ModelError(f"the model does not pass the gate. {evaluation.reason}")


def _version(model: str | None) -> Path | None:
    from storygan_tf.common.model_paths import find_model

    return find_model(model) if model else None


def _settings(model: Path | None, preset: str | None, assignments: list[str], data: Path) -> Settings:
    from storygan_tf.config import presets
    from storygan_tf.config.schema import Settings

    info, lineage = _info(model), _lineage(model)
    if lineage and preset is None:
        settings = Settings.from_json(json.dumps(lineage.settings))
    else:
        settings = presets.load(preset or info.get("preset", "paper"))
    frames = info.get("frames") or _frames(settings, data)
    return settings.override([f"model.frames={frames}", *assignments])


def _lineage(model: Path | None) -> Lineage | None:
    """Returns where a model came from, None where it does not tell."""
    from storygan_tf.export.lineage import lineage_of

    return None if model is None else lineage_of(model)


def _info(model: Path | None) -> dict[str, Any]:
    if model is None:
        return {}
    from storygan_tf.export.loaded_model import SavedStoryGAN

    return SavedStoryGAN(model).info


def _frames(settings: Settings, data: Path) -> int:
    """Returns the most frequent number of frames of the folder's stories."""
    from collections import Counter

    from storygan_tf.data.datasets import Story, open_configured

    stories = open_configured(data, settings.data).stories()
    lengths = Counter(len(story.images) for story in stories if isinstance(story, Story))
    return lengths.most_common(1)[0][0] if lengths else settings.model.frames


def _tell(evaluation: Evaluation) -> None:
    from storygan_tf.reporting.comparison import ComparedModel, comparison_table

    print(comparison_table([ComparedModel("the model", evaluation)]))
    for check in evaluation.checks:
        mark = {True: "passed", False: "failed", None: "does not apply"}[check.passed]
        print(f"{mark:14} {check.why}")
