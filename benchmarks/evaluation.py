"""Measures the time per story and the memory of an evaluation for test splits of increasing size.

`python benchmarks/evaluation.py [--sizes 500 2000 8000] [--beam=--direct_num_workers=2]`

An untrained, narrow StoryGAN is evaluated with a judge on Beam, as StoryEvaluator does, on test splits of several
sizes. Their records repeat a few rendered stories under new ids (extra `render`). Each size has a fresh process, one
after the other. The time of an evaluation of a few stories is the start-up; the time per story is computed without it.
If other programs run on the machine, CPU time is more reliable than elapsed time.

Memory is the peak of the evaluating process (VmHWM), and of the process and its children together (the sum of Pss,
measured five times a second). Pages that these processes share count once; pages that they share with others count in
part. Needs Linux.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import apache_beam as beam
import keras
import numpy as np
import tensorflow as tf
from usage import cpu_seconds, memory_samples, peak_megabytes

from components.beam_options import beam_options
from components.story_evaluator.beam_evaluation import evaluate_on_beam
from components.story_example_gen.executor import SHARD_STORIES
from storygan_tf.config.schema import EvaluationConfig, StoryGANConfig
from storygan_tf.data import example_schema
from storygan_tf.data.background import median_background
from storygan_tf.data.blocks.render import render_blocks
from storygan_tf.data.datasets import Story, load_frames, open_dataset, source_name
from storygan_tf.data.example_reader import open_split
from storygan_tf.evaluation.frame_sources import ModelFrames
from storygan_tf.evaluation.judge.judge import save_judge
from storygan_tf.evaluation.judge.judge_training import train_judge
from storygan_tf.evaluation.plan import make_plan
from storygan_tf.export.signatures import export_storygan
from storygan_tf.models.story_generator import StoryGenerator
from storygan_tf.text.hashed_ngram_encoder import embed

START_UP_STORIES = 8
TRAIN_STORIES = 64
POOL = 16
"""Number of stories that are rendered for each split."""

FRAMES = 4
CONFIG = StoryGANConfig(
    frames=FRAMES,
    sentence_size=6,
    noise_size=3,
    context_size=16,
    filter_count=4,
    filter_length=12,
    generator_width=16,
    discriminator_width=2,
)
BUCKETS = 64
MAX_SENTENCE_LENGTH = 1000


@dataclasses.dataclass(frozen=True)
class Run:
    """Time and memory of an evaluation.

    Attributes:
        stories: number of stories in the test split.
        seconds: elapsed time from the start of the process to its end, in seconds.
        cpu: processor time of all processes, in seconds.
        peak: peak memory of the main process, in MB.
        together: peak memory of all processes together, in MB.
    """

    stories: int
    seconds: float
    cpu: float
    peak: float
    together: float


class Vectorizer(tf.Module):
    """Multiplies hashed words by a random matrix; it costs as much as a trained vectorizer."""

    def __init__(self) -> None:
        super().__init__()
        matrix = np.random.default_rng(0).normal(size=[BUCKETS, CONFIG.sentence_size])
        self.matrix = tf.Variable(matrix.astype(np.float32))

    def __call__(self, sentences: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[n, sentence_size]` for string `[n]`."""
        return embed(sentences, BUCKETS) @ self.matrix


def make_model(path: Path) -> None:
    """Exports an untrained StoryGAN."""
    keras.utils.set_random_seed(1)
    generator = StoryGenerator(CONFIG)
    generator(tf.zeros([1, FRAMES, CONFIG.sentence_size]), training=False, seed=tf.zeros([1], tf.int64))
    info = {"frames": FRAMES, "image_size": 64, "examples": [], "words": []}
    export_storygan(generator, Vectorizer(), info, path, MAX_SENTENCE_LENGTH)


def make_judge(examples: Path, path: Path) -> None:
    """Trains a judge on the training stories for one epoch. Its time matters here, not its metrics."""
    train = open_split(examples, "train")
    batch = train.read(range(POOL))
    background = median_background([batch.images])
    save_judge(train_judge(batch.images, batch.labels, train.label_names, batch.objects, background, 1, 1), path)


