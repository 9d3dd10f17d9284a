"""Judges a generator: figures beside baselines that expose a bad one, and the checks that it must pass to be pushed.

The same model, stories and settings give the same JSON, byte for byte. Stories are taken in the order of their ids,
their noise is a function of the evaluation's seed and their id, and frames are in memory a batch at a time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from storygan_tf.config import EvaluationConfig
from storygan_tf.errors import DataError, ModelError
from storygan_tf.metrics.baselines import evenly, median_background, random_other
from storygan_tf.metrics.classifier import HELD_OUT, LabelClassifier, train_label_classifier
from storygan_tf.metrics.labels import LabelCounts, count_labels
from storygan_tf.metrics.ssim import ssim
from storygan_tf.story_records import BATCH, StoryBatch, StoryRecords

Generate = Callable[[Sequence[Sequence[str]], Sequence[int]], np.ndarray]
"""Draws stories: [batch] of T sentences each and [batch] seeds -> uint8 [batch, T, 64, 64, 3]."""

TRUSTED_CEILING = 0.95
"""Label figures of a judge whose F1 on real test frames is lower are called untrusted."""

BACKGROUND_STORIES = 500
"""The median background is taken over so many training stories at the most, evenly chosen."""

MODEL, REAL, RANDOM_STORY, BACKGROUND = "model", "real_frames", "random_story", "median_background"

_DESCRIPTIONS = {
    MODEL: "the model, given the sentences and a seed",
    REAL: "the true test frames themselves (ceiling)",
    RANDOM_STORY: "the true frames of a random other test story",
    BACKGROUND: "the median background of the training frames (floor)",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """Figures of one source of frames over all test stories.

    Attributes:
        name: `model`, `real_frames`, `random_story` or `median_background`.
        what: the same in words.
        ssim: mean over frames, -1..1; 1 by definition for the true frames.
        label_f1: micro F1 of what the judge sees in the frames, 0..1; None without a judge.
        frame_accuracy: fraction of frames of which the judge sees every label right; None without a judge.
    """

    name: str
    what: str
    ssim: float
    label_f1: float | None
    frame_accuracy: float | None


@dataclasses.dataclass(frozen=True)
class Judge:
    """Who told the labels.

    Attributes:
        fingerprint: SHA-256 of its weights.
        training_frames: real training frames that it was trained on.
        held_out_f1: its micro F1 on real training frames that were held out.
        held_out_frame_accuracy: the same of its frame accuracy.
        trusted: whether its F1 on real test frames reaches `TRUSTED_CEILING`.
    """

    fingerprint: str
    training_frames: int
    held_out_f1: float
    held_out_frame_accuracy: float
    trusted: bool


@dataclasses.dataclass(frozen=True)
class Check:
    """A threshold and how the model stands to it.

    Attributes:
        name: the field of `EvaluationConfig`.
        value: what must be more than `threshold`; None where it could not be told.
        threshold: as configured.
        passed: None where the threshold does not apply.
        why: the result in a sentence.
    """

    name: str
    value: float | None
    threshold: float
    passed: bool | None
    why: str


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was found about a model.

    Attributes:
        rows: figures of the model and of what it is compared with.
        checks: the thresholds.
        judge: of the labels; None where `no_labels` says why there are no label figures.
        no_labels: empty where there is a judge.
        label_names: of the labels.
        given: what the model was given to draw from.
        split: of which the stories are.
        stories: judged.
        frames: of a story.
        seed: of noise, random stories and judge.
    """

    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    judge: Judge | None
    no_labels: str
    label_names: tuple[str, ...]
    stories: int
    frames: int
    seed: int
    given: str = "text"
    split: str = "test"

    @property
    def blessed(self) -> bool:
        """Whether every threshold that applies is passed, and at least one does apply."""
        results = [check.passed for check in self.checks if check.passed is not None]
        return bool(results) and all(results)

    @property
    def reason(self) -> str:
        """Why the model is or is not blessed, in a line."""
        failed = [check.why for check in self.checks if check.passed is False]
        if failed:
            return " ".join(failed)
        return " ".join(check.why for check in self.checks) or "No threshold applies."

    def row(self, name: str) -> Row | None:
        """Returns the row of that name, None where there is none."""
        return next((row for row in self.rows if row.name == name), None)

    def to_json(self) -> str:
        """Returns everything as JSON, with sorted keys."""
        values: dict[str, Any] = dataclasses.asdict(self) | {"blessed": self.blessed, "reason": self.reason}
        return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"


