"""Finds the judge for a data set: the frozen one, a given one, or one trained on the data's training stories."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from storygan_tf.common.errors import ModelError
from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.data import example_schema
from storygan_tf.data.background import BACKGROUND_STORIES, evenly_spaced, median_background
from storygan_tf.data.datasets.open_dataset import BLOCKS as BLOCKS_SOURCE
from storygan_tf.data.example_reader import StoryRecords, open_split, read_json
from storygan_tf.evaluation.judge.judge import BLOCKS, Judge, load_judge, save_judge, save_missing_reason
from storygan_tf.evaluation.judge.judge_training import train_judge, untrainable

CHOICES = AUTO, TRAIN = "auto", "train"
"""Values of `evaluation.judge`; any other is the path of a saved judge."""

_GIVEN = "given by evaluation.judge: "


def choose_judge(
    examples_dir: str, settings: EvaluationConfig, out: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Writes the judge for a data set, or why there is none; `judge.read_judge` reads either.

    Args:
        examples_dir: root of an Examples artifact, as StoryExampleGen writes it.
        settings: `judge` says which, `classifier_stories`, `classifier_epochs` and `seed` how to train.
        out: the folder to write; replaced where it exists.
        progress: is called with the passes done and all passes, where a judge is trained.

    Raises:
        DataError: for examples that cannot be read.
        ModelError: for a given judge that is none or that tells other labels, or where `out` cannot be written.
    """
    train = open_split(examples_dir, "train")
    if settings.judge not in CHOICES:
        save_judge(_given(settings.judge, train), out)
    elif settings.judge == AUTO and (frozen := _frozen(examples_dir, train)):
        save_judge(frozen, out)
    else:
        _train(train, settings, out, progress)


def _fits(judge: Judge, train: StoryRecords) -> bool:
    return not train.label_names or judge.label_names == train.label_names


def _given(path: str, train: StoryRecords) -> Judge:
    judge = load_judge(path)
    if not _fits(judge, train):
        raise ModelError(
            f"evaluation.judge {path}: tells the labels {list(judge.label_names)}, expected those of the data: "
            f"{list(train.label_names)}. Give a judge that was trained on such data, or {TRAIN!r} to train one."
        )
    return dataclasses.replace(judge, what=_GIVEN + judge.what.removeprefix(_GIVEN))


def _frozen(examples_dir: str, train: StoryRecords) -> Judge | None:
    """Returns the frozen judge of `blocks` where the data is that."""
    counts = read_json(f"{examples_dir}/{example_schema.COUNTS_FILE}") or {}
    if counts.get("source") != BLOCKS_SOURCE:
        return None
    judge = load_judge(BLOCKS)
    return judge if _fits(judge, train) else None


def _train(
    train: StoryRecords, settings: EvaluationConfig, out: Path, progress: Callable[[int, int], None] | None
) -> None:
    batches = list(train.batches(evenly_spaced(len(train), settings.classifier_stories)))
    images = np.concatenate([batch.images for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches]) if train.label_names else None
    objects = [story for batch in batches for story in batch.objects or ()] if train.has_objects else None
    if reason := untrainable(len(images), train.label_names, objects):
        save_missing_reason(reason, out)
        return
    judge = train_judge(
        images,
        labels,
        train.label_names,
        objects,
        median_background([images[evenly_spaced(len(images), BACKGROUND_STORIES)]]),
        settings.seed,
        settings.classifier_epochs,
        progress,
    )
    save_judge(judge, out)