def make_examples(data: Path, sizes: Sequence[int], out: Path) -> None:
    """Writes an Examples artifact like that of StoryExampleGen to `{out}/{size}`, for each number of test stories."""
    dataset = open_dataset(data)
    labels = dataset.label_names or ()
    stories = [(story, load_frames(story)) for story in dataset.stories() if isinstance(story, Story)]
    pools = {split: [entry for entry in stories if entry[0].split == split] for split in ("train", "test")}
    for size in sizes:
        splits = {"train": TRAIN_STORIES, "test": size}
        for split, count in splits.items():
            _write_split(out / str(size) / f"Split-{split}", pools[split], count, labels)
        counts = {"source": source_name(dataset), "given": sum(splits.values()), "accepted": sum(splits.values())}
        (out / str(size) / example_schema.LABELS_FILE).write_text(json.dumps(labels))
        (out / str(size) / example_schema.COUNTS_FILE).write_text(
            json.dumps({**counts, "rejected": {}, "splits": splits})
        )


def _write_split(folder: Path, pool: list[tuple[Story, list[bytes]]], count: int, labels: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    files = -(-count // SHARD_STORIES)
    endless = itertools.cycle(pool)
    for number in range(files):
        path = folder / f"data_tfrecord-{number:05d}-of-{files:05d}.gz"
        with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for rank in range(number * SHARD_STORIES, min((number + 1) * SHARD_STORIES, count)):
                story, images = next(endless)
                flags = [[int(name in frame) for name in labels] for frame in story.labels or ()]
                example = example_schema.story_example(f"s{rank:06d}", story.sentences, images, flags, story.objects)
                writer.write(example.SerializeToString(deterministic=True))


def measure(folder: Path, stories: int, beam_args: Sequence[str]) -> Run:
    """Runs an evaluation of `stories` test stories in a fresh process and measures it."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_evaluate, args=(folder, stories, list(beam_args), sender))
    began = time.perf_counter()
    process.start()
    sender.close()
    together = max(memory_samples(process))
    seconds = time.perf_counter() - began
    if process.exitcode:
        raise SystemExit(f"{stories} stories: the evaluation failed (exit code {process.exitcode}).")
    return Run(stories, seconds, *receiver.recv(), together)


def _evaluate(folder: Path, stories: int, beam_args: list[str], sender: Connection) -> None:
    examples = folder / "examples" / str(stories)
    plan = make_plan(str(examples), ModelFrames(str(folder / "model")), EvaluationConfig(), str(folder / "judge"))
    evaluate_on_beam(plan, lambda: beam.Pipeline(argv=beam_options(beam_args)), str(folder))
    sender.send((cpu_seconds(), peak_megabytes()))


def print_runs(runs: Iterator[Run]) -> None:
    """Prints the start-up (the first run) and a Markdown table of the other runs; ratios are to its first row."""
    start_up = next(runs)
    print(
        f"start-up and {start_up.stories} stories: {start_up.seconds:.1f} s, {start_up.cpu:.1f} s CPU, "
        f"{start_up.peak:.0f} MB, {start_up.together:.0f} MB with children\n"
    )
    print(
        "| stories | seconds | ms a story | ratio | CPU ms a story | ratio | peak MB | ratio | with children | ratio |"
    )
    print("|" + "---|" * 10, flush=True)
    first = None
    for run in runs:
        values = _costs(run, start_up)
        first = first or values
        pairs = (f"{value:.1f} | {value / base:.2f}" for value, base in zip(values, first, strict=True))
        print(f"| {run.stories:,} | {run.seconds:.1f} | {' | '.join(pairs)} |", flush=True)


def _costs(run: Run, start_up: Run) -> tuple[float, ...]:
    """Returns milliseconds and CPU milliseconds per story without start-up, and both peaks in MB."""
    share = 1000 / (run.stories - start_up.stories)
    return share * (run.seconds - start_up.seconds), share * (run.cpu - start_up.cpu), run.peak, run.together


def main() -> None:
    """Creates stories, a model and a judge, and measures an evaluation of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000, 8000], help="numbers of test stories")
    parser.add_argument("--beam", action="append", default=[], help="a Beam option, as for `storygan run`")
    arguments = parser.parse_args()
    if min(arguments.sizes) <= START_UP_STORIES:
        parser.error(f"--sizes: found {min(arguments.sizes)}, expected more than {START_UP_STORIES}.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sizes = [START_UP_STORIES, *arguments.sizes]
        render_blocks(folder / "data", POOL, POOL)
        make_examples(folder / "data", sorted(set(sizes)), folder / "examples")
        make_model(folder / "model")
        make_judge(folder / "examples" / str(START_UP_STORIES), folder / "judge")
        measure(folder, START_UP_STORIES, arguments.beam)  # the very first process fills caches and compiles modules
        print_runs(measure(folder, size, arguments.beam) for size in sizes)


if __name__ == "__main__":
    main()
