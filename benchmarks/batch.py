"""Measures how many stories a second `storygan batch` draws, beside the SavedModel called in a plain loop.

`python benchmarks/batch.py [--preset paper | --model M] [--sizes 100 1000 10000] [--workers 1] [--layout files]`

The floor is the export's signature `generate`, called in one process with batches of several sizes, of which the best
counts; its pictures are dropped. The batch job does the same on Beam (FnApiRunner: one worker in memory, more in
processes), with that batch size, from lines of JSON to pictures, manifest and counts on disk. Every sentence differs.

Each measurement has a fresh process. What a few stories take is start-up (imports, the model, Beam); the rate is given
with it and without. CPU time tells more than time where something else runs on the machine. Memory is the peak of the
process (VmHWM), and that of it and its children together (the sum of Pss); ratios are to the smallest size.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import tensorflow as tf
from serving_load import export_preset
from usage import cpu_seconds, peak_megabytes, watched

from components.beam_options import runner_arguments
from serving.batch_generators import SavedSource
from serving.batch_inference import Batch, run_batch
from serving.batch_output import LAYOUTS
from storygan_tf.places import find_model
from storygan_tf.saved import SavedStoryGAN

START_UP_STORIES = 8
BATCH_SIZES = (8, 16, 32, 64, 128)
FLOOR_SECONDS = 20.0
"""For each batch size."""

SHARE, SHARED_FROM = 0.8, 1000
"""Of the floor's rate that the rate without start-up has to reach, from so many stories on."""

GROWTH = 1.1
"""How much more memory than the smallest size any other may take."""


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


def draw(batch: Batch) -> None:
    """Does the work by `storygan batch`."""
    counts = run_batch(batch)
    if counts["written"] != counts["given"]:
        raise SystemExit(f"found {counts}, expected every story to be written.")


def measure(stories: int, work: Callable[..., object], *arguments: object) -> Run:
    """Measures work in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(work, arguments, sender))
    began = time.perf_counter()
    process.start()
    sender.close()
    together = max(watched(process))
    if process.exitcode:
        raise SystemExit(f"{stories} stories: failed (exit code {process.exitcode}).")
    return Run(stories, time.perf_counter() - began, *receiver.recv(), together)


def _measured(work: Callable[..., object], arguments: Sequence[object], sender: Connection) -> None:
    work(*arguments)
    sender.send((cpu_seconds(), peak_megabytes()))


def in_fresh_process(work: Callable[..., Any], *arguments: object) -> Any:
    """Returns what work gives in a fresh process, so that this one never loads a model."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def print_floor(found: dict[int, tuple[float, float]]) -> int:
    """Prints the floor, and returns the best batch size."""
    print("| batch | stories/s | CPU ms a story |\n|---|---|---|")
    for size, (rate, cpu) in found.items():
        print(f"| {size} | {rate:.1f} | {cpu:.2f} |")
    best = max(found, key=lambda size: found[size][0])
    print(f"\nfloor: batches of {best}, {found[best][0]:.1f} stories/s\n", flush=True)
    return best


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
    heads += ["of the floor's", "peak MB", "ratio", "with children", "ratio"]
    print(f"| {' | '.join(heads)} |\n|" + "---|" * len(heads), flush=True)
    first = None
    for run in runs:
        first = first or run
        fresh = run.stories - start.stories
        rates = (run.stories / run.seconds, fresh / (run.seconds - start.seconds))
        spent = 1000 * (run.cpu - start.cpu) / fresh
        figures = [
            f"{figure:.1f} | {figure / base:.2f}"
            for figure, base in zip((*rates, spent), (rate, rate, cpu), strict=True)
        ]
        memory = [
            f"{getattr(run, name):.0f} | {getattr(run, name) / getattr(first, name):.2f}"
            for name in ("peak", "together")
        ]
        print(f"| {run.stories:,} | {run.seconds:.1f} | {' | '.join(figures + memory)} |", flush=True)
        _print_missed(run, first, rates[1] / rate)


def _print_missed(run: Run, first: Run, share: float) -> None:
    if run.stories >= SHARED_FROM and share < SHARE:
        print(f"\nmissed: {share:.2f} of the floor, expected {SHARE}\n")
    if run.together > GROWTH * first.together:
        print(f"\nmissed: {run.together:.0f} MB, expected at most {GROWTH * first.together:.0f}\n")


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
        best = print_floor(found)

        def run(size: int) -> Run:
            write_stories(folder / f"{size}.jsonl", size, frames)
            batch = Batch(
                str(folder / f"{size}.jsonl"),
                str(folder / f"out-{size}"),
                SavedSource(model),
                layout=given.layout,
                batch_size=best,
                beam_args=runner_arguments(None, given.workers),
            )
            return measure(size, draw, batch)

        run(START_UP_STORIES - 1)  # the first process of all fills caches
        print_runs(map(run, (START_UP_STORIES, *given.sizes)), *found[best])


if __name__ == "__main__":
    main()
