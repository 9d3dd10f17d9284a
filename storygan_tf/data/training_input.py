"""Reads all stories of a training into memory, and draws mini-batches from them.

The order of the stories depends only on the seed and the number of the step. A resumed training therefore gets exactly
the mini-batches that an uninterrupted one gets, and all replicas and workers share the same global batches.

Each process holds all stories in memory twice, as arrays and as the tensors that mini-batches are gathered from. A
story of four frames takes 98 KB, and another 6 KB for its PNGs while they are read.
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
"""The sequences of mini-batches for image updates and for story updates, which are drawn independently."""


@dataclasses.dataclass(frozen=True, eq=False)
class Stories:
    """Decoded stories in memory, in the order of their ids.

    Attributes:
        ids: the id of each story.
        sentences: the T sentences of each story.
        images: uint8 [stories, T, 64, 64, 3].
        vectors: float32 [stories, T, sentence_size].
        labels: uint8 [stories, T, labels], 0 or 1; [stories, T, 0] if the model has no labels.
    """

    ids: list[str]
    sentences: list[list[str]]
    images: np.ndarray
    vectors: np.ndarray
    labels: np.ndarray

    def first(self, count: int) -> Stories:
        """Returns the first `count` stories, or all if there are fewer."""
        return Stories(*(getattr(self, field.name)[:count] for field in dataclasses.fields(self)))

    @functools.cached_property
    def tensors(self) -> dict[str, tf.Tensor]:
        """Images, vectors and labels as tensors in the host's memory, from which mini-batches are gathered."""
        with tf.device("/cpu:0"):
            return {name: tf.constant(getattr(self, name)) for name in ("images", "vectors", "labels")}


