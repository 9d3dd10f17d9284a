"""Measurements of batches of stories, for every row of an evaluation.

The measurement of a story for a metric is a numerator and a denominator, and the metric is the ratio of their sums over
all stories. For SSIM they are the sum over frames and the number of frames. Frechet distances are computed from moments
of features, by groups of stories for their intervals. All measurements can be summed over batches, so the metrics do
not depend on the number of workers.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from storygan_tf.common.errors import ModelError
from storygan_tf.data.example_reader import BATCH, StoryBatch
from storygan_tf.evaluation.frame_sources import FrameSource
from storygan_tf.evaluation.judge.judge import Judge, read_judge
from storygan_tf.evaluation.judge.placed_objects import PlacedObjects
from storygan_tf.evaluation.metric_names import BACKGROUND, CHARACTER, FID, FSD, LABELS, RANDOM_STORY, REAL
from storygan_tf.evaluation.plan import Plan
from storygan_tf.metrics.consistency import consistency_counts
from storygan_tf.metrics.frechet import Moments, story_vectors
from storygan_tf.metrics.labels import StoryLabelCounts, story_label_counts
from storygan_tf.metrics.networks import Network, load_network
from storygan_tf.metrics.pixels import diversity, object_error_sums, object_mask, sharpness_sums
from storygan_tf.metrics.ssim import ssim

NETWORK_SETTINGS = {FID: "fid_network", FSD: "fsd_network", CHARACTER: "label_network"}
"""Field of `EvaluationConfig` with the path of each user-supplied network, by role."""

GROUPS = 20
"""Number of groups of stories for the intervals of Frechet distances."""

MAX_GROUPED_WIDTH = 512
"""Most features per vector for which moments are kept by group. Wider ones have one group, to save memory, and so no
interval."""

MomentsKey = tuple[str, str, int]
"""Row, metric and group of moments."""


@dataclasses.dataclass(frozen=True)
class StoryTable:
    """Measurements of single stories, the only ones that are kept for every story.

    Attributes:
        ids: ids of the stories.
        digests: SHA-256 of each story's id, sentences, frames, labels and objects.
        values: numerators and denominators, float64 `[stories, 2]`, by row and metric.
    """

    ids: tuple[str, ...]
    digests: tuple[bytes, ...]
    values: dict[tuple[str, str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class BatchMeasurements:
    """Measurements of a batch of stories.

    Attributes:
        stories: measurements of single stories.
        features: features, float32 or float64 `[samples, D]`, by row, metric and group.
        counts: int64 counts by row and name. The name `labels` has true positives, false positives and false negatives,
            `[3, L]`; the name of an attribute with K values has objects by true and detected value, `[K, K]`.
    """

    stories: StoryTable
    features: dict[MomentsKey, np.ndarray]
    counts: dict[tuple[str, str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class JudgePanel:
    """The networks of an evaluation.

    Attributes:
        domain: the domain judge; None if there is none.
        no_domain: the reason why there is no domain judge; empty if there is one.
        networks: the user-supplied networks by role.
    """

    domain: Judge | None
    no_domain: str
    networks: Mapping[str, Network]

    @classmethod
    def load(cls, plan: Plan) -> JudgePanel:
        """Loads the networks that a plan names.

        Args:
            plan: the plan of the evaluation.

        Raises:
            ModelError: if a network cannot be loaded or does not match the data.
        """
        domain, reason = read_judge(plan.judge)
        if domain is not None and plan.test.label_names and domain.label_names != plan.test.label_names:
            raise ModelError(
                f"judge {plan.judge}: detects the labels {list(domain.label_names)}, expected those of the data: "
                f"{list(plan.test.label_names)}."
            )
        paths = {role: getattr(plan.settings, setting) for role, setting in NETWORK_SETTINGS.items()}
        networks = {role: load_network(path) for role, path in paths.items() if path}
        for role, network in networks.items():
            _check_kind(network, "stories" if role == FSD else "frames", f"evaluation.{NETWORK_SETTINGS[role]}")
        if CHARACTER in networks:
            _check_labels(networks[CHARACTER], plan)
        return cls(domain, reason, networks)


def _check_kind(network: Network, expected: str, setting: str) -> None:
    if network.spec.kind != expected:
        raise ModelError(f"{setting} {network.description}: is of kind {network.spec.kind!r}, expected {expected!r}.")


def _check_labels(network: Network, plan: Plan) -> None:
    if plan.test.label_names and sorted(network.spec.labels) != sorted(plan.test.label_names):
        raise ModelError(
            f"evaluation.label_network {network.description}: detects the labels {list(network.spec.labels)}, expected "
            f"those of the data: {list(plan.test.label_names)}."
        )


class Measurer:
    """Measures the test stories of a plan. The constructor loads the judges; models are loaded when they first draw.

    Args:
        plan: the plan of the evaluation.

    Attributes:
        panel: the networks of the evaluation.

    Raises:
        ModelError: if a network cannot be loaded or does not match the data.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.panel = JudgePanel.load(plan)

    def measure(self, block: range) -> Iterator[BatchMeasurements]:
        """Yields the measurements of each batch of a block of test stories.

        Args:
            block: positions of the test stories.

        Raises:
            DataError: if records cannot be read.
            ModelError: if a source of frames fails.
        """
        for start in range(block.start, block.stop, BATCH):
            yield self._measure_batch(range(start, min(start + BATCH, block.stop)))

    def _measure_batch(self, ranks: range) -> BatchMeasurements:
        plan, true = self._plan, self._plan.test.read(ranks)
        batch = _BatchMeasurer(plan, self.panel, true)
        for name, source in plan.sources.items():
            frames = source.frames(true, plan.settings.seed)
            batch.measure(name, frames)
            batch.measure_diversity(name, source, frames)
        batch.measure(REAL, true.images)
        batch.measure(RANDOM_STORY, plan.train.read(plan.random_stories(ranks)).images)
        batch.measure(BACKGROUND, np.broadcast_to(plan.background, true.images.shape))
        return batch.measurements()


