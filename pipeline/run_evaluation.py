"""Evaluates a model or pictures on a folder of stories, with the code of the pipeline's steps but without TFX.

One output folder holds the records (`examples/`), the judge (`judge/`) and the results. A second call uses the records
and the judge again if their inputs are unchanged.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions

from components.beam_options import beam_options
from components.story_evaluator.beam_evaluation import evaluate_on_beam
from pipeline.code_fingerprint import code_fingerprint
from pipeline.evaluation_inputs import INPUTS_FILE, EvaluationInputs, judge_fingerprint
from pipeline.examples import example_dependencies, make_examples
from pipeline.run_directory import SETTINGS_FILE
from pipeline.step_inputs import JUDGE_SETTINGS
from storygan_tf.common.cache import STAMP, build_once
from storygan_tf.common.errors import ConfigError, DataError
from storygan_tf.common.model_paths import run_directory_of
from storygan_tf.common.progress import counted_progress, progress
from storygan_tf.config.schema import Settings
from storygan_tf.evaluation.external_frames import ImageFrames, stored_test_ids
from storygan_tf.evaluation.frame_sources import FrameSource, ModelFrames, PictureFrames, served_frames
from storygan_tf.evaluation.judge.judge_choice import choose_judge
from storygan_tf.evaluation.plan import Plan, make_plan
from storygan_tf.evaluation.result import Evaluation
from storygan_tf.export.lineage import lineage_of
from storygan_tf.export.loaded_model import SavedStoryGAN
from storygan_tf.reporting.evaluation_files import ReportContext, write_evaluation
from storygan_tf.training.trainer import HISTORY

EXAMPLES, JUDGE = "examples", "judge"


@dataclasses.dataclass(frozen=True)
class ExternalImages:
    """Frames that another system drew.

    Attributes:
        folder: folder with the pictures.
        layout: one of `storygan_tf.evaluation.external_frames.LAYOUTS`.
        given: description of the inputs that the system drew from.
    """

    folder: Path
    layout: str
    given: str


@dataclasses.dataclass(frozen=True)
class EvaluationRequest:
    """The arguments of an evaluation: of a model, or of pictures.

    Attributes:
        data: folder of stories.
        out: folder for the results.
        settings: `evaluation`, `data` and `model.frames` are used.
        model: version directory of the model, or None to evaluate `pictures`.
        pictures: frames of another system, or None to evaluate `model`.
        served: version directory of a model to compare with, or None.
        skip_first_frame: whether to leave out the first frame of each story, which the system had as an input.
        commands: commands for the report, by their purpose.
        beam_args: options for Beam.
    """

    data: Path
    out: Path
    settings: Settings
    model: Path | None = None
    pictures: ExternalImages | None = None
    served: Path | None = None
    skip_first_frame: bool = False
    commands: Mapping[str, str] = dataclasses.field(default_factory=dict)
    beam_args: Sequence[str] = ()


def run_evaluation(request: EvaluationRequest) -> Evaluation:
    """Evaluates a model or pictures and writes the results into `request.out`.

    Returns:
        The evaluation.

    Raises:
        ConfigError: if a setting is not valid, or if the output folder has other content.
        DataError: if the stories or the pictures cannot be used.
        ModelError: if the model or the judge cannot be used.
    """
    _check_out(request.out)
    context = _report_context(request)
    examples, judge = request.out / EXAMPLES, request.out / JUDGE
    build_once(
        examples,
        example_dependencies(request.data, request.settings),
        lambda path: make_examples(
            request.data, request.settings, path, request.out / "rejects.jsonl", request.beam_args
        ),
    )
    build_once(judge, _judge_dependencies(request, examples), lambda path: _make_judge(request, examples, path))
    inputs = EvaluationInputs(
        examples=str(examples.absolute()),
        judge=str(judge.absolute()),
        settings=json.loads(request.settings.to_json()),
        model=str(request.model.absolute()) if request.model else "",
        images=_image_arguments(request),
        skip_first_frame=request.skip_first_frame,
    )
    plan = make_evaluation_plan(inputs, served=served_frames(request.served) if request.served else None)
    evaluation = run_plan(plan, request.out, request.beam_args)
    write_evaluation(str(request.out), str(examples), plan, evaluation, context)
    inputs.save(request.out / INPUTS_FILE)
    return evaluation


def make_evaluation_plan(inputs: EvaluationInputs, judge: str = "", served: FrameSource | None = None) -> Plan:
    """Returns the plan of an evaluation.

    Args:
        inputs: paths and settings of the evaluation's inputs.
        judge: folder of the domain judge; empty for `inputs.judge`.
        served: frames of the served model to compare with, or None.
    """
    settings = Settings.from_json(json.dumps(inputs.settings)).evaluation
    return make_plan(
        inputs.examples,
        frame_source(inputs),
        settings,
        judge or inputs.judge,
        served=served,
        skip_first_frame=inputs.skip_first_frame,
    )


def frame_source(inputs: EvaluationInputs) -> FrameSource:
    """Returns the frames to evaluate: of the model, or of the pictures if there is no model."""
    return ModelFrames(inputs.model) if inputs.model else PictureFrames(ImageFrames(**inputs.images or {}))


def run_plan(plan: Plan, temp_dir: Path, beam_args: Sequence[str]) -> Evaluation:
    """Evaluates a plan on Beam and shows the progress on the terminal.

    Args:
        plan: the plan of the evaluation.
        temp_dir: folder for temporary files of Beam's workers.
        beam_args: options for Beam.
    """
    options = PipelineOptions(beam_options(beam_args))
    with progress("judging stories", len(plan.test)) as advance:
        return evaluate_on_beam(plan, lambda: Pipeline(options=options), str(temp_dir), advance)


def _check_out(out: Path) -> None:
    """Raises ConfigError if `out` is a run directory, or contains files that no evaluation wrote."""
    if (out / SETTINGS_FILE).exists():
        raise ConfigError(f"--out {out}: is a run directory; choose another folder for the evaluation.")
    for name in (EXAMPLES, JUDGE):
        path = out / name
        if path.exists() and not (path / STAMP).is_file():
            raise ConfigError(
                f"--out {out}: holds {name}/, which no evaluation made (it has no {STAMP}); choose an empty folder."
            )


def _judge_dependencies(request: EvaluationRequest, examples: Path) -> dict[str, Any]:
    return {
        "examples": (examples / STAMP).read_text(),
        "settings": request.settings.to_json(*JUDGE_SETTINGS),
        "judge": judge_fingerprint(request.settings.evaluation),
        "code": code_fingerprint("storygan_tf.evaluation.judge.judge_choice"),
    }


def _make_judge(request: EvaluationRequest, examples: Path, path: Path) -> None:
    with counted_progress("training the judge", "epoch") as advance:
        choose_judge(str(examples), request.settings.evaluation, path, advance)


def _image_arguments(request: EvaluationRequest) -> dict[str, Any] | None:
    pictures, settings = request.pictures, request.settings
    if pictures is None:
        return None
    ids = stored_test_ids(request.data, settings.data)
    if not ids:
        raise DataError(f"data folder {request.data}: found no test story, expected the stories of the pictures.")
    return {
        "folder": str(pictures.folder.absolute()),
        "layout": pictures.layout,
        "story_ids": ids,
        "frames": settings.model.frames,
        "skip_first_frame": request.skip_first_frame,
        "given": pictures.given,
    }


def _report_context(request: EvaluationRequest) -> ReportContext:
    settings = json.loads(request.settings.to_json("preset", "data", "evaluation"))
    if request.model is None:
        return ReportContext(settings=settings, commands=request.commands)
    return ReportContext(
        history=_history(request.model),
        settings=settings,
        commands=request.commands,
        lineage=lineage_of(request.model),
        info=SavedStoryGAN(request.model).info,
    )


def _history(model: Path) -> list[dict[str, Any]]:
    """Returns the training history of the run directory that contains a model; empty for a model elsewhere."""
    run = run_directory_of(model)
    return json.loads((run / HISTORY).read_text()) if run and (run / HISTORY).is_file() else []