def evaluate(generate: Generate, train: StoryRecords, test: StoryRecords, settings: EvaluationConfig) -> Evaluation:
    """Judges a generator on the test stories.

    Args:
        generate: draws stories, such as `SavedStoryGAN.generate`.
        train: training stories, for the median background and the judge.
        test: stories that neither the generator nor the judge was trained on.
        settings: seed, thresholds and the judge's training.

    Raises:
        DataError: where training and test stories do not fit each other.
        ModelError: where the generator fails or gives something else than frames.
    """
    _check_alike(train, test)
    draw(generate, test.read(range(min(BATCH, len(test)))), settings.seed)  # fails before the judge is trained
    background = median_background(batch.images for batch in train.batches(evenly(len(train), BACKGROUND_STORIES)))
    classifier, no_labels = _judge(train, background, settings)
    sums = _judged(generate, test, background, classifier, settings.seed)
    rows = tuple(total.row(name) for name, total in sums.items())
    judge = None if classifier is None else _judge_figures(classifier, rows)
    checks = (_check_ssim(rows, settings), _check_f1(rows, settings, no_labels))
    return Evaluation(
        rows, checks, judge, no_labels, test.label_names, stories=len(test), frames=test.frames, seed=settings.seed
    )


def story_seed(seed: int, story_id: str) -> int:
    """Returns the seed of a story's noise, 0..2^62: its own, whatever other stories there are."""
    digest = hashlib.sha256(f"{seed}:{story_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def draw(generate: Generate, batch: StoryBatch, seed: int) -> np.ndarray:
    """Draws a batch of stories and checks what came.

    Args:
        generate: see `Generate`.
        batch: its ids and sentences are used.
        seed: of the evaluation.

    Returns:
        uint8 `[stories, T, 64, 64, 3]`.

    Raises:
        ModelError: where the generator fails or gives something else.
    """
    where = f"model, asked for stories {batch.ids[0]} to {batch.ids[-1]}"
    try:
        frames = np.asarray(generate(batch.sentences, [story_seed(seed, name) for name in batch.ids]))
    except (ModelError, tf.errors.OpError) as error:
        raise ModelError(f"{where}: {getattr(error, 'message', error)}") from error
    if frames.shape != batch.images.shape:
        raise ModelError(f"{where}: found frames of shape {frames.shape}, expected {batch.images.shape}.")
    if np.issubdtype(frames.dtype, np.floating) and not np.isfinite(frames).all():
        raise ModelError(f"{where}: found values that are not numbers (NaN or infinite), expected frames of uint8.")
    if frames.dtype != np.uint8:
        raise ModelError(f"{where}: found frames of {frames.dtype}, expected uint8, 0 to 255.")
    return frames


def _check_alike(train: StoryRecords, test: StoryRecords) -> None:
    if train.frames != test.frames or train.label_names != test.label_names:
        raise DataError(
            f"test stories: found {test.frames} frames and labels {list(test.label_names)}, expected {train.frames} "
            f"and {list(train.label_names)} as in the training stories."
        )


def _judge(
    train: StoryRecords, background: np.ndarray, settings: EvaluationConfig
) -> tuple[LabelClassifier | None, str]:
    """Returns the label classifier, or None and why there is none."""
    if not train.label_names:
        return None, "the data has no labels"
    if len(train) < HELD_OUT:
        return None, f"{len(train)} training stories are too few to train a judge (at least {HELD_OUT})"
    batches = list(train.batches(evenly(len(train), settings.classifier_stories)))
    images, labels = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("images", "labels"))
    return train_label_classifier(images, labels, background, settings.seed, settings.classifier_epochs), ""


