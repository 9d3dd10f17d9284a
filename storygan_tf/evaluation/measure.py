"""Measures a batch of stories: what adds up over stories, for every row of an evaluation.

A figure of a story is a pair of sums: over all stories, their ratio is the figure (SSIM: sum over frames, number of
frames). Frechet distances come from moments of features, kept by groups of stories for their intervals. All of it adds
up, so that any number of workers gives the same figures.
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
from storygan_tf.evaluation.judge.placed import PlacedObjects
from storygan_tf.evaluation.metric_names import BACKGROUND, CHARACTER, FID, FSD, LABELS, RANDOM_STORY, REAL
from storygan_tf.evaluation.plan import Plan
from storygan_tf.metrics.consistency import consistency_counts
from storygan_tf.metrics.frechet import Moments, story_vectors
from storygan_tf.metrics.labels import StoryLabelCounts, story_label_counts
from storygan_tf.metrics.networks import Network, load_network
from storygan_tf.metrics.pixels import diversity, object_error_sums, object_mask, sharpness_sums
from storygan_tf.metrics.ssim import ssim

SETTINGS = {FID: "fid_network", FSD: "fsd_network", CHARACTER: "label_network"}
"""The field of `EvaluationConfig` that names each of the field's networks."""

GROUPS = 20
"""Groups of stories that moments are kept by, for the intervals of Frechet distances."""

WIDE = 512
"""Moments of wider features than this are kept in one group, for memory's sake: without an interval."""

MomentsKey = tuple[str, str, int]
"""Row, figure, group."""


