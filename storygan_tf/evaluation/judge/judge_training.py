"""Training of a judge on the true frames of a data set, of which a part is held out to measure the judge itself.

The label network learns from few frames for two reasons: its input is the difference from the median background, and
its logits are soft maxima over places (`storygan_tf.evaluation.judge.network`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from storygan_tf.evaluation.judge.fitting import Fit, FitSettings, LabelFit, ObjectFit
from storygan_tf.evaluation.judge.judge import Judge
from storygan_tf.evaluation.judge.network import LabelNetwork, ObjectNetwork
from storygan_tf.evaluation.judge.placed_objects import Objects, PlacedObjects, attributes_of
from storygan_tf.metrics.labels import count_labels

HELD_OUT = 8
"""One of this many stories is held out. Fewer stories are too few to train a judge."""

FEATURE_VARIANCE = 100.0
"""Sum of the features' variances over the training frames, to which features are scaled for readable distances."""

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
    """Trains a judge. On one machine, the same arguments give the same judge.

    If there are no labels, the label network is trained to detect which values of attributes occur in a frame, so that
    it has features.

    Args:
        images: uint8 `[stories, T, 64, 64, 3]`, at least `HELD_OUT` stories.
        labels: 0 or 1, `[stories, T, L]`, or None.
        label_names: L names; empty if there are no labels.
        objects: the objects of each frame with their places in pixels, or None.
        background: uint8 `[64, 64, 3]`, the median background of the training frames.
        seed: seed of initial weights, order and augmentation, and of the choice of held-out stories.
        epochs: number of passes over the frames and over their objects.
        progress: function that is called after each epoch with the numbers of finished and of all epochs.

    Raises:
        ValueError: if `untrainable_reason` returns a reason, or the labels do not match their names.
    """
    shape = (*images.shape[:2], len(label_names))
    if label_names and (labels is None or labels.shape != shape):
        raise ValueError(f"judge: found labels {None if labels is None else labels.shape}, expected {shape}.")
    stories = _Stories(images, labels if label_names else None, objects)
    random = np.random.default_rng(seed)
    held_out, used = map(stories.subset, np.split(random.permutation(len(images)), [len(images) // HELD_OUT]))
    if reason := untrainable_reason(len(images), label_names, used.objects):
        raise ValueError(f"judge: {reason}.")
    attributes = attributes_of(used.objects or ())
    fits = _create_fits(used, attributes, FitSettings(background, epochs, seed, random))
    for epoch in range(1, epochs + 1):
        for fit in fits:
            fit.run_epoch()
        if progress:
            progress(epoch, epochs)
    networks = tf.Module()
    networks.labels = LabelNetwork(fits[0].layers(), background)
    _scale_features(networks.labels, used.frames)
    if attributes:
        networks.objects = ObjectNetwork(fits[1].layers(), background)
    description = f"trained on {len(used.frames):,} frames of the data set's training stories"
    judge = Judge(description, tuple(label_names), attributes, {}, networks)
    metrics = judge_metrics(judge, held_out.images, held_out.labels, held_out.objects)
    return dataclasses.replace(judge, held_out=metrics | {"training_frames": float(len(used.frames))})


def untrainable_reason(stories: int, label_names: Sequence[str], objects: Objects | None) -> str:
    """Returns the reason why no judge can be trained on stories, or an empty text if one can.

    Args:
        stories: number of training stories.
        label_names: names of the labels; empty if there are none.
        objects: objects of the stories, or None.
    """
    if not label_names and not attributes_of(objects or ()):
        return "the data has neither labels nor objects"
    if stories < HELD_OUT:
        return f"{stories} training stories are too few to train a judge (at least {HELD_OUT})"
    return ""


def judge_metrics(
    judge: Judge, images: np.ndarray, labels: np.ndarray | None, objects: Objects | None
) -> dict[str, float]:
    """Returns the metrics of frames by a judge.

    Args:
        judge: the judge.
        images: uint8 `[stories, T, 64, 64, 3]`.
        labels: true labels, 0 or 1 `[stories, T, L]`, or None.
        objects: true objects, or None.

    Returns:
        `label_f1`, `frame_accuracy` and `placed_accuracy` (the fraction of objects that are right in every attribute),
        each in [0, 1] and only if it applies.
    """
    metrics: dict[str, float] = {}
    frames = images.reshape(-1, *images.shape[2:])
    if labels is not None and judge.label_names:
        counts = count_labels(labels.reshape(len(frames), -1), judge.judge_frames(frames)[0])
        metrics |= {"label_f1": counts.f1, "frame_accuracy": counts.frame_accuracy}
    placed = PlacedObjects.from_stories(objects or (), judge.attributes)
    if judge.attributes and len(placed.places):
        detected = judge.classify_objects(frames, placed.places, placed.frame_of)
        right = np.stack(list(detected.values()), axis=1) == placed.values
        metrics["placed_accuracy"] = float(right.all(axis=1).mean())
    return metrics


@dataclasses.dataclass(frozen=True)
class _Stories:
    """The stories that `train_judge` takes, with attributes like its arguments."""

    images: np.ndarray
    labels: np.ndarray | None
    objects: Objects | None

    def subset(self, indices: np.ndarray) -> _Stories:
        """Returns the stories with these indices, int `[n]`."""
        return _Stories(
            self.images[indices],
            None if self.labels is None else self.labels[indices],
            None if self.objects is None else [self.objects[index] for index in indices],
        )

    @property
    def frames(self) -> np.ndarray:
        """All frames, uint8 `[stories * T, 64, 64, 3]`."""
        return self.images.reshape(-1, *self.images.shape[2:])


def _create_fits(stories: _Stories, attributes: Mapping[str, tuple[str, ...]], settings: FitSettings) -> list[Fit]:
    """Returns the training of the label network and, if there are attributes, that of the object network."""
    frames = stories.frames
    placed = PlacedObjects.from_stories(stories.objects or (), attributes)
    sizes = [len(names) for names in attributes.values()]
    targets = _attribute_targets(placed, sizes, len(frames)) if stories.labels is None else stories.labels
    fits: list[Fit] = [LabelFit(frames, targets.reshape(len(frames), -1).astype(np.float32), settings)]
    if attributes:
        fits.append(ObjectFit(frames, placed, sizes, settings))
    return fits


def _attribute_targets(placed: PlacedObjects, sizes: Sequence[int], frames: int) -> np.ndarray:
    """Returns which values of attributes the objects of each frame have, bool `[frames, values]`."""
    starts = np.cumsum([0, *sizes])
    targets = np.zeros((frames, starts[-1]), bool)
    targets[placed.frame_of[:, np.newaxis], placed.values + starts[:-1]] = True
    return targets


def _scale_features(network: LabelNetwork, frames: np.ndarray) -> None:
    """Sets the scale of a network's features so that their variances over frames sum to `FEATURE_VARIANCE`.

    Args:
        network: the label network.
        frames: uint8 `[n, 64, 64, 3]`.
    """
    features = [network(frames[start : start + _BATCH])[1] for start in range(0, len(frames), _BATCH)]
    variance = float(np.concatenate(features).var(axis=0).sum())
    if variance > 0:
        network.scale.assign((FEATURE_VARIANCE / variance) ** 0.5)