def read_stories(paths: Sequence[str | Path], config: StoryGANConfig, limit: int | None = None) -> Stories:
    """Reads transformed records and decodes their frames.

    Args:
        paths: gzipped TFRecord files that Transform has written.
        config: `frames`, `sentence_size` and `labels` must fit the records.
        limit: largest number of stories, the first by id; None for all.

    Raises:
        DataError: if a file cannot be read, there is no record, or a record does not fit `config`.
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
            f"records {', '.join(map(str, paths))}: cannot be read ({error.message}); expected complete gzipped "
            "TFRecord files. Prepare the data again."
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
    """Returns decoded frames, uint8 [stories, frames, 64, 64, 3]. Each is decoded into its place in the array.

    Args:
        stories: PNGs, an array of bytes [frames] for each story.
        frames: number of frames of each story.
    """
    images = np.empty([len(stories), frames, IMAGE_SIZE, IMAGE_SIZE, 3], np.uint8)
    pngs = tf.constant(np.array(stories, object).reshape(-1, frames), tf.string)
    decoded = tf.data.Dataset.from_tensor_slices(pngs).map(_decode_story, num_parallel_calls=tf.data.AUTOTUNE)
    for number, story in enumerate(decoded.as_numpy_iterator()):
        images[number] = story
    return images


def _decode_story(pngs: tf.Tensor) -> tf.Tensor:
    """Returns the frames, uint8 [frames, 64, 64, 3], of PNGs, string [frames]."""
    frames = [tf.io.decode_png(png, channels=3) for png in tf.unstack(pngs)]
    return tf.stack([tf.ensure_shape(frame, [IMAGE_SIZE, IMAGE_SIZE, 3]) for frame in frames])


class EndlessShuffle:
    """An endless random sequence of story indices: all stories in a random order, then all in another order, and so on.

    Args:
        count: number of stories.
        key: integers that seed the sequence.
    """

    def __init__(self, count: int, key: Sequence[int]) -> None:
        self.count = count
        self.key = list(key)
        self._permutation = functools.lru_cache(maxsize=4)(self._shuffle)

    def _shuffle(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([*self.key, epoch]).permutation(self.count)

    def take(self, start: int, size: int) -> np.ndarray:
        """Returns the story indices at positions `start` to `start + size` of the sequence, int64 [size]."""
        epochs, offsets = np.divmod(np.arange(start, start + size), self.count)
        return np.array([self._permutation(int(epoch))[offset] for epoch, offset in zip(epochs, offsets, strict=True)])


def training_dataset(
    stories: Stories,
    phase: PhaseConfig,
    key: tuple[int, int],
    start: int,
    steps: int,
    *,
    replicas: int = 1,
    replica_ids: range | None = None,
) -> tf.data.Dataset:
    """Returns a dataset of the outer steps `start` to `start + steps` of a phase, for `StoryGAN.train_step`.

    An element maps `image` and `story` to the mini-batches (`storygan_tf.data.batch_types.Batch`) of a step's image
    updates and story updates. With several replicas, each step has one element for each replica in `replica_ids`, which
    holds this replica's part of the global batch. This is the order that
    `tf.distribute.Strategy.distribute_datasets_from_function` expects.

    Args:
        stories: the stories to draw from, the same in all processes.
        phase: `schedule` and the sizes and numbers of mini-batches are used.
        key: seed of the run and index of the phase.
        start: index of the first outer step.
        steps: number of outer steps.
        replicas: number of replicas that share a global batch.
        replica_ids: the replicas of this process (`storygan_tf.training.distribution.local_replica_ids`); None for all.

    Raises:
        TrainingError: if the size of a batch is not a multiple of `replicas`.
    """
    updates, sizes = _mini_batches(phase), batch_shares(phase, replicas)
    parts = [(step, replica) for step in range(start, start + steps) for replica in replica_ids or range(replicas)]
    chosen = {}
    for number, stream in enumerate(STREAMS):
        order = EndlessShuffle(len(stories.ids), [*key, number])
        draw = functools.partial(_draw, order, replicas * sizes[stream], stories.images.shape[1])
        chosen[stream] = tuple(
            _stack([_share(draw(step * updates[stream] + update), replica, sizes[stream]) for step, replica in parts])
            for update in range(updates[stream])
        )
    # The dataset must not call Python: an iterator that is deleted makes Python wait for a thread of tf.data, and a
    # thread that waits for Python itself never ends.
    return tf.data.Dataset.from_tensor_slices(chosen).map(functools.partial(_gather, stories.tensors)).prefetch(4)


def _mini_batches(phase: PhaseConfig) -> dict[str, int]:
    """Returns the number of mini-batches of each stream in an outer step."""
    if phase.schedule == "joint":
        return {"image": 1, "story": 1}
    return {"image": 0 if phase.schedule == "pixel" else phase.image_steps, "story": phase.story_steps}


def batch_shares(phase: PhaseConfig, replicas: int) -> dict[str, int]:
    """Returns the number of stories of each stream's mini-batch that one replica gets.

    Raises:
        TrainingError: if the size of a batch is not a multiple of `replicas`.
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
    """Returns the content of mini-batch `number` of a stream.

    Args:
        order: sequence of the stream's stories.
        size: number of stories in a mini-batch.
        frames: number of frames of a story.
        number: index of the mini-batch in the stream.

    Returns:
        `story`: indices of the stories, int64 [size]. `seed` and `frame`: see `Batch`, int64 [size] and int32 [size].
    """
    random = np.random.default_rng([*order.key, 1 << 32, number])
    return {
        "story": order.take(number * size, size),
        "seed": random.integers(0, 2**63 - 1, size),
        "frame": random.integers(0, frames, size, dtype=np.int32),
    }


def _share(drawn: dict[str, np.ndarray], replica: int, size: int) -> dict[str, np.ndarray]:
    """Returns the `size` entries of a mini-batch that belong to a replica."""
    return {name: values[replica * size : (replica + 1) * size] for name, values in drawn.items()}


def _stack(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns arrays [...] of several parts as arrays [parts, ...]."""
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _gather(
    tensors: Mapping[str, tf.Tensor], chosen: Mapping[str, tuple[dict[str, tf.Tensor], ...]]
) -> dict[str, tuple[Batch, ...]]:
    """Returns the mini-batches with fully static shapes, as TPUs require.

    Args:
        tensors: images, vectors and labels of all stories.
        chosen: `story`, `seed` and `frame` of the mini-batches of each stream.
    """
    return {stream: tuple(_batch(tensors, part) for part in parts) for stream, parts in chosen.items()}


def _batch(tensors: Mapping[str, tf.Tensor], chosen: dict[str, tf.Tensor]) -> Batch:
    images, vectors, labels = (tf.gather(tensors[name], chosen["story"]) for name in ("images", "vectors", "labels"))
    return {"images": images, "vectors": vectors, "labels": labels, "seed": chosen["seed"], "frame": chosen["frame"]}