@dataclasses.dataclass(frozen=True)
class StoryTable:
    """Figures of a batch's stories, one by one: the only thing that is kept of every story.

    Attributes:
        ids: their names.
        digests: SHA-256 of each story's id, sentences, frames, labels and objects.
        values: (row, figure) -> float64 [stories, 2], numerators and denominators.
    """

    ids: tuple[str, ...]
    digests: tuple[bytes, ...]
    values: dict[tuple[str, str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class BatchMeasurements:
    """What a batch gave.

    Attributes:
        stories: their figures.
        features: (row, figure, group) -> [samples, D].
        counts: (row, what) -> int64 array that adds up: `labels` -> [3, L] true positives, false positives and false
            negatives; the name of an attribute -> [K, K] objects by true and seen value.
    """

    stories: StoryTable
    features: dict[MomentsKey, np.ndarray]
    counts: dict[tuple[str, str], np.ndarray]


@dataclasses.dataclass(frozen=True)
class JudgePanel:
    """The networks that judge; a role without one is None.

    Attributes:
        domain: the domain judge.
        no_domain: why there is none; else empty.
        networks: FID's, FSD's and the label network, by role.
    """

    domain: Judge | None
    no_domain: str
    networks: Mapping[str, Network]

    @classmethod
    def load(cls, plan: Plan) -> JudgePanel:
        """Loads the networks that a plan names.

        Raises:
            ModelError: for one that cannot be loaded, or that does not fit the data.
        """
        domain, reason = read_judge(plan.judge)
        if domain is not None and plan.test.label_names and domain.label_names != plan.test.label_names:
            raise ModelError(
                f"judge {plan.judge}: tells the labels {list(domain.label_names)}, expected those of the data: "
                f"{list(plan.test.label_names)}."
            )
        paths = {role: getattr(plan.settings, setting) for role, setting in SETTINGS.items()}
        networks = {role: load_network(path) for role, path in paths.items() if path}
        for role, network in networks.items():
            _check_kind(network, "stories" if role == FSD else "frames", f"evaluation.{SETTINGS[role]}")
        if CHARACTER in networks:
            _check_labels(networks[CHARACTER], plan)
        return cls(domain, reason, networks)


def _check_kind(network: Network, expected: str, setting: str) -> None:
    if network.spec.kind != expected:
        raise ModelError(f"{setting} {network.what}: is of kind {network.spec.kind!r}, expected {expected!r}.")


def _check_labels(network: Network, plan: Plan) -> None:
    if plan.test.label_names and sorted(network.spec.labels) != sorted(plan.test.label_names):
        raise ModelError(
            f"evaluation.label_network {network.what}: tells the labels {list(network.spec.labels)}, expected those of "
            f"the data: {list(plan.test.label_names)}."
        )


class Measurer:
    """Measures test stories; loads the judges when it is made, models when they are first asked.

    Args:
        plan: the evaluation.

    Raises:
        ModelError: see `Panel.load`.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.panel = JudgePanel.load(plan)

    def measure(self, block: range) -> Iterator[BatchMeasurements]:
        """Yields what each batch of a block of test stories gives.

        Raises:
            DataError: for records that cannot be read.
            ModelError: for a source of frames that fails.
        """
        for start in range(block.start, block.stop, BATCH):
            yield self._batch(range(start, min(start + BATCH, block.stop)))

    def _batch(self, ranks: range) -> BatchMeasurements:
        plan, true = self._plan, self._plan.test.read(ranks)
        scene = _Scene(plan, self.panel, true)
        for name, source in plan.sources.items():
            frames = source.frames(true, plan.settings.seed)
            scene.add(name, frames)
            scene.add_diversity(name, source, frames)
        scene.add(REAL, true.images)
        scene.add(RANDOM_STORY, plan.train.read(plan.paired(ranks)).images)
        scene.add(BACKGROUND, np.broadcast_to(plan.background, true.images.shape))
        return scene.measured()


class _Scene:
    """One batch while it is measured."""

    def __init__(self, plan: Plan, panel: JudgePanel, true: StoryBatch) -> None:
        self._plan = plan
        self._panel = panel
        self._true = true
        self._images = true.images[:, plan.first :]
        self._mask = object_mask(self._images, plan.background)
        self._groups = np.array([_group(name) for name in true.ids])
        self._values: dict[tuple[str, str], np.ndarray] = {}
        self._features: dict[MomentsKey, np.ndarray] = {}
        self._counts: dict[tuple[str, str], np.ndarray] = {}

    def measured(self) -> BatchMeasurements:
        """Returns everything that was added."""
        digests = tuple(_digest(self._true, index) for index in range(len(self._true)))
        return BatchMeasurements(StoryTable(tuple(self._true.ids), digests, self._values), self._features, self._counts)

    def add(self, row: str, all_frames: np.ndarray) -> None:
        """Measures a row's frames, uint8 [stories, T, 64, 64, 3], T with a first frame that is not judged."""
        frames = all_frames[:, self._plan.first :]
        stories, T = frames.shape[:2]
        self._put(row, "ssim", ssim(self._images, frames).astype(np.float64).sum(axis=1), np.full(stories, T))
        self._put(row, "object_error", *object_error_sums(self._images, frames, self._mask))
        self._put(row, "sharpness", *sharpness_sums(self._images, frames, self._mask))
        if self._panel.domain is not None:
            self._add_domain(row, frames, self._panel.domain)
        for role, network in self._panel.networks.items():
            self._add_network(row, frames, role, network)

    def add_diversity(self, row: str, source: FrameSource, frames: np.ndarray) -> None:
        """Draws a second sample of each story and compares it with the first."""
        if source.samples > 1:
            second = source.frames(self._true, self._plan.settings.seed, sample=1)
            first = self._plan.first
            self._put(row, "diversity", diversity(frames[:, first:], second[:, first:]), np.ones(len(frames)))

    def _add_domain(self, row: str, frames: np.ndarray, judge: Judge) -> None:
        seen, features = self._looked(judge, row, frames)
        self._add_features(row, "fid_domain", features)
        self._add_features(row, "fsd_domain", story_vectors(features)[:, np.newaxis])
        if self._true.labels is not None:
            self._add_labels(row, seen)
        if self._true.objects is not None and judge.attributes:
            self._add_objects(row, frames, judge)

    @staticmethod
    def _looked(judge: Judge, row: str, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns seen labels [stories, T, L] and features [stories, T, D]; the one background is looked at once."""
        stories, T = frames.shape[:2]
        shown = frames[:1, :1] if row == BACKGROUND else frames
        answers = (answer.reshape(*shown.shape[:2], -1) for answer in judge.look(shown.reshape(-1, *frames.shape[2:])))
        seen, features = (np.broadcast_to(answer, (stories, T, answer.shape[-1])) for answer in answers)
        return seen, features

    def _add_labels(self, row: str, seen: np.ndarray) -> None:
        counts = self._label_counts(seen)
        self._put_labels(row, "label_f1", "frame_accuracy", counts, seen.shape[1])
        shown = np.concatenate([self._labels[:, : self._plan.first], seen], axis=1)
        self._put(row, "consistency", *consistency_counts(self._labels, shown))
        totals = (counts.true_positives, counts.false_positives, counts.false_negatives)
        self._counts[row, LABELS] = np.stack([total.sum(axis=0) for total in totals])

    @property
    def _labels(self) -> np.ndarray:
        """Of all frames, bool [stories, T, L], the first frame included."""
        return np.asarray(self._true.labels)

    def _label_counts(self, seen: np.ndarray) -> StoryLabelCounts:
        return story_label_counts(self._labels[:, self._plan.first :], seen)

    def _put_labels(self, row: str, f1: str, accuracy: str, counts: StoryLabelCounts, T: int) -> None:
        twice = 2 * counts.true_positives.sum(axis=1)
        self._put(row, f1, twice, twice + (counts.false_positives + counts.false_negatives).sum(axis=1))
        self._put(row, accuracy, counts.exact, np.full(len(counts.exact), T))

    def _add_objects(self, row: str, frames: np.ndarray, judge: Judge) -> None:
        T, placed = frames.shape[1], self._placed
        if not len(placed.places):
            return
        seen = judge.objects(frames.reshape(-1, *frames.shape[2:]), placed.places, placed.frame_of)
        right = np.ones(len(placed.places), bool)
        for index, (attribute, names) in enumerate(judge.attributes.items()):
            true, told = placed.values[:, index], seen[attribute]
            right &= told == true
            known = true >= 0
            matrix = np.zeros((len(names), len(names)), np.int64)
            np.add.at(matrix, (true[known], told[known]), 1)
            self._counts[row, attribute] = matrix
        stories, count = placed.frame_of // T, len(self._true)
        numerators, denominators = np.bincount(stories, right, count), np.bincount(stories, minlength=count)
        self._put(row, "placed_accuracy", numerators, denominators)

    @functools.cached_property
    def _placed(self) -> PlacedObjects:
        """The objects of the judged frames."""
        objects = [story[self._plan.first :] for story in self._true.objects or ()]
        return PlacedObjects.of(objects, self._panel.domain.attributes if self._panel.domain else {})

    def _add_network(self, row: str, frames: np.ndarray, role: str, network: Network) -> None:
        flat = frames.reshape(-1, *frames.shape[2:])
        if role == FSD:
            self._add_features(row, "fsd", network.features(frames)[:, np.newaxis])
        elif role == FID:
            self._add_features(row, "fid", network.features(flat).reshape(*frames.shape[:2], -1))
        elif self._true.labels is not None:
            order = [network.spec.labels.index(name) for name in self._plan.test.label_names]
            seen = network.labels(flat)[:, order].reshape(*frames.shape[:2], -1)
            self._put_labels(row, "character_f1", "character_accuracy", self._label_counts(seen), frames.shape[1])

    def _add_features(self, row: str, figure: str, features: np.ndarray) -> None:
        """Keeps features [stories, samples, D] by group of stories."""
        groups = self._groups if features.shape[-1] <= WIDE else np.zeros_like(self._groups)
        for group in np.unique(groups):
            self._features[row, figure, int(group)] = features[groups == group].reshape(-1, features.shape[-1])

    def _put(self, row: str, figure: str, numerators: np.ndarray, denominators: np.ndarray) -> None:
        self._values[row, figure] = np.stack([numerators, denominators], axis=-1).astype(np.float64)


def _group(story_id: str) -> int:
    return int.from_bytes(hashlib.sha256(story_id.encode()).digest()[:4], "big") % GROUPS


def _digest(batch: StoryBatch, index: int) -> bytes:
    objects = None if batch.objects is None else batch.objects[index]
    digest = hashlib.sha256(repr((batch.ids[index], batch.sentences[index], objects)).encode())
    digest.update(np.ascontiguousarray(batch.images[index]).tobytes())
    if batch.labels is not None:
        digest.update(batch.labels[index].tobytes())
    return digest.digest()


@dataclasses.dataclass
class Measurements:
    """Everything measured so far.

    Attributes:
        stories: of every batch, in any order.
        moments: of features, by row, figure and group.
        counts: see `BatchMeasurements`.
    """

    stories: list[StoryTable] = dataclasses.field(default_factory=list)
    moments: dict[MomentsKey, Moments] = dataclasses.field(default_factory=dict)
    counts: dict[tuple[str, str], np.ndarray] = dataclasses.field(default_factory=dict)

    def add(self, measured: BatchMeasurements) -> None:
        """Adds what a batch gave."""
        self.stories.append(measured.stories)
        for key, features in measured.features.items():
            moments = Moments.of(features)
            self.moments[key] = self.moments[key] + moments if key in self.moments else moments
        for name, counts in measured.counts.items():
            self.counts[name] = self.counts[name] + counts if name in self.counts else counts
