"""Training of the two networks of a judge as Keras models, whose layers are then converted to plain TensorFlow."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from storygan_tf.config.schema import IMAGE_SIZE
from storygan_tf.evaluation.judge.network import CONTRAST, CROP, Layer, crops, difference, soft_maximum, transform
from storygan_tf.evaluation.judge.placed_objects import PlacedObjects

_LABEL_WIDTHS_AND_STRIDES = ((24, 2), (48, 1), (48, 2), (96, 1))
_OBJECT_WIDTHS_AND_STRIDES = ((16, 1), (32, 2), (48, 2))
_OBJECT_HIDDEN = 48
_SHIFT = 5.0
"""Most pixels by which augmentation shifts a frame."""
_ZOOM = 0.15
"""Most by which the logarithm of a frame's scale differs from 0."""
_JITTER = 1.0
"""Most pixels by which augmentation moves the place of an object."""
_GRAIN = 10.0
"""Greatest standard deviation of added noise, in grey levels."""
_COARSE = 8
"""Height and width of coarse noise before it is enlarged."""
_EMPTY = 1 / 8
"""Fraction of the frames that are replaced by the background."""


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """Settings that the trainings of both networks share.

    Attributes:
        background: uint8 `[64, 64, 3]`, the median background of the training frames.
        epochs: number of passes over the samples.
        seed: seed of the initial weights.
        random: random generator for the order of samples and for augmentation.
    """

    background: np.ndarray
    epochs: int
    seed: int
    random: np.random.Generator


class Fit(abc.ABC):
    """The training of one network.

    Args:
        network: the network to train.
        count: number of samples.
        settings: background, epochs and random generator.

    Attributes:
        batch: number of samples per batch.
        learning_rate: initial learning rate.
    """

    batch: int
    learning_rate: float

    def __init__(self, network: tf.keras.Sequential, count: int, settings: FitSettings) -> None:
        self._network = network
        self._count = count
        self._size = min(self.batch, count)
        self._background = settings.background
        self._random = settings.random
        steps = settings.epochs * (count // self._size)
        self._optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(self.learning_rate, steps))
        self._step = tf.function(self._update)

    def run_epoch(self) -> None:
        """Trains on all samples once, in random order, in batches of equal size."""
        order = self._random.permutation(self._count)
        for start in range(0, self._count - self._size + 1, self._size):
            self._step(*self._batch_of(order[start : start + self._size]))

    def layers(self) -> list[Layer]:
        """Returns the network's layers, each with the batch normalization after it folded into kernel and bias."""
        layers: list[Layer] = []
        for layer in self._network.layers:
            if isinstance(layer, tf.keras.layers.Conv2D | tf.keras.layers.Dense):
                kernel = layer.kernel.numpy()
                bias = layer.bias.numpy() if layer.use_bias else np.zeros(kernel.shape[-1], np.float32)
                layers.append(Layer(kernel, bias, getattr(layer, "strides", (1,))[0]))
            elif isinstance(layer, tf.keras.layers.BatchNormalization):
                scale = layer.gamma.numpy() / np.sqrt(layer.moving_variance.numpy() + layer.epsilon)
                last = layers.pop()
                bias = layer.beta.numpy() + (last.bias - layer.moving_mean.numpy()) * scale
                layers.append(Layer(last.kernel * scale, bias, last.stride))
        return layers

    def _update(self, *batch: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = self._loss(*batch)
        gradients = tape.gradient(loss, self._network.trainable_variables)
        self._optimizer.apply_gradients(zip(gradients, self._network.trainable_variables, strict=True))

    @abc.abstractmethod
    def _batch_of(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns the samples with these indices, int `[n]`, and the random parameters of their augmentation."""

    @abc.abstractmethod
    def _loss(self, *batch: tf.Tensor) -> tf.Tensor:
        """Returns the loss, a float32 scalar, of a batch that `_batch_of` returned."""


class LabelFit(Fit):
    """Training of the label network, from frames to a map of logits per label.

    Some frames are replaced by the background, and some get fine or coarse noise. True frames have neither, but
    generated frames do, and the network must not mistake noise for objects.

    Args:
        frames: uint8 `[n, 64, 64, 3]`.
        targets: float32 `[n, L]`, 0 or 1.
        settings: background, epochs and random generator.
    """

    batch = 16
    learning_rate = 3e-3

    def __init__(self, frames: np.ndarray, targets: np.ndarray, settings: FitSettings) -> None:
        layers = _convolutions(_LABEL_WIDTHS_AND_STRIDES, settings.seed)
        head = tf.keras.layers.Conv2D(targets.shape[1], 1, kernel_initializer=_initializer(settings.seed + 50))
        network = tf.keras.Sequential([tf.keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3)), *layers, head])
        super().__init__(network, len(frames), settings)
        self._frames, self._targets = frames, targets

    def _batch_of(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        count = len(indices)
        frames, targets = self._frames[indices], self._targets[indices]
        empty = self._random.random(count) < _EMPTY
        frames[empty], targets[empty] = self._background, 0
        fine, coarse = (count, IMAGE_SIZE, IMAGE_SIZE, 3), (count, _COARSE, _COARSE, 3)
        return frames, self._random_transforms(count), self._grain(fine), self._grain(coarse), targets

    def _grain(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns float32 noise `[n, height, width, 3]`, of random strength per frame and 0 for half of the frames."""
        strength = self._random.uniform(-_GRAIN, _GRAIN, (shape[0], 1, 1, 1)).clip(0).astype(np.float32)
        return strength * self._random.standard_normal(shape, np.float32)

    def _random_transforms(self, count: int) -> np.ndarray:
        """Returns float32 `[count, 8]`, projective transforms that shift, scale and mirror frames."""
        zoom = np.exp(self._random.uniform(-_ZOOM, _ZOOM, (count, 2)))
        zoom[:, 0] *= self._random.choice([-1.0, 1.0], count)
        middle = (IMAGE_SIZE - 1) / 2
        transforms = np.zeros((count, 8), np.float32)
        transforms[:, [0, 4]] = zoom
        transforms[:, [2, 5]] = middle - zoom * (middle + self._random.uniform(-_SHIFT, _SHIFT, (count, 2)))
        return transforms

    def _loss(self, *batch: tf.Tensor) -> tf.Tensor:
        frames, transforms, fine, coarse, targets = batch
        # Pixels beyond the border become 0, which is the background.
        images = transform(difference(frames, self._background), transforms, IMAGE_SIZE)
        grain = fine + tf.image.resize(coarse, [IMAGE_SIZE, IMAGE_SIZE])
        images += grain / CONTRAST
        logits = soft_maximum(self._network(images, training=True))
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits))


