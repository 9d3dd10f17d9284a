"""The domain's label classifier tells which labels a frame shows.

A small convolutional network with one sigmoid a label, trained on real training frames of the data set that it judges;
a part of the stories is held out for its own figures. Two things make it learn from few frames: it sees the difference
from the median background, and a label's logit is the soft maximum of a map of logits, for a label says that something
is there, not where. It judges pictures and never enters a training loss.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from storygan_tf.metrics.labels import LabelCounts, count_labels

HELD_OUT = 8
"""One of so many stories is held out."""

_BATCH = 16
_PREDICT_BATCH = 128
_WIDTHS_AND_STRIDES = ((24, 2), (48, 1), (48, 2), (96, 1))
_LEARNING_RATE = 3e-3
_SHIFT = 5.0
_ZOOM = 0.15
_CONTRAST = 64.0


@dataclasses.dataclass(frozen=True)
class LabelClassifier:
    """A trained classifier.

    Attributes:
        network: frames as `_prepared` makes them -> logits `[frames, labels]`.
        background: `[height, width, 3]`, uint8, what is subtracted from a frame.
        training_frames: how many frames it was trained on.
        held_out: its counts on the frames that were held out.
    """

    network: tf.keras.Model
    background: np.ndarray
    training_frames: int
    held_out: LabelCounts

    def predict(self, frames: np.ndarray) -> np.ndarray:
        """Returns which labels each frame shows.

        Args:
            frames: `[..., height, width, 3]`, uint8.

        Returns:
            bool `[..., labels]`.
        """
        return _predict(self.network, self.background, frames)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the background and all weights: the judge's name in a report."""
        digest = hashlib.sha256(self.background.tobytes())
        for weight in self.network.get_weights():
            digest.update(weight.tobytes())
        return digest.hexdigest()


def train_label_classifier(
    stories: np.ndarray, labels: np.ndarray, background: np.ndarray, seed: int, epochs: int
) -> LabelClassifier:
    """Trains a classifier on real frames; the same arguments give the same classifier (on one machine).

    Args:
        stories: `[stories, frames, height, width, 3]`, uint8; at least `HELD_OUT` stories.
        labels: `[stories, frames, labels]`, 0 or 1.
        background: `[height, width, 3]`, uint8, the median background of training frames.
        seed: of initial weights, order and augmentation, and of which stories are held out.
        epochs: passes over the frames.

    Raises:
        ValueError: for fewer than `HELD_OUT` stories.
    """
    if len(stories) < HELD_OUT:
        raise ValueError(f"label classifier: found {len(stories)} stories, expected at least {HELD_OUT}.")
    random = np.random.default_rng(seed)
    order = random.permutation(len(stories))
    held_out, used = np.split(order, [len(stories) // HELD_OUT])
    frames = stories[used].reshape(-1, *stories.shape[2:])
    targets = labels[used].reshape(-1, labels.shape[-1]).astype(np.float32)
    network = _network(background.shape, labels.shape[-1], seed)
    _fit(network, _prepared(frames, background), targets, epochs, random)
    counts = count_labels(labels[held_out], _predict(network, background, stories[held_out]))
    return LabelClassifier(network, background, len(frames), counts)


def _network(shape: tuple[int, ...], labels: int, seed: int) -> tf.keras.Model:
    inputs = tf.keras.Input(shape)
    hidden = inputs
    for index, (width, stride) in enumerate(_WIDTHS_AND_STRIDES):
        weights = tf.keras.initializers.HeNormal(seed=seed + index)
        hidden = tf.keras.layers.Conv2D(width, 3, stride, padding="same", use_bias=False, kernel_initializer=weights)(
            hidden
        )
        hidden = tf.keras.layers.BatchNormalization(momentum=0.9)(hidden)
        hidden = tf.keras.layers.ReLU()(hidden)
    weights = tf.keras.initializers.HeNormal(seed=seed + len(_WIDTHS_AND_STRIDES))
    maps = tf.keras.layers.Conv2D(labels, 1, kernel_initializer=weights)(hidden)
    return tf.keras.Model(inputs, tf.keras.layers.Lambda(_soft_maximum)(maps))


def _soft_maximum(maps: tf.Tensor) -> tf.Tensor:
    """`[frames, height, width, labels]` -> `[frames, labels]`: log of the mean exponential over the places."""
    places = tf.cast(tf.reduce_prod(tf.shape(maps)[1:3]), maps.dtype)
    return tf.reduce_logsumexp(maps, axis=[1, 2]) - tf.math.log(places)


def _prepared(frames: np.ndarray, background: np.ndarray) -> tf.Tensor:
    return (tf.cast(frames, tf.float32) - tf.cast(background, tf.float32)) / _CONTRAST


def _predict(network: tf.keras.Model, background: np.ndarray, frames: np.ndarray) -> np.ndarray:
    flat = frames.reshape(-1, *frames.shape[-3:])
    parts = (flat[start : start + _PREDICT_BATCH] for start in range(0, len(flat), _PREDICT_BATCH))
    logits = [network(_prepared(part, background), training=False).numpy() for part in parts]
    return np.asarray(np.concatenate(logits).reshape(*frames.shape[:-3], -1) > 0)


def _fit(
    network: tf.keras.Model,
    images: tf.Tensor,
    targets: np.ndarray,
    epochs: int,
    random: np.random.Generator,
) -> None:
    steps = epochs * max(len(targets) // _BATCH, 1)
    optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps))

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = network(images, training=True)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))

    for chosen in _batches(len(targets), epochs, random):
        step(_augmented(tf.gather(images, chosen), random), targets[chosen])


def _batches(count: int, epochs: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields the indices of batches, all of one size, in an order drawn anew in each epoch."""
    size = min(_BATCH, count)
    for _ in range(epochs):
        order = random.permutation(count)
        yield from (order[start : start + size] for start in range(0, count - size + 1, size))


def _augmented(images: tf.Tensor, random: np.random.Generator) -> tf.Tensor:
    """Shifts, zooms and mirrors each image; what comes in at a border is background, that is 0."""
    batch, height, width, _ = images.shape
    zoom = np.exp(random.uniform(-_ZOOM, _ZOOM, (batch, 2)))
    zoom[:, 0] *= random.choice([-1.0, 1.0], batch)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = middle - zoom * (middle + random.uniform(-_SHIFT, _SHIFT, (batch, 2)))
    # Output pixel (x, y) is taken from (a0 x + a1 y + a2, b0 x + b1 y + b2).
    transforms = np.zeros((batch, 8), np.float32)
    transforms[:, [0, 4]] = zoom
    transforms[:, [2, 5]] = offset
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
