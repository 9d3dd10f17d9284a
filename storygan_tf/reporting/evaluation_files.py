"""The files of an evaluation: metrics, storyboard, report, model card and lineage."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from storygan_tf.common.file_names import MODEL_CARD
from storygan_tf.data import example_schema
from storygan_tf.data.background import evenly_spaced
from storygan_tf.data.example_reader import StoryBatch, StoryRecords, read_json
from storygan_tf.data.storyboard import StoryRow, storyboard_image
from storygan_tf.evaluation.metric_names import MODEL
from storygan_tf.evaluation.plan import Plan
from storygan_tf.evaluation.result import Evaluation
from storygan_tf.export.lineage import LINEAGE_FILE, Lineage
from storygan_tf.reporting.model_card import render_model_card
from storygan_tf.reporting.report import ReportContent, render_report

METRICS_FILE = "metrics.json"
STORYBOARD_FILE = "storyboard.png"
REPORT_FILE = "report.html"

KEPT_FILES = (METRICS_FILE, STORYBOARD_FILE, REPORT_FILE)
"""Files for people to read, which are copied to the run directory under these names."""

STORYBOARD_STORIES = 6
"""Most stories on the storyboard."""

STATISTICS_STORIES = 500
"""Most training stories from which statistics of the data are computed."""


@dataclasses.dataclass(frozen=True)
class ReportContext:
    """The contents of a report in addition to the evaluation.

    Attributes:
        history: entries of the training history, one per epoch; may be empty.
        anomalies: anomalies of the stories, {split, feature, found, stops} each; None if the stories were not
            validated.
        settings: nested mappings of settings.
        commands: command lines by purpose.
        lineage: lineage of the model; None if the frames are from another system.
        info: JSON values that the model's signature `info` returns.
    """

    history: Sequence[Mapping[str, Any]] = ()
    anomalies: Sequence[Mapping[str, Any]] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commands: Mapping[str, str] = dataclasses.field(default_factory=dict)
    lineage: Lineage | None = None
    info: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def write_evaluation(folder: str, examples: str, plan: Plan, evaluation: Evaluation, context: ReportContext) -> None:
    """Writes all files of an evaluation.

    Args:
        folder: the folder to write to.
        examples: root folder of the Examples artifact, with its counts and rejects.
        plan: the plan that was evaluated.
        evaluation: the result.
        context: further contents of the report.
    """
    boards = {name: _png(plan, ids) for name, ids in _board_ids(evaluation).items() if ids}
    lineage = context.lineage
    _write(f"{folder}/{METRICS_FILE}", evaluation.to_json())
    even = [plan.test.ids[rank] for rank in evenly_spaced(len(plan.test), STORYBOARD_STORIES)]
    _write(f"{folder}/{STORYBOARD_FILE}", _png(plan, even))
    content = ReportContent(
        evaluation=evaluation,
        boards=boards,
        history=context.history,
        counts=read_json(f"{examples}/{example_schema.COUNTS_FILE}") or {},
        rejects=_rejects(f"{examples}/{example_schema.REJECTS_FILE}"),
        anomalies=context.anomalies,
        settings=context.settings,
        commands=context.commands,
        statistics=data_statistics(plan.train),
        lineage=json.loads(lineage.to_json()) if lineage else {},
    )
    _write(f"{folder}/{REPORT_FILE}", render_report(content))
    if lineage:
        _write(f"{folder}/{LINEAGE_FILE}", lineage.to_json())
        card = render_model_card(evaluation, context.settings, json.loads(lineage.to_json()), context.info)
        _write(f"{folder}/{MODEL_CARD}", card)
    else:
        _remove(f"{folder}/{LINEAGE_FILE}", f"{folder}/{MODEL_CARD}")


def data_statistics(stories: StoryRecords) -> dict[str, Any]:
    """Returns statistics of training stories by name: their number, words per sentence and frequencies of labels."""
    words: list[int] = []
    labels = np.zeros(len(stories.label_names))
    frames = 0
    for batch in stories.batches(evenly_spaced(len(stories), STATISTICS_STORIES)):
        words += [len(sentence.split()) for story in batch.sentences for sentence in story]
        if batch.labels is not None:
            labels += batch.labels.sum(axis=(0, 1))
            frames += batch.labels.shape[0] * batch.labels.shape[1]
    statistics: dict[str, Any] = {
        "training stories": len(stories),
        "stories sampled": min(len(stories), STATISTICS_STORIES),
        "frames per story": stories.frames,
        "words per sentence (mean)": round(float(np.mean(words)), 1),
        "words per sentence (longest)": max(words),
    }
    if frames:
        shares = (round(float(share), 3) for share in labels / frames)
        statistics["fraction of frames with a label"] = dict(zip(stories.label_names, shares, strict=True))
    return statistics


def _board_ids(evaluation: Evaluation) -> dict[str, tuple[str, ...]]:
    boards = evaluation.boards
    return {"best": boards.best, "worst": boards.worst, "random": boards.random}


def _png(plan: Plan, ids: Sequence[str]) -> bytes:
    """Returns a PNG storyboard of test stories, with the model's frames above the true frames."""
    ranks = [plan.test.ids.index(name) for name in ids]
    buffer = io.BytesIO()
    storyboard_image([row for batch in plan.test.batches(ranks) for row in _rows(plan, batch)]).save(buffer, "PNG")
    return buffer.getvalue()


def _rows(plan: Plan, batch: StoryBatch) -> list[StoryRow]:
    drawn = plan.sources[MODEL].frames(batch, plan.settings.seed)
    stories = zip(batch.ids, batch.sentences, drawn, batch.images, strict=True)
    return [
        StoryRow(name, tuple(sentences), {"generated": fake, "true": real}) for name, sentences, fake, real in stories
    ]


def _rejects(path: str) -> list[dict[str, Any]]:
    if not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path) as file:
        return [json.loads(line) for line in file.read().splitlines()]


def _remove(*paths: str) -> None:
    """Removes files that an earlier evaluation of another model wrote."""
    for path in paths:
        if tf.io.gfile.exists(path):
            tf.io.gfile.remove(path)


def _write(path: str, content: str | bytes) -> None:
    """Writes a file under a temporary name and renames it, so that it is never incomplete."""
    partial = f"{path}.part"
    with tf.io.gfile.GFile(partial, "wb") as file:
        file.write(content)
    tf.io.gfile.rename(partial, path, overwrite=True)
