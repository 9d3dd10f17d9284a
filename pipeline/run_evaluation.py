"""An evaluation outside the pipeline: the same code as the pipeline's steps, on a folder of stories.

Everything lands in one folder: the records (`examples/`) and the judge (`judge/`), which a second call finds there and
uses again where nothing changed, and what the evaluation leaves.
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
from pipeline.examples import example_parts, make_examples
from pipeline.run_directory import SETTINGS_FILE
from pipeline.step_inputs import JUDGE_SETTINGS
from storygan_tf.common.cache import STAMP, build_once
from storygan_tf.common.errors import ConfigError, DataError
from storygan_tf.common.model_paths import BASE_DIRECTORY
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
    """Frames of another system.

    Attributes:
        folder: with the pictures.
        layout: one of `storygan_tf.evaluation.external_frames.LAYOUTS`.
        given: what the system was given to draw from.
    """

    folder: Path
    layout: str
    given: str


@dataclasses.dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated, and how.

    Attributes:
        data: folder of stories.
        out: folder for everything that comes of it.
        settings: `evaluation`, `data` and `model.frames` of them are used.
        model: a version directory, or `pictures` instead.
        pictures: frames of another system.
        served: a version directory to compare with, where there is one.
        skip_first_frame: whether the first frame was given.
        commands: for the report.
        beam_args: Beam's options.
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


def run_evaluation(question: EvaluationRequest) -> Evaluation:
    """Evaluates, and writes everything into `question.out`.

    Raises:
        ConfigError: for settings that are not valid.
        DataError: for stories or pictures that cannot be used.
        ModelError: for a model or a judge that cannot be used.
    """
    _check_out(question.out)
    background = _background(question)
    examples, judge = question.out / EXAMPLES, question.out / JUDGE
    build_once(
        examples,
        example_parts(question.data, question.settings),
        lambda path: make_examples(
            question.data, question.settings, path, question.out / "rejects.jsonl", question.beam_args
        ),
    )
    build_once(judge, _judge_parts(question, examples), lambda path: _make_judge(question, examples, path))
    inputs = EvaluationInputs(
        examples=str(examples.absolute()),
        judge=str(judge.absolute()),
        settings=json.loads(question.settings.to_json()),
        model=str(question.model.absolute()) if question.model else "",
        images=_image_arguments(question),
        skip_first_frame=question.skip_first_frame,
    )
    plan = make_evaluation_plan(inputs, served=served_frames(question.served) if question.served else None)
    evaluation = run_plan(plan, question.out, question.beam_args)
    write_evaluation(str(question.out), str(examples), plan, evaluation, background)
    inputs.save(question.out / INPUTS_FILE)
    return evaluation


def make_evaluation_plan(inputs: EvaluationInputs, judge: str = "", served: FrameSource | None = None) -> Plan:
    """Returns the plan of an evaluation.

    Args:
        inputs: what it is made of.
        judge: folder of another domain judge; empty for the inputs' own.
        served: to compare with.
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
    """Returns the judged model, or the judged pictures."""
    return ModelFrames(inputs.model) if inputs.model else PictureFrames(ImageFrames(**inputs.images or {}))


def run_plan(plan: Plan, aside: Path, beam_args: Sequence[str]) -> Evaluation:
    """Evaluates a plan on Beam, with progress on the terminal."""
    options = PipelineOptions(beam_options(beam_args))
    with progress("judging stories", len(plan.test)) as advance:
        return evaluate_on_beam(plan, lambda: Pipeline(options=options), str(aside), advance)


def _check_out(out: Path) -> None:
    """Keeps a folder of something else from being written into."""
    if (out / SETTINGS_FILE).exists():
        raise ConfigError(f"--out {out}: is a run directory; give the evaluation a folder of its own.")
    for name in (EXAMPLES, JUDGE):
        path = out / name
        if path.exists() and not (path / STAMP).is_file():
            raise ConfigError(
                f"--out {out}: holds {name}/, which no evaluation made (no {STAMP} in it); give an empty folder."
            )


def _judge_parts(question: EvaluationRequest, examples: Path) -> dict[str, Any]:
    return {
        "examples": (examples / STAMP).read_text(),
        "settings": question.settings.to_json(*JUDGE_SETTINGS),
        "judge": judge_fingerprint(question.settings.evaluation),
        "code": code_fingerprint("storygan_tf.evaluation.judge.judge_choice"),
    }


def _make_judge(question: EvaluationRequest, examples: Path, path: Path) -> None:
    with counted_progress("training the judge", "epoch") as tell:
        choose_judge(str(examples), question.settings.evaluation, path, tell)


def _image_arguments(question: EvaluationRequest) -> dict[str, Any] | None:
    pictures, settings = question.pictures, question.settings
    if pictures is None:
        return None
    ids = stored_test_ids(question.data, settings.data)
    if not ids:
        raise DataError(f"data folder {question.data}: found no test story, expected the stories of the pictures.")
    return {
        "folder": str(pictures.folder.absolute()),
        "layout": pictures.layout,
        "story_ids": ids,
        "frames": settings.model.frames,
        "skip_first_frame": question.skip_first_frame,
        "given": pictures.given,
    }


def _background(question: EvaluationRequest) -> ReportContext:
    settings = json.loads(question.settings.to_json("preset", "data", "evaluation"))
    if question.model is None:
        return ReportContext(settings=settings, commands=question.commands)
    return ReportContext(
        history=_history(question.model),
        settings=settings,
        commands=question.commands,
        lineage=lineage_of(question.model),
        info=SavedStoryGAN(question.model).info,
    )


def _history(model: Path) -> list[dict[str, Any]]:
    """Returns the history of the run directory that a model was pushed into, nothing where it lies elsewhere."""
    base = model.absolute().parent
    path = base.parents[len(BASE_DIRECTORY.parts) - 1] / HISTORY if base.match(str(BASE_DIRECTORY)) else None
    return json.loads(path.read_text()) if path and path.is_file() else []
