"""Stories as a training reads them: decoded once, then drawn in an order that is a function of seed and step.

So a resumed training sees exactly what the undisturbed one would have seen. A story of four frames takes 49 KB.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from storygan_tf import records
from storygan_tf.config import IMAGE_SIZE, PhaseConfig, StoryGANConfig
from storygan_tf.errors import DataError, TrainingError
from storygan_tf.storygan import Batch

STREAMS = ("image", "story")
"""The mini-batches of image and of story updates are drawn apart."""


class Stories(NamedTuple):
    """Stories in memory, in the order of their ids.

    Attributes:
        ids: [stories].
        sentences: [stories] of T strings each.
        images: uint8 [stories, T, 64, 64, 3].
        vectors: float32 [stories, T, sentence_size].
        labels: uint8 [stories, T, labels], 0 or 1; none of them where `labels` is 0.
    """

    ids: list[str]
    sentences: list[list[str]]
    images: np.ndarray
    vectors: np.ndarray
    labels: np.ndarray

    def first(self, count: int) -> Stories:
        """Returns the first stories, `count` at the most."""
        return Stories(*(part[:count] for part in self))


def read_stories(paths: Sequence[str | Path], config: StoryGANConfig, limit: int | None = None) -> Stories:
    """Reads transformed records.

    Args:
        paths: gzipped TFRecord files, as Transform writes them.
        config: gives T, the width of a sentence vector and the number of labels.
        limit: how many stories at the most, the first by id; None for all.

    Raises:
        DataError: where a file cannot be read, there is no record, or one of another T, width or number of labels.
    """
    spec = records.feature_spec(config.frames, config.labels, config.sentence_size)
    data = tf.data.TFRecordDataset([str(path) for path in paths], compression_type="GZIP")
    parsed = data.map(functools.partial(_parse, spec=spec), num_parallel_calls=2)
    try:
        entries = list(parsed.as_numpy_iterator())
    except tf.errors.InvalidArgumentError as error:
        raise DataError(
            f"records {paths[0]}: expected stories of {config.frames} frames, vectors of {config.sentence_size} and "
            f"{config.labels} labels (model.frames, model.sentence_size, model.labels); found: {error.message}"
        ) from error
    except tf.errors.OpError as error:
        raise DataError(
            f"records {', '.join(map(str, paths))}: cannot be read ({error.message}); expected whole gzipped TFRecord "
            "files. Prepare the data again."
        ) from error
    if not entries:
        raise DataError(f"records {[str(path) for path in paths]}: no story found, expected at least one.")
    entries.sort(key=lambda entry: entry[records.STORY_ID])
    entries = entries[:limit]
    return Stories(
        ids=[entry[records.STORY_ID].decode() for entry in entries],
        sentences=[[text.decode() for text in entry[records.SENTENCES]] for entry in entries],
        images=np.stack([entry[records.IMAGES] for entry in entries]),
        vectors=np.stack([entry[records.VECTORS] for entry in entries]),
        labels=np.stack([entry[records.LABELS] for entry in entries]).astype(np.uint8),
    )


def _parse(serialized: tf.Tensor, spec: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    features = tf.io.parse_single_example(serialized, spec)
    decode = functools.partial(tf.io.decode_png, channels=3)
    frames = tf.map_fn(decode, features[records.IMAGES], fn_output_signature=tf.uint8)
    images = tf.ensure_shape(frames, [None, IMAGE_SIZE, IMAGE_SIZE, 3])
    no_labels = tf.zeros([tf.shape(images)[0], 0], tf.int64)
    return {records.LABELS: no_labels} | features | {records.IMAGES: images}


class Order:
    """An endless seeded shuffle: every story once, then every story once again in another order.

    Args:
        count: stories.
        key: numbers that seed it.
    """

    def __init__(self, count: int, key: Sequence[int]) -> None:
        self.count = count
        self.key = list(key)
        self._permutation = functools.lru_cache(maxsize=4)(self._shuffle)

    def _shuffle(self, turn: int) -> np.ndarray:
        return np.random.default_rng([*self.key, turn]).permutation(self.count)

    def take(self, start: int, size: int) -> np.ndarray:
        """Returns the story numbers at positions `start` to `start + size`, int64 [size]."""
        turns, offsets = np.divmod(np.arange(start, start + size), self.count)
        return np.array([self._permutation(int(turn))[offset] for turn, offset in zip(turns, offsets, strict=True)])


def training_dataset(
    stories: Stories,
    phase: PhaseConfig,
    key: tuple[int, int],
    start: int,
    steps: int,
    *,
    replicas: int = 1,
) -> tf.data.Dataset:
    """Returns the outer steps `start` to `start + steps` of a phase, as `StoryGAN.train_step` takes them.

    With several replicas each step gives one element a replica, in their order, that hold its part of the global batch:
    for `tf.distribute.Strategy.distribute_datasets_from_function`.

    Args:
        stories: what to draw from.
        phase: gives sizes and numbers of the mini-batches.
        key: run seed and number of the phase.
        start: first outer step.
        steps: how many.
        replicas: that share a batch.

    Raises:
        TrainingError: where a batch cannot be shared equally.
    """
    updates = _mini_batches(phase)
    sizes = {"image": phase.image_batch, "story": phase.story_batch}
    for stream in STREAMS:
        if sizes[stream] % replicas:
            raise TrainingError(
                f"training.phases.{phase.name}.{stream}_batch: found {sizes[stream]}, expected a multiple of "
                f"{replicas}, the number of replicas."
            )
    draw = {
        stream: functools.partial(_draw, stories, Order(len(stories.ids), [*key, number]), sizes[stream])
        for number, stream in enumerate(STREAMS)
    }

    def generate() -> Iterator[dict[str, tuple[Batch, ...]]]:
        for step in range(start, start + steps):
            whole = {
                stream: tuple(draw[stream](step * updates[stream] + number) for number in range(updates[stream]))
                for stream in STREAMS
            }
            for replica in range(replicas):
                yield _part(whole, replica, replicas)

    signature = {stream: (_signature(stories),) * updates[stream] for stream in STREAMS}
    return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(4)


def _mini_batches(phase: PhaseConfig) -> dict[str, int]:
    """Returns how many mini-batches of each stream an outer step takes."""
    if phase.schedule == "joint":
        return {"image": 1, "story": 1}
    return {"image": 0 if phase.schedule == "pixel" else phase.image_steps, "story": phase.story_steps}


def _draw(stories: Stories, order: Order, size: int, number: int) -> dict[str, np.ndarray]:
    """Returns mini-batch `number` of a stream."""
    chosen = order.take(number * size, size)
    random = np.random.default_rng([*order.key, 1 << 32, number])
    return {
        "images": stories.images[chosen],
        "vectors": stories.vectors[chosen],
        "labels": stories.labels[chosen],
        "seed": random.integers(0, 2**63 - 1, size),
        "frame": random.integers(0, stories.images.shape[1], size, dtype=np.int32),
    }


def _part(whole: Any, replica: int, replicas: int) -> Any:
    return tf.nest.map_structure(lambda array: np.array_split(array, replicas)[replica], whole)


def _signature(stories: Stories) -> Any:
    return {
        "images": tf.TensorSpec([None, *stories.images.shape[1:]], tf.uint8),
        "vectors": tf.TensorSpec([None, *stories.vectors.shape[1:]], tf.float32),
        "labels": tf.TensorSpec([None, *stories.labels.shape[1:]], tf.uint8),
        "seed": tf.TensorSpec([None], tf.int64),
        "frame": tf.TensorSpec([None], tf.int32),
    }