class _BatchMeasurer:
    """Collects the measurements of one batch, row by row.

    Args:
        plan: the plan of the evaluation.
        panel: its networks.
        true: the stories of the batch with their true frames.
    """

    def __init__(self, plan: Plan, panel: JudgePanel, true: StoryBatch) -> None:
        self._plan = plan
        self._panel = panel
        self._true = true
        self._images = true.images[:, plan.first_frame :]
        self._mask = object_mask(self._images, plan.background)
        self._groups = np.array([_group(name) for name in true.ids])
        self._values: dict[tuple[str, str], np.ndarray] = {}
        self._features: dict[MomentsKey, np.ndarray] = {}
        self._counts: dict[tuple[str, str], np.ndarray] = {}

    def measurements(self) -> BatchMeasurements:
        """Returns the measurements of all rows so far."""
        digests = tuple(_digest(self._true, index) for index in range(len(self._true)))
        return BatchMeasurements(StoryTable(tuple(self._true.ids), digests, self._values), self._features, self._counts)

    def measure(self, row: str, all_frames: np.ndarray) -> None:
        """Measures the frames of a row, uint8 `[stories, T, 64, 64, 3]`, including a first frame that is skipped."""
        frames = all_frames[:, self._plan.first_frame :]
        stories, T = frames.shape[:2]
        self._record(row, "ssim", ssim(self._images, frames).astype(np.float64).sum(axis=1), np.full(stories, T))
        self._record(row, "object_error", *object_error_sums(self._images, frames, self._mask))
        self._record(row, "sharpness", *sharpness_sums(self._images, frames, self._mask))
        if self._panel.domain is not None:
            self._measure_with_judge(row, frames, self._panel.domain)
        for role, network in self._panel.networks.items():
            self._measure_with_network(row, frames, role, network)

    def measure_diversity(self, row: str, source: FrameSource, frames: np.ndarray) -> None:
        """Draws a second sample of each story, if the source has one, and measures its difference from the first.

        Args:
            row: name of the row.
            source: source of the row's frames.
            frames: the first sample, uint8 `[stories, T, 64, 64, 3]`.
        """
        if source.samples > 1:
            second = source.frames(self._true, self._plan.settings.seed, sample=1)
            first = self._plan.first_frame
            self._record(row, "diversity", diversity(frames[:, first:], second[:, first:]), np.ones(len(frames)))

    def _measure_with_judge(self, row: str, frames: np.ndarray, judge: Judge) -> None:
        """Measures features, labels and objects with the domain judge.

        Args:
            row: name of the row.
            frames: evaluated frames of the row, uint8 `[stories, T, 64, 64, 3]`.
            judge: the domain judge.
        """
        detected, features = self._judge_frames(judge, row, frames)
        self._add_features(row, "fid_domain", features)
        self._add_features(row, "fsd_domain", story_vectors(features)[:, np.newaxis])
        if self._true.labels is not None:
            self._add_labels(row, detected)
        if self._true.objects is not None and judge.attributes:
            self._add_objects(row, frames, judge)

    @staticmethod
    def _judge_frames(judge: Judge, row: str, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns detected labels, bool `[stories, T, L]`, and features, float32 `[stories, T, D]`.

        All frames of the row `BACKGROUND` are equal, so only one of them is judged.
        """
        stories, T = frames.shape[:2]
        different = frames[:1, :1] if row == BACKGROUND else frames
        results = judge.judge_frames(different.reshape(-1, *frames.shape[2:]))
        by_story = (result.reshape(*different.shape[:2], -1) for result in results)
        detected, features = (np.broadcast_to(result, (stories, T, result.shape[-1])) for result in by_story)
        return detected, features

    def _add_labels(self, row: str, detected: np.ndarray) -> None:
        counts = self._label_counts(detected)
        self._record_labels(row, "label_f1", "frame_accuracy", counts, detected.shape[1])
        all_detected = np.concatenate([self._labels[:, : self._plan.first_frame], detected], axis=1)
        self._record(row, "consistency", *consistency_counts(self._labels, all_detected))
        totals = (counts.true_positives, counts.false_positives, counts.false_negatives)
        self._counts[row, LABELS] = np.stack([total.sum(axis=0) for total in totals])

    @property
    def _labels(self) -> np.ndarray:
        """True labels of all frames, 0 or 1 `[stories, T, L]`, including a first frame that is skipped."""
        return np.asarray(self._true.labels)

    def _label_counts(self, detected: np.ndarray) -> StoryLabelCounts:
        return story_label_counts(self._labels[:, self._plan.first_frame :], detected)

    def _record_labels(self, row: str, f1: str, accuracy: str, counts: StoryLabelCounts, T: int) -> None:
        twice = 2 * counts.true_positives.sum(axis=1)
        self._record(row, f1, twice, twice + (counts.false_positives + counts.false_negatives).sum(axis=1))
        self._record(row, accuracy, counts.exact, np.full(len(counts.exact), T))

    def _add_objects(self, row: str, frames: np.ndarray, judge: Judge) -> None:
        T, placed = frames.shape[1], self._placed
        if not len(placed.places):
            return
        found = judge.classify_objects(frames.reshape(-1, *frames.shape[2:]), placed.places, placed.frame_of)
        right = np.ones(len(placed.places), bool)
        for index, (attribute, names) in enumerate(judge.attributes.items()):
            true, detected = placed.values[:, index], found[attribute]
            right &= detected == true
            known = true >= 0
            matrix = np.zeros((len(names), len(names)), np.int64)
            np.add.at(matrix, (true[known], detected[known]), 1)
            self._counts[row, attribute] = matrix
        stories, count = placed.frame_of // T, len(self._true)
        numerators, denominators = np.bincount(stories, right, count), np.bincount(stories, minlength=count)
        self._record(row, "placed_accuracy", numerators, denominators)

    @functools.cached_property
    def _placed(self) -> PlacedObjects:
        """The true objects of the evaluated frames."""
        objects = [story[self._plan.first_frame :] for story in self._true.objects or ()]
        return PlacedObjects.from_stories(objects, self._panel.domain.attributes if self._panel.domain else {})

    def _measure_with_network(self, row: str, frames: np.ndarray, role: str, network: Network) -> None:
        flat = frames.reshape(-1, *frames.shape[2:])
        if role == FSD:
            self._add_features(row, "fsd", network.features(frames)[:, np.newaxis])
        elif role == FID:
            self._add_features(row, "fid", network.features(flat).reshape(*frames.shape[:2], -1))
        elif self._true.labels is not None:
            order = [network.spec.labels.index(name) for name in self._plan.test.label_names]
            detected = network.labels(flat)[:, order].reshape(*frames.shape[:2], -1)
            self._record_labels(
                row, "character_f1", "character_accuracy", self._label_counts(detected), frames.shape[1]
            )

    def _add_features(self, row: str, metric: str, features: np.ndarray) -> None:
        """Stores features, float `[stories, samples, D]`, by group of stories."""
        groups = self._groups if features.shape[-1] <= MAX_GROUPED_WIDTH else np.zeros_like(self._groups)
        for group in np.unique(groups):
            self._features[row, metric, int(group)] = features[groups == group].reshape(-1, features.shape[-1])

    def _record(self, row: str, metric: str, numerators: np.ndarray, denominators: np.ndarray) -> None:
        self._values[row, metric] = np.stack([numerators, denominators], axis=-1).astype(np.float64)


def _group(story_id: str) -> int:
    """Returns the group of a story, which depends only on its id."""
    return int.from_bytes(hashlib.sha256(story_id.encode()).digest()[:4], "big") % GROUPS


def _digest(batch: StoryBatch, index: int) -> bytes:
    """Returns the SHA-256 of a story's id, sentences, objects, frames and labels."""
    objects = None if batch.objects is None else batch.objects[index]
    digest = hashlib.sha256(repr((batch.ids[index], batch.sentences[index], objects)).encode())
    digest.update(np.ascontiguousarray(batch.images[index]).tobytes())
    if batch.labels is not None:
        digest.update(batch.labels[index].tobytes())
    return digest.digest()


@dataclasses.dataclass
class Measurements:
    """The sum of the measurements of several batches.

    Attributes:
        stories: measurements of single stories, one table per batch, in any order.
        moments: moments of features by row, metric and group.
        counts: counts as in `BatchMeasurements`, summed over batches.
    """

    stories: list[StoryTable] = dataclasses.field(default_factory=list)
    moments: dict[MomentsKey, Moments] = dataclasses.field(default_factory=dict)
    counts: dict[tuple[str, str], np.ndarray] = dataclasses.field(default_factory=dict)

    def add(self, batch: BatchMeasurements) -> None:
        """Adds the measurements of a batch."""
        self.stories.append(batch.stories)
        for key, features in batch.features.items():
            moments = Moments.from_features(features)
            self.moments[key] = self.moments[key] + moments if key in self.moments else moments
        for name, counts in batch.counts.items():
            self.counts[name] = self.counts[name] + counts if name in self.counts else counts