class _Sums:
    """What adds up over the batches of one row."""

    def __init__(self) -> None:
        self.ssim = 0.0
        self.frames = 0
        self.labels: LabelCounts | None = None

    def add(self, true: StoryBatch, frames: np.ndarray, classifier: LabelClassifier | None) -> None:
        self.ssim += float(ssim(true.images, frames).astype(np.float64).sum())
        self.frames += frames.shape[0] * frames.shape[1]
        if classifier is not None and true.labels is not None:
            counts = count_labels(true.labels, classifier.predict(frames))
            self.labels = counts if self.labels is None else self.labels + counts

    def row(self, name: str) -> Row:
        f1, accuracy = (None, None) if self.labels is None else (self.labels.f1, self.labels.frame_accuracy)
        return Row(name, _DESCRIPTIONS[name], _rounded(self.ssim / self.frames), _rounded(f1), _rounded(accuracy))


def _judged(
    generate: Generate, test: StoryRecords, background: np.ndarray, classifier: LabelClassifier | None, seed: int
) -> dict[str, _Sums]:
    names = (MODEL, REAL, RANDOM_STORY, BACKGROUND) if len(test) > 1 else (MODEL, REAL, BACKGROUND)
    sums = {name: _Sums() for name in names}
    others = random_other(len(test), seed) if len(test) > 1 else np.arange(len(test))
    for start in range(0, len(test), BATCH):
        chosen = range(start, min(start + BATCH, len(test)))
        batch = test.read(chosen)
        frames = {
            MODEL: draw(generate, batch, seed),
            REAL: batch.images,
            RANDOM_STORY: test.read(others[chosen]).images,
            BACKGROUND: np.broadcast_to(background, batch.images.shape),
        }
        for name, total in sums.items():
            total.add(batch, frames[name], classifier)
    return sums


def _judge_figures(classifier: LabelClassifier, rows: Sequence[Row]) -> Judge:
    ceiling = _figure(rows, REAL, "label_f1")
    return Judge(
        fingerprint=classifier.fingerprint,
        training_frames=classifier.training_frames,
        held_out_f1=_rounded(classifier.held_out.f1),
        held_out_frame_accuracy=_rounded(classifier.held_out.frame_accuracy),
        trusted=ceiling is not None and ceiling >= TRUSTED_CEILING,
    )


def _check_ssim(rows: Sequence[Row], settings: EvaluationConfig) -> Check:
    name, threshold = "min_ssim_over_random", settings.min_ssim_over_random
    model, other = _figure(rows, MODEL, "ssim"), _figure(rows, RANDOM_STORY, "ssim")
    if model is None or other is None:
        return Check(
            name, None, threshold, False, "SSIM: one test story has no other to compare with; give two or more."
        )
    return _check(name, "SSIM", model, "a random other real story", other, threshold=threshold)


def _check_f1(rows: Sequence[Row], settings: EvaluationConfig, no_labels: str) -> Check:
    name, threshold = "min_f1_over_floor", settings.min_f1_over_floor
    model, floor = _figure(rows, MODEL, "label_f1"), _figure(rows, BACKGROUND, "label_f1")
    if model is None or floor is None:
        return Check(name, None, threshold, None, f"Label F1: absent, its threshold does not apply: {no_labels}.")
    return _check(name, "Label F1", model, "the median background", floor, threshold=threshold)


def _check(name: str, figure: str, value: float, baseline: str, other: float, *, threshold: float) -> Check:
    """Passes where `value` is above `other` by more than `threshold`: a model that equals its baseline never does."""
    above = _rounded(value - other)
    passed = above > threshold
    verdict = "more than" if passed else "not more than"
    why = f"{figure} {value:.3f} against {other:.3f} of {baseline}: {above:+.3f}, {verdict} the {threshold:+.3f} asked."
    return Check(name, above, threshold, passed, why)


def _figure(rows: Sequence[Row], name: str, figure: str) -> float | None:
    return next((getattr(row, figure) for row in rows if row.name == name), None)


def _rounded(value: Any) -> Any:
    """Six digits: more than the figures carry, less than what differs between machines."""
    return None if value is None else round(float(value), 6)
