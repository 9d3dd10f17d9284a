"""Draws mini-batches of stories in an order that depends only on the seed and the number of the step.

A resumed training therefore gets exactly the mini-batches that an uninterrupted one gets, and it starts anywhere at
once. All replicas and workers share the same global batches, of which each reads its own part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from storygan_tf.common.errors import TrainingError
from storygan_tf.config.schema import PhaseConfig
from storygan_tf.data.batch_types import Batch, ValidationBatch
from storygan_tf.data.stories import StorySource

STREAMS = ("image", "story")
"""The sequences of mini-batches for image updates and for story updates, which are drawn independently."""


_SEED_PREFIX = 498247692
"""First of the three seeds of `RandomIndexShuffle`, as `tf.random.experimental.index_shuffle` sets it."""


class StreamSeeds(NamedTuple):
    """The seeds of a stream. Each is followed by the number of an epoch or of a mini-batch to seed one draw.

    Attributes:
        order: seed of the order of the stories in each epoch.
        noise: seed of the noise of the stories of each mini-batch.
        frame: seed of the frames that an image update uses.
    """

    order: int
    noise: int
    frame: int

    @classmethod
    def of(cls, key: Sequence[int], stream: str) -> StreamSeeds:
        """Returns the seeds of a stream.

        Args:
            key: integers of at least 0 that seed the phase.
            stream: one of `STREAMS`.
        """
        return cls(*np.random.SeedSequence([*key, STREAMS.index(stream)]).generate_state(3).tolist())


def shuffled_indices(positions: tf.Tensor, count: int, seed: int) -> tf.Tensor:
    """Returns stories of an endless sequence: all stories in a random order, then all in another order, and so on.

    A story is computed from its position alone: no order of all stories is held in memory.

    Args:
        positions: int64 [n], at least 0.
        count: number of stories.
        seed: see `StreamSeeds.order`.

    Returns:
        Indices of stories, int64 [n] from 0 to `count` - 1.
    """
    epochs, offsets = positions // count, positions % count
    seeds = tf.stack([tf.fill(tf.shape(epochs), tf.constant(number, tf.int64)) for number in (_SEED_PREFIX, seed)], 1)
    # `tf.random.experimental.index_shuffle` takes several indices, but in TensorFlow 2.15 not several seeds.
    return tf.raw_ops.RandomIndexShuffle(
        index=offsets,
        seed=tf.concat([seeds, epochs[:, tf.newaxis]], 1),
        max_index=tf.fill(tf.shape(epochs), tf.constant(count - 1, tf.int64)),
    )


def training_dataset(
    stories: StorySource,
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
    updates and story updates, with fully static shapes, as TPUs require. With several replicas, each step has one
    element for each replica in `replica_ids`, which holds this replica's part of the global batch. This is the order
    that `tf.distribute.Strategy.distribute_datasets_from_function` expects.

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
    parts = _Parts(phase, key, replicas, replica_ids or range(replicas), stories)
    first, last = (step * len(parts.replica_ids) for step in (start, start + steps))
    # The dataset must not call Python: an iterator that is deleted makes Python wait for a thread of tf.data, and a
    # thread that waits for Python itself never ends.
    chosen = tf.data.Dataset.range(first, last).map(parts.choose)
    return stories.batches(chosen).map(parts.split).prefetch(4)


def validation_dataset(
    stories: StorySource, size: int, *, replicas: int = 1, replica_ids: range | None = None
) -> tf.data.Dataset:
    """Returns a dataset of all stories once, in their order, for `StoryGAN.test_step`.

    The noise of a story has its index as the seed. The last batch is completed with stories of weight 0, so that all
    batches have the same static shape.

    Args:
        stories: the stories, the same in all processes.
        size: number of stories in a global batch.
        replicas: number of replicas that share a global batch.
        replica_ids: the replicas of this process (`storygan_tf.training.distribution.local_replica_ids`); None for all.

    Returns:
        Dataset of `ValidationBatch`, one element for each replica in `replica_ids` and each global batch.

    Raises:
        TrainingError: if `size` is not a multiple of `replicas`.
    """
    if size % replicas:
        raise TrainingError(
            f"validation batch: found {size}, expected a multiple of {replicas}, the number of replicas."
        )
    share, ids, count = size // replicas, replica_ids or range(replicas), len(stories)

    @tf.autograph.experimental.do_not_convert
    def choose(part: tf.Tensor) -> dict[str, tf.Tensor]:
        first = part // len(ids) * size + (ids.start + part % len(ids)) * share
        positions = first + tf.range(share, dtype=tf.int64)
        story = positions % count
        weight = tf.cast(positions < count, tf.float32)
        return {"story": story, "seed": story, "frame": tf.zeros([share], tf.int32), "weight": weight}

    @tf.autograph.experimental.do_not_convert
    def separate(part: dict[str, tf.Tensor]) -> ValidationBatch:
        return {"stories": _slice(part, 0, share), "weight": part["weight"]}

    chosen = tf.data.Dataset.range(-(-count // size) * len(ids)).map(choose)
    return stories.batches(chosen).map(separate).prefetch(2)


class _Parts:
    """Chooses the stories of all parts of mini-batches by their numbers alone.

    A part is what one replica needs for one outer step: its share of the mini-batch of each update of each stream, one
    after another. The parts of a step follow each other in the order of their replicas.

    Args:
        phase: see `training_dataset`; so for the other arguments.
        key: integers that seed the phase.
        replicas: number of replicas that share a global batch.
        replica_ids: the replicas of this process.
        stories: the stories.

    Attributes:
        replica_ids: the same.
    """

    def __init__(
        self, phase: PhaseConfig, key: tuple[int, int], replicas: int, replica_ids: range, stories: StorySource
    ) -> None:
        self.replica_ids = replica_ids
        self._updates, self._shares = _mini_batches(phase), batch_shares(phase, replicas)
        self._replicas = replicas
        self._count, self._frames = len(stories), stories.frames
        self._seeds = {stream: StreamSeeds.of(key, stream) for stream in STREAMS}

    @tf.autograph.experimental.do_not_convert
    def choose(self, part: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `story`, indices of stories, int64 [n], and their `seed` and `frame` (`Batch`).

        Args:
            part: int64 scalar, number of the part among those of this process.
        """
        step, local = part // len(self.replica_ids), part % len(self.replica_ids)
        drawn = [
            self._draw(stream, step * updates + update, self.replica_ids.start + local)
            for stream, updates in self._updates.items()
            for update in range(updates)
        ]
        return {name: tf.concat([values[name] for values in drawn], 0) for name in drawn[0]}

    def _draw(self, stream: str, batch: tf.Tensor, replica: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns a replica's share of a mini-batch, which does not depend on the number of replicas.

        Args:
            stream: one of `STREAMS`.
            batch: int64 scalar, number of the mini-batch in the stream.
            replica: int64 scalar, number of the replica.
        """
        seeds, share = self._seeds[stream], self._shares[stream]
        size, first = share * self._replicas, replica * share
        positions = batch * size + first + tf.range(share, dtype=tf.int64)

        def uniform(seed: int, end: int, dtype: tf.DType) -> tf.Tensor:
            pair = tf.stack([tf.constant(seed, tf.int64), batch])
            whole = tf.random.stateless_uniform([size], pair, minval=0, maxval=end, dtype=dtype, alg="philox")
            return tf.ensure_shape(whole[first : first + share], [share])

        return {
            "story": shuffled_indices(positions, self._count, seeds.order),
            "seed": uniform(seeds.noise, tf.int64.max, tf.int64),
            "frame": uniform(seeds.frame, self._frames, tf.int32),
        }

    @tf.autograph.experimental.do_not_convert
    def split(self, part: dict[str, tf.Tensor]) -> dict[str, tuple[Batch, ...]]:
        """Returns the mini-batches of each stream, given all stories of a part."""
        batches: dict[str, tuple[Batch, ...]] = {}
        begin = 0
        for stream in STREAMS:
            share, updates = self._shares[stream], self._updates[stream]
            begins = range(begin, begin + share * updates, share)
            batches[stream] = tuple(_slice(part, at, at + share) for at in begins)
            begin += share * updates
        return batches


def _slice(part: dict[str, tf.Tensor], begin: int, end: int) -> Batch:
    """Returns the stories `begin` to `end` of a part."""
    return {
        "images": part["images"][begin:end],
        "vectors": part["vectors"][begin:end],
        "labels": part["labels"][begin:end],
        "seed": part["seed"][begin:end],
        "frame": part["frame"][begin:end],
    }


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
