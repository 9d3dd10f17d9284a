"""Compares runs: metrics by the same judges, and storyboards of the same stories from the same seeds."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.evaluation_inputs import INPUTS_FILE, EvaluationInputs
from pipeline.run_evaluation import frame_source, make_evaluation_plan, run_plan
from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.errors import DataError
from storygan_tf.data.example_reader import StoryBatch, open_split
from storygan_tf.evaluation.result import Evaluation
from storygan_tf.reporting.comparison import (
    ComparedModel,
    StoryToShow,
    check_comparable,
    comparison_table,
    render_comparison,
)
from storygan_tf.reporting.evaluation_files import METRICS_FILE


@dataclasses.dataclass(frozen=True)
class _Run:
    """The evaluation of a run directory, or of a folder that `storygan evaluate` wrote."""

    name: str
    inputs: EvaluationInputs
    evaluation: Evaluation


def compare_runs(paths: Sequence[Path], page: Path, beam_args: Sequence[str] = ()) -> str:
    """Compares runs and writes a page with the comparison.

    Runs that were evaluated with other judges, networks or seeds than the first run are evaluated again with those of
    the first run.

    Args:
        paths: run directories, or folders that `storygan evaluate` wrote.
        page: HTML file to write.
        beam_args: options for Beam.

    Returns:
        A table of the metrics as text.

    Raises:
        DataError: if a folder is neither, or if the runs were evaluated on different stories.
        ModelError: if a model cannot be evaluated again.
    """
    runs = [_load(path, name) for path, name in zip(paths, _names(paths), strict=True)]
    compared = [ComparedModel(run.name, _evaluation_by_same_judges(run, runs[0], beam_args)) for run in runs]
    check_comparable(compared)
    batch = _stories(runs[0])
    compared = [
        dataclasses.replace(entry, frames=_frames(run, batch, runs[0].evaluation.seed))
        for entry, run in zip(compared, runs, strict=True)
    ]
    shown = map(StoryToShow, batch.ids, map(tuple, batch.sentences), batch.images)
    write_atomically(page, render_comparison(compared, list(shown)).encode())
    return comparison_table(compared)


def _names(paths: Sequence[Path]) -> list[str]:
    names = [path.absolute().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _load(path: Path, name: str) -> _Run:
    metrics = path / METRICS_FILE
    if not metrics.is_file():
        raise DataError(
            f"{path}: holds no {METRICS_FILE}; expected a run directory or a folder that `storygan evaluate` wrote."
        )
    return _Run(
        name, EvaluationInputs.load(path / INPUTS_FILE), Evaluation.from_json(metrics.read_text(), str(metrics))
    )


def _evaluation_by_same_judges(run: _Run, first: _Run, beam_args: Sequence[str]) -> Evaluation:
    """Returns the evaluation of a run with the judges and the seed of the first run, computed if necessary."""
    if run.evaluation.data != first.evaluation.data or _judges(run) == _judges(first):
        return run.evaluation
    inputs = dataclasses.replace(run.inputs, settings=first.inputs.settings)
    with tempfile.TemporaryDirectory() as temp_dir:
        return run_plan(make_evaluation_plan(inputs, judge=first.inputs.judge), Path(temp_dir), beam_args)


def _judges(run: _Run) -> tuple[object, ...]:
    return run.evaluation.seed, sorted((judge.role, judge.sha256) for judge in run.evaluation.judges)


def _stories(run: _Run) -> StoryBatch:
    boards, test = run.evaluation.boards, open_split(run.inputs.examples, "test")
    return test.read([test.ids.index(name) for name in (*boards.best, *boards.worst, *boards.random)])


def _frames(run: _Run, batch: StoryBatch, seed: int) -> dict[str, np.ndarray]:
    frames = frame_source(run.inputs).frames(batch, seed)
    return dict(zip(batch.ids, frames, strict=True))
