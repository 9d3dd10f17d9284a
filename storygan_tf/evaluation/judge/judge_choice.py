"""Selects the judge for a data set: the frozen one, a configured one, or one trained on its training stories."""

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
from storygan_tf.evaluation.judge.judge_training import train_judge, untrainable_reason

CHOICES = AUTO, TRAIN = "auto", "train"
"""Values of `evaluation.judge`; any other is the path of a saved judge."""

_CONFIGURED = "given by evaluation.judge: "
"""Prefix of the description of a judge that the settings name."""


def choose_judge(
    examples_dir: str, settings: EvaluationConfig, out: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Writes the judge for a data set, or the reason why there is none, to a folder that `judge.read_judge` reads.

    Args:
        examples_dir: root folder of an Examples artifact, as StoryExampleGen writes it.
        settings: `judge` selects the judge; `classifier_stories`, `classifier_epochs` and `seed` configure its
            training.
        out: the folder to write; it is replaced if it exists.
        progress: function that is called after each epoch of a training with the numbers of finished and of all epochs.

    Raises:
        DataError: if the examples cannot be read.
        ModelError: if the configured judge cannot be loaded or detects other labels than the data has, or if `out`
            cannot be written.
    """
    train = open_split(examples_dir, "train")
    if settings.judge not in CHOICES:
        save_judge(_configured_judge(settings.judge, train), out)
    elif settings.judge == AUTO and (frozen := _frozen_judge(examples_dir, train)):
        save_judge(frozen, out)
    else:
        _train(train, settings, out, progress)


def _has_labels_of(judge: Judge, train: StoryRecords) -> bool:
    """Returns whether a judge detects exactly the labels of the stories, or these have no labels."""
    return not train.label_names or judge.label_names == train.label_names


def _configured_judge(path: str, train: StoryRecords) -> Judge:
    """Loads the judge that the settings name; raises ModelError if it detects other labels than the stories have."""
    judge = load_judge(path)
    if not _has_labels_of(judge, train):
        raise ModelError(
            f"evaluation.judge {path}: detects the labels {list(judge.label_names)}, expected those of the data: "
            f"{list(train.label_names)}. Give a judge that was trained on such data, or {TRAIN!r} to train one."
        )
    return dataclasses.replace(judge, description=_CONFIGURED + judge.description.removeprefix(_CONFIGURED))


def _frozen_judge(examples_dir: str, train: StoryRecords) -> Judge | None:
    """Returns the frozen judge of `blocks` if the examples are from `blocks` and have its labels, else None."""
    counts = read_json(f"{examples_dir}/{example_schema.COUNTS_FILE}") or {}
    if counts.get("source") != BLOCKS_SOURCE:
        return None
    judge = load_judge(BLOCKS)
    return judge if _has_labels_of(judge, train) else None


def _train(
    train: StoryRecords, settings: EvaluationConfig, out: Path, progress: Callable[[int, int], None] | None
) -> None:
    """Trains a judge on training stories and saves it, or saves the reason why none can be trained."""
    batches = list(train.batches(evenly_spaced(len(train), settings.classifier_stories)))
    images = np.concatenate([batch.images for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches]) if train.label_names else None
    objects = [story for batch in batches for story in batch.objects or ()] if train.has_objects else None
    if reason := untrainable_reason(len(images), train.label_names, objects):
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
