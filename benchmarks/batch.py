"""Measures how many stories a second `storygan batch` draws, compared with calls of the SavedModel in a plain loop.

`python benchmarks/batch.py [--preset paper | --model M] [--sizes 100 1000 10000] [--workers 1] [--layout files]`

The floor is the best rate of the signature `generate`, called in one process with batches of several sizes; its
pictures are dropped. The batch job does the same on Beam (FnApiRunner: one worker in memory, several in processes) with
its default batch size, and reads JSON lines and writes pictures, manifest and counts. No two sentences are equal.

Each measurement runs in a fresh process, and its imports do not count. The time of a run with a few stories is the
start-up (loading the model, starting Beam); the rate is printed with and without it. If other programs run on the
machine, CPU time is more reliable than elapsed time. Memory is the peak of the process (VmHWM), and of the process and
its children together (the sum of Pss). It is compared only between runs in which all batches are full.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from serving_load import export_preset
from usage import cpu_seconds, measure_usage

from components.beam_options import runner_arguments
from serving.batch_generators import SavedSource
from serving.batch_inference import BatchJob, run_batch
from serving.batch_output import LAYOUTS
from storygan_tf.common.model_paths import find_model
from storygan_tf.export.loaded_model import SavedStoryGAN

START_UP_STORIES = 8
BATCH_SIZES = (8, 16, 32, 64, 128)
FLOOR_SECONDS = 20.0
"""Duration of the measurement of each batch size, in seconds."""

SHARE, SHARED_FROM = 0.8, 1000
"""Minimum of the rate without start-up, relative to the floor, and the number of stories from which it applies."""

GROWTH = 1.1
"""Maximum memory of a run with at least `SHARED_FROM` stories, relative to the smallest such run."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Time and memory of a run.

    Attributes:
        stories: number of stories.
        seconds: elapsed time without imports, in seconds.
        cpu: processor time of all processes, in seconds.
        peak: peak memory of the main process, in MB.
        together: peak memory of all processes together, in MB.
    """

    stories: int
    seconds: float
    cpu: float
    peak: float
    together: float


def write_stories(path: Path, count: int, frames: int) -> None:
    """Writes JSON lines of stories in which no two sentences are equal."""
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"story_id": f"s{number:06d}", "sentences": story_of(number, frames)}) + "\n")


def story_of(number: int, frames: int) -> list[str]:
    """Returns the sentences of a story, which differ from those of every other `number`."""
    return [f"A red cube stands {number} left and {frame} back." for frame in range(frames)]


def floor(model: str, seconds: float) -> tuple[int, dict[int, tuple[float, float]]]:
    """Measures direct calls of a model.

    Returns:
        The number of sentences in a story, and stories a second and CPU milliseconds a story by batch size.
    """
    frames, found = SavedStoryGAN(model).frames, {}
    generate = tf.saved_model.load(model).signatures["generate"]
    for size in BATCH_SIZES:
        sentences = tf.constant([story_of(number, frames) for number in range(size)])
        seeds = tf.range(size, dtype=tf.int64)
        generate(sentences=sentences, seed=seeds)
        began, cpu, calls = time.perf_counter(), cpu_seconds(), 0
        while time.perf_counter() - began < seconds:
            generate(sentences=sentences, seed=seeds)["image_bytes"].numpy()
            calls += 1
        drawn = calls * size
        found[size] = drawn / (time.perf_counter() - began), 1000 * (cpu_seconds() - cpu) / drawn
    return frames, found


def draw(batch: BatchJob) -> None:
    """Runs a batch job; raises SystemExit unless it writes every story."""
    counts = run_batch(batch)
    if counts["written"] != counts["given"]:
        raise SystemExit(f"found {counts}, expected every story to be written.")


def measure(stories: int, work: Callable[..., object], *arguments: object) -> Run:
    """Measures a function in a fresh process; `stories` is the number of stories that it draws."""
    usage = measure_usage(f"{stories} stories", work, *arguments)
    return Run(stories, usage.seconds, usage.cpu, usage.peak, usage.together)


def in_fresh_process(work: Callable[..., Any], *arguments: object) -> Any:
    """Returns the result of a function in a fresh process, so that this process never loads a model."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def print_floor(found: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """Prints the floor as a table; returns stories a second and CPU milliseconds a story at the best batch size."""
    print("| batch | stories/s | CPU ms a story |\n|---|---|---|")
    for size, (rate, cpu) in found.items():
        print(f"| {size} | {rate:.1f} | {cpu:.2f} |")
    best = max(found, key=lambda size: found[size][0])
    print(f"\nfloor: batches of {best}, {found[best][0]:.1f} stories/s\n", flush=True)
    return found[best]


def print_runs(runs: Iterator[Run], rate: float, cpu: float) -> None:
    """Prints the start-up, a table of the runs, and the targets that are missed.

    Args:
        runs: the run that measures the start-up, then runs of increasing sizes.
        rate: the floor's stories a second.
        cpu: the floor's CPU milliseconds a story.
    """
    start = next(runs)
    print(f"start-up and {start.stories} stories: {start.seconds:.1f} s, {start.cpu:.1f} s CPU, {start.peak:.0f} MB\n")
    heads = ["stories", "seconds", "stories/s", "of the floor", "without start-up", "of the floor", "CPU ms a story"]
    heads += ["of the floor's", "peak MB", "with children"]
    print(f"| {' | '.join(heads)} |\n|" + "---|" * len(heads), flush=True)
    first, missed = None, []
    for run in runs:
        values = _rates(run, start)
        shares = [f"{value:.1f} | {value / base:.2f}" for value, base in zip(values, (rate, rate, cpu), strict=True)]
        memory = f"{run.peak:.0f} | {run.together:.0f}"
        print(f"| {run.stories:,} | {run.seconds:.1f} | {' | '.join(shares)} | {memory} |", flush=True)
        if run.stories >= SHARED_FROM:
            first = first or run
            missed += _missed(run, first, values[1] / rate)
    print("\n".join(["", *missed]) if missed else "\nno target is missed")


def _rates(run: Run, start: Run) -> tuple[float, float, float]:
    """Returns stories a second, the same without start-up, and CPU milliseconds a story without start-up."""
    fresh = run.stories - start.stories
    return run.stories / run.seconds, fresh / (run.seconds - start.seconds), 1000 * (run.cpu - start.cpu) / fresh


def _missed(run: Run, first: Run, share: float) -> Iterator[str]:
    """Yields a line for each target that a run misses; `share` is its rate relative to the floor."""
    if share < SHARE:
        yield f"missed: {run.stories:,} stories: {share:.2f} of the floor's rate, expected {SHARE}"
    for name in ("peak", "together"):
        found, allowed = getattr(run, name), GROWTH * getattr(first, name)
        if found > allowed:
            yield f"missed: {run.stories:,} stories: {found:.0f} MB, expected at most {allowed:.0f}"


def main() -> None:
    """Measures the floor and a run of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper", help="preset whose widths an untrained model has")
    parser.add_argument("--model", help="exported model to use instead of an untrained one")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[100, 1000, 10_000], help="numbers of stories of the runs"
    )
    parser.add_argument("--workers", type=int, default=1, help="number of Beam workers")
    parser.add_argument("--layout", choices=LAYOUTS, default=LAYOUTS[0], help="layout of the pictures")
    parser.add_argument(
        "--floor-seconds", type=float, default=FLOOR_SECONDS, help="seconds for each batch size of the floor"
    )
    arguments = parser.parse_args()
    if min(arguments.sizes) <= START_UP_STORIES:
        parser.error(f"--sizes: found {min(arguments.sizes)}, expected more than {START_UP_STORIES}.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = str(find_model(arguments.model)) if arguments.model else str(folder / "model" / "1")
        if not arguments.model:
            in_fresh_process(export_preset, arguments.preset, Path(model))
        frames, found = in_fresh_process(floor, model, arguments.floor_seconds)
        floor_rate, floor_cpu = print_floor(found)

        def run(size: int) -> Run:
            write_stories(folder / f"{size}.jsonl", size, frames)
            batch = BatchJob(
                str(folder / f"{size}.jsonl"),
                str(folder / f"out-{size}"),
                SavedSource(model),
                layout=arguments.layout,
                beam_args=runner_arguments(None, arguments.workers),
            )
            return measure(size, draw, batch)

        run(START_UP_STORIES - 1)  # the very first process fills caches
        print_runs(map(run, (START_UP_STORIES, *arguments.sizes)), floor_rate, floor_cpu)


if __name__ == "__main__":
    main()
