"""Compares two ways to feed a training from more stories than memory holds, and measures the one that was chosen.

    .venv/bin/python benchmarks/training_input.py [--stories 50000] [--few 1000] [--steps 60]

`index` is `storygan_tf.data.indexed_stories`: one uncompressed file, read by offset in an order computed from seed and
position. `window` is the usual pipeline of `tf.data`: the gzipped shards in a seeded order, four at a time, through a
shuffled window of 2,000 stories. Both give batches of 12 + 12 stories of four frames in two independent orders.

Each row is a fresh process that reads steps of the first epoch. `first batch` is the time until the first batch after a
resume at the end of the epoch; the window has to read the whole epoch again for it. Memory is the peak of the process
above that of the same process with few stories. The quality of a shuffle is the rank correlation of the stories'
positions in two epochs, and the number of pairs that are within 1,000 positions of each other in both epochs, relative
to chance.

The last table is a training step of preset `blocks`, with stories read from the file: the share of its time that it
waits for input.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from matrix_product import matrix_peak
from PIL import Image
from usage import measure_usage

from storygan_tf.config import presets
from storygan_tf.config.schema import PhaseConfig, StoryGANConfig
from storygan_tf.data import example_schema
from storygan_tf.data.indexed_stories import IndexedStories, index_records
from storygan_tf.data.stories import decode_frames
from storygan_tf.data.training_input import STREAMS, StreamSeeds, shuffled_indices, training_dataset
from storygan_tf.text.tokenization import words
from storygan_tf.training.storygan import StoryGAN

CONFIG = StoryGANConfig()
PHASE = PhaseConfig(schedule="joint", image_batch=12, story_batch=12)
SHARD_STORIES = 256
WINDOW = 2000
OPEN_SHARDS = 4
POOL = 200
"""Number of different stories; their records are repeated under other ids."""

NEAR = 1000
KEY = (1, 0)


def write_shards(folder: Path, count: int) -> list[str]:
    """Writes gzipped records of stories whose frames take about 6 KB, four times those of `blocks`."""
    random = np.random.default_rng(0)
    pool = [_story(random) for _ in range(POOL)]
    folder.mkdir()
    paths = []
    for begin in range(0, count, SHARD_STORIES):
        paths.append(str(folder / f"data-{begin // SHARD_STORIES:05d}.gz"))
        with tf.io.TFRecordWriter(paths[-1], tf.io.TFRecordOptions("GZIP", compression_level=1)) as writer:
            for number in range(begin, min(begin + SHARD_STORIES, count)):
                story = pool[number % POOL]
                story.features.feature[example_schema.STORY_ID].bytes_list.value[0] = f"s{number:07d}".encode()
                writer.write(story.SerializeToString())
    return paths


def _story(random: np.random.Generator) -> tf.train.Example:
    frames = []
    for _ in range(CONFIG.frames):
        coarse = Image.fromarray(random.integers(0, 256, [5, 5, 3], np.uint8)).resize((64, 64))
        noise = random.integers(-1, 2, [64, 64, 3])
        frames.append(np.clip(np.asarray(coarse, np.int16) + noise, 0, 255).astype(np.uint8))
    sentences = [f"A sentence about frame {number}." for number in range(CONFIG.frames)]
    example = example_schema.story_example("s", sentences, [tf.io.encode_png(frame).numpy() for frame in frames])
    vectors = random.normal(size=CONFIG.frames * CONFIG.sentence_size)
    example.features.feature[example_schema.VECTORS].float_list.value.extend(vectors)
    return example


def windowed(paths: Sequence[str], seeds: StreamSeeds, epoch: int) -> tf.data.Dataset:
    """Returns the records of an epoch in a seeded order of shards and of a window."""
    files = tf.data.Dataset.from_tensor_slices(list(paths)).shuffle(len(paths), seeds.order + epoch)
    read = functools.partial(tf.data.TFRecordDataset, compression_type="GZIP")
    records = files.interleave(read, cycle_length=OPEN_SHARDS, num_parallel_calls=OPEN_SHARDS, deterministic=True)
    return records.shuffle(WINDOW, seeds.noise + epoch)


def window_batches(paths: Sequence[str], start: int) -> tf.data.Dataset:
    """Returns the mini-batches of an epoch from step `start` on, by way of the window."""
    spec = example_schema.feature_spec(CONFIG.frames, CONFIG.labels, CONFIG.sentence_size)

    def decode(record: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_single_example(record, spec)
        return {"images": decode_frames(parsed[example_schema.IMAGES]), "vectors": parsed[example_schema.VECTORS]}

    parts = {}
    for stream in STREAMS:
        records = windowed(paths, StreamSeeds.of(KEY, stream), 0).skip(start * PHASE.story_batch)
        decoded = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        parts[stream] = decoded.batch(PHASE.story_batch, drop_remainder=True)
    return tf.data.Dataset.zip(parts).prefetch(4)


def read_steps(way: str, folder: str, paths: Sequence[str], start: int, steps: int) -> tuple[float, float]:
    """Reads steps and returns the seconds until the first batch and for all of them."""
    began = time.perf_counter()
    if way == "index":
        data = training_dataset(IndexedStories.open(Path(folder), CONFIG), PHASE, KEY, start, steps)
    else:
        data = window_batches(paths, start)
    iterator = iter(data.take(steps))
    next(iterator)
    first = time.perf_counter() - began
    for _ in iterator:
        pass
    return first, time.perf_counter() - began


def orders(way: str, paths: Sequence[str], count: int) -> list[np.ndarray]:
    """Returns the stories of two epochs in their order."""
    seeds = StreamSeeds.of(KEY, "story")
    if way == "index":
        positions = tf.range(2 * count, dtype=tf.int64)
        return list(shuffled_indices(positions, count, seeds.order).numpy().reshape(2, count))
    spec = {example_schema.STORY_ID: tf.io.FixedLenFeature([], tf.string)}

    def number(record: tf.Tensor) -> tf.Tensor:
        name = tf.io.parse_single_example(record, spec)[example_schema.STORY_ID]
        return tf.strings.to_number(tf.strings.substr(name, 1, 7), tf.int64)

    epochs = [windowed(paths, seeds, epoch).map(number) for epoch in range(2)]
    return [np.fromiter(data.as_numpy_iterator(), np.int64, count) for data in epochs]


def shuffle_quality(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Returns the rank correlation of two orders, and the pairs that are near in both of them relative to chance."""
    count = len(first)
    positions = np.empty(count, np.int64)
    positions[second] = np.arange(count)
    there = positions[first]  # positions in the second order, in the first order
    correlation = float(np.corrcoef(np.arange(count), there)[0, 1])
    near = sum(int((np.abs(there[shift:] - there[:-shift]) <= NEAR).sum()) for shift in range(1, NEAR + 1))
    pairs = NEAR * count - NEAR * (NEAR + 1) / 2
    return correlation, near / (pairs * pairs / (count * (count - 1) / 2))


