"""Fits the two networks of a judge, as Keras models; what is kept of them are their layers."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from storygan_tf.config.schema import IMAGE_SIZE
from storygan_tf.evaluation.judge.network import CONTRAST, CROP, Layer, crops, difference, soft_maximum, transformed
from storygan_tf.evaluation.judge.placed import PlacedObjects

_LABEL_WIDTHS_AND_STRIDES = ((24, 2), (48, 1), (48, 2), (96, 1))
_OBJECT_WIDTHS_AND_STRIDES = ((16, 1), (32, 2), (48, 2))
_OBJECT_HIDDEN = 48
_SHIFT = 5.0
_ZOOM = 0.15
_JITTER = 1.0
_GRAIN = 10.0
_COARSE = 8
_EMPTY = 1 / 8


@dataclasses.dataclass(frozen=True)
class Course:
    """What the trainings of both networks share.

    Attributes:
        background: uint8 `[64, 64, 3]`.
        epochs: passes over the samples.
        seed: of initial weights.
        random: of order and augmentation.
    """

    background: np.ndarray
    epochs: int
    seed: int
    random: np.random.Generator


class Fit(abc.ABC):
    """A network in training.

    Args:
        network: to train.
        count: samples.
        course: how.
    """

    batch: int
    learning_rate: float

    def __init__(self, network: tf.keras.Sequential, count: int, course: Course) -> None:
        self._network = network
        self._count = count
        self._size = min(self.batch, count)
        self._background = course.background
        self._random = course.random
        steps = course.epochs * (count // self._size)
        self._optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(self.learning_rate, steps))
        self._step = tf.function(self._update)

    def epoch(self) -> None:
        """Passes over the samples once, in a new order, in batches of one size."""
        order = self._random.permutation(self._count)
        for start in range(0, self._count - self._size + 1, self._size):
            self._step(*self._drawn(order[start : start + self._size]))

    def layers(self) -> list[Layer]:
        """Returns the network's layers, each with the batch normalisation after it multiplied in."""
        layers: list[Layer] = []
        for layer in self._network.layers:
            if isinstance(layer, tf.keras.layers.Conv2D | tf.keras.layers.Dense):
                kernel = layer.kernel.numpy()
                bias = layer.bias.numpy() if layer.use_bias else np.zeros(kernel.shape[-1], np.float32)
                layers.append(Layer(kernel, bias, getattr(layer, "strides", (1,))[0]))
            elif isinstance(layer, tf.keras.layers.BatchNormalization):
                gamma, beta, mean, variance = (weight.numpy() for weight in layer.weights)
                scale = gamma / np.sqrt(variance + layer.epsilon)
                last = layers.pop()
                layers.append(Layer(last.kernel * scale, beta + (last.bias - mean) * scale, last.stride))
        return layers

    def _update(self, *batch: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = self._loss(*batch)
        gradients = tape.gradient(loss, self._network.trainable_variables)
        self._optimizer.apply_gradients(zip(gradients, self._network.trainable_variables, strict=True))

    @abc.abstractmethod
    def _drawn(self, chosen: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns samples with what augments them."""

    @abc.abstractmethod
    def _loss(self, *batch: tf.Tensor) -> tf.Tensor:
        """Returns the loss of what `_drawn` gave."""


class LabelFit(Fit):
    """Frames to maps of logits, one a label.

    Some frames are empty tables and some have grain, fine or coarse: real frames have neither, but drawn ones do, and
    grain must not count as an object.

    Args:
        frames: uint8 `[n, 64, 64, 3]`.
        targets: float32 `[n, L]`, 0 or 1.
        course: how to train.
    """

    batch = 16
    learning_rate = 3e-3

    def __init__(self, frames: np.ndarray, targets: np.ndarray, course: Course) -> None:
        layers = _convolutions(_LABEL_WIDTHS_AND_STRIDES, course.seed)
        head = tf.keras.layers.Conv2D(targets.shape[1], 1, kernel_initializer=_initial(course.seed + 50))
        network = tf.keras.Sequential([tf.keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3)), *layers, head])
        super().__init__(network, len(frames), course)
        self._frames, self._targets = frames, targets

    def _drawn(self, chosen: np.ndarray) -> tuple[np.ndarray, ...]:
        frames, targets = self._frames[chosen], self._targets[chosen]
        empty = self._random.random(len(chosen)) < _EMPTY
        frames[empty], targets[empty] = self._background, 0
        size = (len(chosen), IMAGE_SIZE, IMAGE_SIZE, 3)
        coarse = (len(chosen), _COARSE, _COARSE, 3)
        return frames, self._moves(len(chosen)), self._grain(size), self._grain(coarse), targets

    def _grain(self, shape: tuple[int, ...]) -> np.ndarray:
        """Draws noise of another strength for each frame, none for half of them."""
        strength = self._random.uniform(-_GRAIN, _GRAIN, (shape[0], 1, 1, 1)).clip(0).astype(np.float32)
        return strength * self._random.standard_normal(shape, np.float32)

    def _moves(self, count: int) -> np.ndarray:
        """Shifts, zooms and mirrors; what comes in at a border is background, that is 0."""
        zoom = np.exp(self._random.uniform(-_ZOOM, _ZOOM, (count, 2)))
        zoom[:, 0] *= self._random.choice([-1.0, 1.0], count)
        middle = (IMAGE_SIZE - 1) / 2
        transforms = np.zeros((count, 8), np.float32)
        transforms[:, [0, 4]] = zoom
        transforms[:, [2, 5]] = middle - zoom * (middle + self._random.uniform(-_SHIFT, _SHIFT, (count, 2)))
        return transforms

    def _loss(self, *batch: tf.Tensor) -> tf.Tensor:
        frames, moves, fine, coarse, targets = batch
        images = transformed(difference(frames, self._background), moves, IMAGE_SIZE)
        grain = fine + tf.image.resize(coarse, [IMAGE_SIZE, IMAGE_SIZE])
        images += grain / CONTRAST
        logits = soft_maximum(self._network(images, training=True))
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits))


class ObjectFit(Fit):
    """Crops around places to logits of the values of all attributes.

    Args:
        frames: uint8 `[n, 64, 64, 3]`.
        placed: their objects.
        sizes: how many values each attribute has.
        course: how to train.
    """

    batch = 32
    learning_rate = 2e-3

    def __init__(self, frames: np.ndarray, placed: PlacedObjects, sizes: Sequence[int], course: Course) -> None:
        layers = _convolutions(_OBJECT_WIDTHS_AND_STRIDES, course.seed + 100)
        hidden = tf.keras.layers.Dense(_OBJECT_HIDDEN, use_bias=False, kernel_initializer=_initial(course.seed + 150))
        head = tf.keras.layers.Dense(sum(sizes), kernel_initializer=_initial(course.seed + 151))
        dense = [tf.keras.layers.Flatten(), hidden, *_normalised(), head]
        network = tf.keras.Sequential([tf.keras.Input((CROP, CROP, 3)), *layers, *dense])
        super().__init__(network, len(placed.places), course)
        self._frames, self._placed, self._sizes = frames, placed, list(sizes)

    def _drawn(self, chosen: np.ndarray) -> tuple[np.ndarray, ...]:
        placed = self._placed
        places = placed.places[chosen] + self._random.uniform(-_JITTER, _JITTER, (len(chosen), 2))
        mirrored = self._random.random((len(chosen), 1, 1, 1)) < 0.5
        frames = self._frames[placed.frame_of[chosen]]
        return frames, places.astype(np.float32), mirrored, placed.values[chosen]

    def _loss(self, *batch: tf.Tensor) -> tf.Tensor:
        frames, places, mirrored, values = batch
        seen = crops(difference(frames, self._background), places)
        logits = self._network(tf.where(mirrored, tf.reverse(seen, [2]), seen), training=True)
        losses = [
            tf.nn.sparse_softmax_cross_entropy_with_logits(values[:, index], part)
            for index, part in enumerate(tf.split(logits, self._sizes, axis=1))
        ]
        return tf.reduce_mean(tf.add_n(losses))


def _convolutions(widths_and_strides: Sequence[tuple[int, int]], seed: int) -> list[tf.keras.layers.Layer]:
    layers = []
    for index, (width, stride) in enumerate(widths_and_strides):
        convolution = tf.keras.layers.Conv2D(
            width, 3, stride, padding="same", use_bias=False, kernel_initializer=_initial(seed + index)
        )
        layers += [convolution, *_normalised()]
    return layers


def _normalised() -> list[tf.keras.layers.Layer]:
    return [tf.keras.layers.BatchNormalization(momentum=0.9), tf.keras.layers.ReLU()]


def _initial(seed: int) -> tf.keras.initializers.Initializer:
    return tf.keras.initializers.HeNormal(seed=seed)
