"""Stories as a training reads them: decoded once, then drawn in an order that is a function of seed and step.

So a resumed training sees exactly what the undisturbed one would have seen, and any number of replicas or workers share
the same batches. Each process holds all stories in memory twice, as arrays and as the tensors that mini-batches are
gathered from: 98 KB for one of four frames, and while they are read their PNGs (6 KB) beside them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from storygan_tf.common.errors import DataError, TrainingError
from storygan_tf.config.schema import IMAGE_SIZE, PhaseConfig, StoryGANConfig
from storygan_tf.data import example_schema
from storygan_tf.data.batch_types import Batch

STREAMS = ("image", "story")
"""The mini-batches of image and of story updates are drawn apart."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stories:
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
        return Stories(*(getattr(self, field.name)[:count] for field in dataclasses.fields(self)))

    @functools.cached_property
    def tensors(self) -> dict[str, tf.Tensor]:
        """Images, vectors and labels in the host's memory, where mini-batches are gathered: a second copy."""
        with tf.device("/cpu:0"):
            return {name: tf.constant(getattr(self, name)) for name in ("images", "vectors", "labels")}


def read_stories(paths: Sequence[str | Path], config: StoryGANConfig, limit: int | None = None) -> Stories:
    """Reads transformed records.

    Args:
        paths: gzipped TFRecord files, as Transform writes them.
        config: gives T, the width of a sentence vector and the number of labels.
        limit: how many stories at the most, the first by id; None for all.

    Raises:
        DataError: where a file cannot be read, there is no record, or one of another T, width or number of labels.
    """
    spec = example_schema.feature_spec(config.frames, config.labels, config.sentence_size)
    data = tf.data.TFRecordDataset([str(path) for path in paths], compression_type="GZIP")
    parsed = data.map(functools.partial(tf.io.parse_single_example, features=spec), num_parallel_calls=2)
    try:
        entries = sorted(parsed.as_numpy_iterator(), key=lambda entry: entry[example_schema.STORY_ID])[:limit]
        images = _decode([entry[example_schema.IMAGES] for entry in entries], config.frames)
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
    no_labels = np.zeros([config.frames, 0])
    return Stories(
        ids=[entry[example_schema.STORY_ID].decode() for entry in entries],
        sentences=[[text.decode() for text in entry[example_schema.SENTENCES]] for entry in entries],
        images=images,
        vectors=np.stack([entry[example_schema.VECTORS] for entry in entries]),
        labels=np.stack([entry.get(example_schema.LABELS, no_labels) for entry in entries]).astype(np.uint8),
    )


def _decode(stories: Sequence[np.ndarray], frames: int) -> np.ndarray:
    """Decodes PNGs, [stories] of [frames], into place: uint8 [stories, frames, 64, 64, 3]; nothing is held twice."""
    images = np.empty([len(stories), frames, IMAGE_SIZE, IMAGE_SIZE, 3], np.uint8)
    pngs = tf.constant(np.array(stories, object).reshape(-1, frames), tf.string)
    decoded = tf.data.Dataset.from_tensor_slices(pngs).map(_decode_story, num_parallel_calls=tf.data.AUTOTUNE)
    for number, story in enumerate(decoded.as_numpy_iterator()):
        images[number] = story
    return images


def _decode_story(pngs: tf.Tensor) -> tf.Tensor:
    frames = [tf.io.decode_png(png, channels=3) for png in tf.unstack(pngs)]
    return tf.stack([tf.ensure_shape(frame, [IMAGE_SIZE, IMAGE_SIZE, 3]) for frame in frames])


class EndlessShuffle:
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
    mine: range | None = None,
) -> tf.data.Dataset:
    """Returns the outer steps `start` to `start + steps` of a phase, as `StoryGAN.train_step` takes them.

    With several replicas each step gives one element for each of this process's, in their order, that holds its part of
    the global batch. For `tf.distribute.Strategy.distribute_datasets_from_function`.

    Args:
        stories: what to draw from; the same in all processes.
        phase: gives sizes and numbers of the mini-batches.
        key: run seed and number of the phase.
        start: first outer step.
        steps: how many.
        replicas: that share a batch.
        mine: numbers of the replicas whose parts are wanted (`storygan_tf.training.distribution.local_replica_ids`); by
            default all.

    Raises:
        TrainingError: where a batch cannot be shared equally.
    """
    updates, sizes = _mini_batches(phase), batch_shares(phase, replicas)
    parts = [(step, replica) for step in range(start, start + steps) for replica in mine or range(replicas)]
    chosen = {}
    for number, stream in enumerate(STREAMS):
        order = EndlessShuffle(len(stories.ids), [*key, number])
        draw = functools.partial(_draw, order, replicas * sizes[stream], stories.images.shape[1])
        chosen[stream] = tuple(
            _stacked([_part(draw(step * updates[stream] + update), replica, sizes[stream]) for step, replica in parts])
            for update in range(updates[stream])
        )
    # No Python within: where an iterator is deleted, Python would wait for a thread of tf.data that waits for Python.
    return tf.data.Dataset.from_tensor_slices(chosen).map(functools.partial(_gathered, stories.tensors)).prefetch(4)


def _mini_batches(phase: PhaseConfig) -> dict[str, int]:
    """Returns how many mini-batches of each stream an outer step takes."""
    if phase.schedule == "joint":
        return {"image": 1, "story": 1}
    return {"image": 0 if phase.schedule == "pixel" else phase.image_steps, "story": phase.story_steps}


def batch_shares(phase: PhaseConfig, replicas: int) -> dict[str, int]:
    """Returns how many stories of a mini-batch of each stream a replica gets.

    Raises:
        TrainingError: where a batch cannot be shared equally.
    """
    sizes = {"image": phase.image_batch, "story": phase.story_batch}
    for stream, updates in _mini_batches(phase).items():
        if updates and sizes[stream] % replicas:
            raise TrainingError(
                f"training.phases.{phase.name}.{stream}_batch: found {sizes[stream]}, expected a multiple of "
                f"{replicas}, the number of replicas."
            )
    return {stream: size // replicas for stream, size in sizes.items()}


def _draw(order: EndlessShuffle, size: int, frames: int, number: int) -> dict[str, np.ndarray]:
    """Returns which stories mini-batch `number` of a stream holds, their seeds, and the frames that are looked at."""
    random = np.random.default_rng([*order.key, 1 << 32, number])
    return {
        "story": order.take(number * size, size),
        "seed": random.integers(0, 2**63 - 1, size),
        "frame": random.integers(0, frames, size, dtype=np.int32),
    }


def _part(drawn: dict[str, np.ndarray], replica: int, size: int) -> dict[str, np.ndarray]:
    """Returns a replica's part of a mini-batch."""
    return {name: values[replica * size : (replica + 1) * size] for name, values in drawn.items()}


def _stacked(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _gathered(
    tensors: Mapping[str, tf.Tensor], chosen: Mapping[str, tuple[dict[str, tf.Tensor], ...]]
) -> dict[str, tuple[Batch, ...]]:
    """Returns the mini-batches of what was chosen, shapes told in full: a TPU takes no others."""
    return {stream: tuple(_batch(tensors, part) for part in parts) for stream, parts in chosen.items()}


def _batch(tensors: Mapping[str, tf.Tensor], chosen: dict[str, tf.Tensor]) -> Batch:
    images, vectors, labels = (tf.gather(tensors[name], chosen["story"]) for name in ("images", "vectors", "labels"))
    return {"images": images, "vectors": vectors, "labels": labels, "seed": chosen["seed"], "frame": chosen["frame"]}