def waiting_share(folder: str, phase_name: str, steps: int) -> tuple[float, float]:
    """Returns the share of a training's time that it waits for its input, and the seconds of a step."""
    settings = presets.load("blocks")
    config = dataclasses.replace(settings.model, labels=0)
    phase = next(phase for phase in settings.training.phases if phase.name == phase_name)
    phase = dataclasses.replace(phase, label_weight=0.0, generator_label_weight=0.0)
    stories = IndexedStories.open(Path(folder), config)
    gan = StoryGAN(config)
    gan.compile(phase, steps=steps, background=stories.read([0]).images[0, 0])
    step = tf.function(gan.train_step)
    iterator = iter(training_dataset(stories, phase, KEY, 0, steps + 2))
    for _ in range(2):
        step(next(iterator))
    waited, began = 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(iterator)
        waited += time.perf_counter() - asked
        step(batch)["kl"].numpy()
    total = time.perf_counter() - began
    return waited / total, total / steps


def rows(arguments: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yields the lines of the tables."""
    sets: dict[int, tuple[list[str], str]] = {}
    for count in (arguments.few, arguments.stories):
        paths = write_shards(folder / f"shards-{count}", count)
        index = measure_usage("index", _index, paths, str(folder / f"index-{count}"))
        sets[count] = paths, str(folder / f"index-{count}")
        size = sum(path.stat().st_size for path in Path(sets[count][1]).iterdir()) / 1e6
        packed = sum(Path(path).stat().st_size for path in paths) / 1e6
        yield f"{count} stories: shards {packed:.0f} MB; index written in {index.seconds:.1f} s, {size:.0f} MB\n"
    yield "| way | stories/s | epoch, s | memory above few stories, MB | first batch at the end, s |"
    yield "|---|---|---|---|---|"
    for way in ("index", "window"):
        usage: dict[int, Any] = {}
        for count, (paths, index_folder) in sets.items():
            usage[count] = measure_usage(way, read_steps, way, index_folder, paths, 0, count // PHASE.story_batch)
        paths, index_folder = sets[arguments.stories]
        steps = arguments.stories // PHASE.story_batch
        resumed = measure_usage(way, read_steps, way, index_folder, paths, steps - 2, 2)
        _, seconds = usage[arguments.stories].result
        above = usage[arguments.stories].peak - usage[arguments.few].peak
        rate, (first, _) = 2 * arguments.stories / seconds, resumed.result
        yield f"| {way} | {rate:.0f} | {seconds:.1f} | {above:.0f} | {first:.2f} |"
    yield "\n| way | rank correlation of two epochs | near pairs, times chance |"
    yield "|---|---|---|"
    for way in ("index", "window"):
        correlation, near = shuffle_quality(*orders(way, sets[arguments.stories][0], arguments.stories))
        yield f"| {way} | {correlation:.4f} | {near:.2f} |"
    yield "\n| phase of `blocks` | seconds a step | share spent waiting for input |"
    yield "|---|---|---|"
    for phase in ("warm_up", "adversarial"):
        share, seconds = measure_usage(phase, waiting_share, sets[arguments.stories][1], phase, arguments.steps).result
        yield f"| {phase} | {seconds:.3f} | {share:.2%} |"


def _index(paths: Sequence[str], folder: str) -> None:
    index_records(paths, CONFIG, Path(folder), words)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", type=int, default=50_000)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args(argv)
    print(f"matrix product: {matrix_peak() / 1e9:.0f} GFLOP/s\n")
    with tempfile.TemporaryDirectory(prefix="storygan-input-") as folder:
        for line in rows(arguments, Path(folder)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
