"""Measures how many stories a second `storygan batch` draws, beside the SavedModel called in a plain loop.

`python benchmarks/batch.py [--preset paper | --model M] [--sizes 100 1000 10000] [--workers 1] [--layout files]`

The floor is the export's signature `generate`, called in one process with batches of several sizes, of which the best
counts; its pictures are dropped. The batch job does the same on Beam (FnApiRunner: one worker in memory, more in
processes), with its own default batch size, from lines of JSON to pictures, manifest and counts on disk. Every sentence
differs.

Each measurement has a fresh process, whose imports do not count. What a few stories take is start-up (the model, Beam);
the rate is given with it and without. CPU time tells more than time where something else runs on the machine. Memory is
the peak of the process (VmHWM), and that of it and its children together (the sum of Pss); it is compared from the
sizes on where every batch is full.
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
"""For each batch size."""

SHARE, SHARED_FROM = 0.8, 1000
"""Of the floor's rate that the rate without start-up has to reach, from so many stories on."""

GROWTH = 1.1
"""How much more memory than the first of these sizes the others may take."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What some stories took.

    Attributes:
        stories: how many.
        seconds: from the start of the work to its end.
        cpu: seconds of processor time, of all processes.
        peak: of the process, MB.
        together: of all its processes, MB.
    """

    stories: int
    seconds: float
    cpu: float
    peak: float
    together: float


def write_stories(path: Path, count: int, frames: int) -> None:
    """Writes lines of stories, no two sentences alike."""
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"story_id": f"s{number:06d}", "sentences": story_of(number, frames)}) + "\n")


def story_of(number: int, frames: int) -> list[str]:
    """Returns sentences that no other story has."""
    return [f"A red cube stands {number} left and {frame} back." for frame in range(frames)]


def frames_of(model: str) -> int:
    """Returns how many sentences a model's stories have."""
    return SavedStoryGAN(model).frames


def floor(model: str, seconds: float) -> dict[int, tuple[float, float]]:
    """Returns stories a second, and CPU milliseconds a story, by batch size."""
    frames, found = frames_of(model), {}
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
    return found


def draw(batch: BatchJob) -> None:
    """Does the work by `storygan batch`."""
    counts = run_batch(batch)
    if counts["written"] != counts["given"]:
        raise SystemExit(f"found {counts}, expected every story to be written.")


def measure(stories: int, work: Callable[..., object], *arguments: object) -> Run:
    """Measures work in a fresh process."""
    usage = measure_usage(f"{stories} stories", work, *arguments)
    return Run(stories, usage.seconds, usage.cpu, usage.peak, usage.together)


def in_fresh_process(work: Callable[..., Any], *arguments: object) -> Any:
    """Returns what work gives in a fresh process, so that this one never loads a model."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def print_floor(found: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """Prints the floor, and returns its rate and its CPU milliseconds a story at the best batch size."""
    print("| batch | stories/s | CPU ms a story |\n|---|---|---|")
    for size, (rate, cpu) in found.items():
        print(f"| {size} | {rate:.1f} | {cpu:.2f} |")
    best = max(found, key=lambda size: found[size][0])
    print(f"\nfloor: batches of {best}, {found[best][0]:.1f} stories/s\n", flush=True)
    return found[best]


def print_runs(runs: Iterator[Run], rate: float, cpu: float) -> None:
    """Prints the start-up, which comes first, a table, and what misses a target.

    Args:
        runs: of growing sizes.
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
        figures = _figures(run, start)
        shares = [
            f"{figure:.1f} | {figure / base:.2f}" for figure, base in zip(figures, (rate, rate, cpu), strict=True)
        ]
        memory = f"{run.peak:.0f} | {run.together:.0f}"
        print(f"| {run.stories:,} | {run.seconds:.1f} | {' | '.join(shares)} | {memory} |", flush=True)
        if run.stories >= SHARED_FROM:
            first = first or run
            missed += _missed(run, first, figures[1] / rate)
    print("\n".join(["", *missed]) if missed else "\nno target is missed")


def _figures(run: Run, start: Run) -> tuple[float, float, float]:
    """Returns stories a second, the same without start-up, and CPU milliseconds a story without start-up."""
    fresh = run.stories - start.stories
    return run.stories / run.seconds, fresh / (run.seconds - start.seconds), 1000 * (run.cpu - start.cpu) / fresh


def _missed(run: Run, first: Run, share: float) -> Iterator[str]:
    if share < SHARE:
        yield f"missed: {run.stories:,} stories: {share:.2f} of the floor's rate, expected {SHARE}"
    for what in ("peak", "together"):
        found, allowed = getattr(run, what), GROWTH * getattr(first, what)
        if found > allowed:
            yield f"missed: {run.stories:,} stories: {found:.0f} MB, expected at most {allowed:.0f}"


def main() -> None:
    """Measures the floor, and every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper", help="widths of an untrained model")
    parser.add_argument("--model", help="an exported model instead")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000], help="stories of each run")
    parser.add_argument("--workers", type=int, default=1, help="of each run")
    parser.add_argument("--layout", choices=LAYOUTS, default=LAYOUTS[0], help="of the pictures")
    parser.add_argument("--floor-seconds", type=float, default=FLOOR_SECONDS, help="for each batch size")
    given = parser.parse_args()
    if min(given.sizes) <= START_UP_STORIES:
        parser.error(f"--sizes: found {min(given.sizes)}, expected more than {START_UP_STORIES}.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = str(find_model(given.model)) if given.model else str(folder / "model" / "1")
        if not given.model:
            in_fresh_process(export_preset, given.preset, Path(model))
        frames = int(in_fresh_process(frames_of, model))
        found = in_fresh_process(floor, model, given.floor_seconds)
        floor_rate, floor_cpu = print_floor(found)

        def run(size: int) -> Run:
            write_stories(folder / f"{size}.jsonl", size, frames)
            batch = BatchJob(
                str(folder / f"{size}.jsonl"),
                str(folder / f"out-{size}"),
                SavedSource(model),
                layout=given.layout,
                beam_args=runner_arguments(None, given.workers),
            )
            return measure(size, draw, batch)

        run(START_UP_STORIES - 1)  # the first process of all fills caches
        print_runs(map(run, (START_UP_STORIES, *given.sizes)), floor_rate, floor_cpu)


if __name__ == "__main__":
    main()
