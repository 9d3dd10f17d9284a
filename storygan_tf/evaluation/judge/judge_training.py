"""Trains a judge on real frames of the data set that it judges; a part of the stories is held out for its own figures.

Two things make the label network learn from few frames: it sees the difference from the median background, and its
logit is a soft maximum over places (`storygan_tf.evaluation.judge.network`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from storygan_tf.evaluation.judge.fitting import Course, Fit, LabelFit, ObjectFit
from storygan_tf.evaluation.judge.judge import Judge
from storygan_tf.evaluation.judge.network import LabelNetwork, ObjectNetwork
from storygan_tf.evaluation.judge.placed import Objects, PlacedObjects, attributes_of
from storygan_tf.metrics.labels import count_labels

HELD_OUT = 8
"""One of so many stories is held out; fewer stories are too few."""

FEATURE_VARIANCE = 100.0
"""Sum of the features' variances over the training frames, so that Frechet distances are numbers to read."""

_BATCH = 128


def train_judge(  # noqa: PLR0917
    images: np.ndarray,
    labels: np.ndarray | None,
    label_names: Sequence[str],
    objects: Objects | None,
    background: np.ndarray,
    seed: int,
    epochs: int,
    progress: Callable[[int, int], None] | None = None,
) -> Judge:
    """Trains a judge; the same arguments give the same judge (on one machine).

    Without labels, the features are those of a network that was taught which values of attributes a frame shows.

    Args:
        images: `[stories, T, 64, 64, 3]`, uint8; at least `HELD_OUT` stories.
        labels: `[stories, T, L]`, 0 or 1, or None.
        label_names: L names; empty without labels.
        objects: what stands where in each frame, x and y in pixels, or None.
        background: `[64, 64, 3]`, uint8, the median background of training frames.
        seed: of initial weights, order and augmentation, and of which stories are held out.
        epochs: passes over the frames, and over their objects.
        progress: is called with the passes done and all passes.

    Raises:
        ValueError: where `untrainable` says why, or where labels do not fit their names.
    """
    shape = (*images.shape[:2], len(label_names))
    if label_names and (labels is None or labels.shape != shape):
        raise ValueError(f"judge: found labels {None if labels is None else labels.shape}, expected {shape}.")
    stories = _Stories(images, labels if label_names else None, objects)
    random = np.random.default_rng(seed)
    held_out, used = map(stories.part, np.split(random.permutation(len(images)), [len(images) // HELD_OUT]))
    if reason := untrainable(len(images), label_names, used.objects):
        raise ValueError(f"judge: {reason}.")
    attributes = attributes_of(used.objects or ())
    fits = _fits(used, attributes, Course(background, epochs, seed, random))
    for epoch in range(1, epochs + 1):
        for fit in fits:
            fit.epoch()
        if progress:
            progress(epoch, epochs)
    networks = tf.Module()
    networks.labels = _scaled(LabelNetwork(fits[0].layers(), background), used.frames)
    if attributes:
        networks.objects = ObjectNetwork(fits[1].layers(), background)
    what = f"trained on {len(used.frames):,} frames of the data set's training stories"
    judge = Judge(what, tuple(label_names), attributes, {}, networks)
    figures = judge_figures(judge, held_out.images, held_out.labels, held_out.objects)
    return dataclasses.replace(judge, held_out=figures | {"training_frames": float(len(used.frames))})


def untrainable(stories: int, label_names: Sequence[str], objects: Objects | None) -> str:
    """Returns why no judge can be trained on so many stories with such labels and objects; empty where one can."""
    if not label_names and not attributes_of(objects or ()):
        return "the data has neither labels nor objects"
    if stories < HELD_OUT:
        return f"{stories} training stories are too few to train a judge (at least {HELD_OUT})"
    return ""


def judge_figures(
    judge: Judge, images: np.ndarray, labels: np.ndarray | None, objects: Objects | None
) -> dict[str, float]:
    """Returns how frames are judged.

    Args:
        judge: the judge.
        images: `[stories, T, 64, 64, 3]`, uint8.
        labels: true ones, `[stories, T, L]`, or None.
        objects: true ones, or None.

    Returns:
        `label_f1`, `frame_accuracy` and `placed_accuracy` (right in every attribute), 0..1, where they apply.
    """
    figures: dict[str, float] = {}
    frames = images.reshape(-1, *images.shape[2:])
    if labels is not None and judge.label_names:
        counts = count_labels(labels.reshape(len(frames), -1), judge.look(frames)[0])
        figures |= {"label_f1": counts.f1, "frame_accuracy": counts.frame_accuracy}
    placed = PlacedObjects.of(objects or (), judge.attributes)
    if judge.attributes and len(placed.places):
        seen = judge.objects(frames, placed.places, placed.frame_of)
        right = np.stack(list(seen.values()), axis=1) == placed.values
        figures["placed_accuracy"] = float(right.all(axis=1).mean())
    return figures


@dataclasses.dataclass(frozen=True)
class _Stories:
    """Stories to train on, as `train_judge` takes them."""

    images: np.ndarray
    labels: np.ndarray | None
    objects: Objects | None

    def part(self, chosen: np.ndarray) -> _Stories:
        """Returns the chosen stories."""
        return _Stories(
            self.images[chosen],
            None if self.labels is None else self.labels[chosen],
            None if self.objects is None else [self.objects[index] for index in chosen],
        )

    @property
    def frames(self) -> np.ndarray:
        """All frames, `[stories * T, 64, 64, 3]`."""
        return self.images.reshape(-1, *self.images.shape[2:])


def _fits(stories: _Stories, attributes: Mapping[str, tuple[str, ...]], course: Course) -> list[Fit]:
    """Returns the trainings: of the label network and, where there are attributes, of the object network."""
    frames = stories.frames
    placed = PlacedObjects.of(stories.objects or (), attributes)
    sizes = [len(names) for names in attributes.values()]
    targets = _shown(placed, sizes, len(frames)) if stories.labels is None else stories.labels
    fits: list[Fit] = [LabelFit(frames, targets.reshape(len(frames), -1).astype(np.float32), course)]
    if attributes:
        fits.append(ObjectFit(frames, placed, sizes, course))
    return fits


def _shown(placed: PlacedObjects, sizes: Sequence[int], frames: int) -> np.ndarray:
    """Returns which values of attributes the objects of each frame have, bool `[frames, values]`."""
    starts = np.cumsum([0, *sizes])
    shown = np.zeros((frames, starts[-1]), bool)
    shown[placed.frame_of[:, np.newaxis], placed.values + starts[:-1]] = True
    return shown


def _scaled(network: LabelNetwork, frames: np.ndarray) -> LabelNetwork:
    """Sets the scale of a network's features by what they are on real frames."""
    features = [network(frames[start : start + _BATCH])[1] for start in range(0, len(frames), _BATCH)]
    variance = float(np.concatenate(features).var(axis=0).sum())
    if variance > 0:
        network.scale.assign((FEATURE_VARIANCE / variance) ** 0.5)
    return network