class ObjectFit(Fit):
    """Training of the object network, from crops around places to the logits of the values of all attributes.

    Args:
        frames: uint8 `[n, 64, 64, 3]`.
        placed: the objects of the frames.
        sizes: number of values of each attribute.
        settings: background, epochs and random generator.
    """

    batch = 32
    learning_rate = 2e-3

    def __init__(self, frames: np.ndarray, placed: PlacedObjects, sizes: Sequence[int], settings: FitSettings) -> None:
        seed = settings.seed
        layers = _convolutions(_OBJECT_WIDTHS_AND_STRIDES, seed + 100)
        hidden = tf.keras.layers.Dense(_OBJECT_HIDDEN, use_bias=False, kernel_initializer=_initializer(seed + 150))
        head = tf.keras.layers.Dense(sum(sizes), kernel_initializer=_initializer(seed + 151))
        dense = [tf.keras.layers.Flatten(), hidden, *_normalization_and_relu(), head]
        network = tf.keras.Sequential([tf.keras.Input((CROP, CROP, 3)), *layers, *dense])
        super().__init__(network, len(placed.places), settings)
        self._frames, self._placed, self._sizes = frames, placed, list(sizes)

    def _batch_of(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        placed = self._placed
        places = placed.places[indices] + self._random.uniform(-_JITTER, _JITTER, (len(indices), 2))
        mirrored = self._random.random((len(indices), 1, 1, 1)) < 0.5
        frames = self._frames[placed.frame_of[indices]]
        return frames, places.astype(np.float32), mirrored, placed.values[indices]

    def _loss(self, *batch: tf.Tensor) -> tf.Tensor:
        frames, places, mirrored, values = batch
        images = crops(difference(frames, self._background), places)
        logits = self._network(tf.where(mirrored, tf.reverse(images, [2]), images), training=True)
        losses = [
            tf.nn.sparse_softmax_cross_entropy_with_logits(values[:, index], part)
            for index, part in enumerate(tf.split(logits, self._sizes, axis=1))
        ]
        return tf.reduce_mean(tf.add_n(losses))


def _convolutions(widths_and_strides: Sequence[tuple[int, int]], seed: int) -> list[tf.keras.layers.Layer]:
    layers = []
    for index, (width, stride) in enumerate(widths_and_strides):
        convolution = tf.keras.layers.Conv2D(
            width, 3, stride, padding="same", use_bias=False, kernel_initializer=_initializer(seed + index)
        )
        layers += [convolution, *_normalization_and_relu()]
    return layers


def _normalization_and_relu() -> list[tf.keras.layers.Layer]:
    return [tf.keras.layers.BatchNormalization(momentum=0.9), tf.keras.layers.ReLU()]


def _initializer(seed: int) -> tf.keras.initializers.Initializer:
    return tf.keras.initializers.HeNormal(seed=seed)
