"""Measures how many stories a second `storygan prepare` prepares, compared with a plain loop that does the same work.

`python benchmarks/preparation.py [--sizes 1000 5000 20000] [--workers 1 2]`

The loop decodes, resizes and encodes each picture and embeds each sentence in one process, and writes nothing. It
cannot be faster than the image codecs, whose time is printed. Preparation does the same on Beam (FnApiRunner: one
worker in memory, several in processes), fits the PCA, computes statistics, and writes records before and after the
vectors are added. Stories have four pictures of 320x240 pixels, the size of CLEVR-SV's, which are taken from a pool;
sentences are random.

Each measurement runs in a fresh process. The time of a run with a few stories is the start-up; the time per story is
computed without it. If other programs run on the machine, CPU time is more reliable than elapsed time. Memory is the
peak of the process (VmHWM), and of the process and its children together (the sum of Pss).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw
from usage import measure_usage

from components.beam_options import runner_arguments
from pipeline.beam_preparation import BATCH
from pipeline.preparation import Preparation, prepare
from storygan_tf.config import presets
from storygan_tf.data.datasets import Story, load_frames, open_dataset
from storygan_tf.text.sentence_encoder import EMBEDDED, load_encoder

START_UP_STORIES = 32
POOL = 256
"""Number of pictures in the pool."""

FRAMES = 4
TEST_EVERY = 10
SHARE, SHARED_FROM = 0.7, 5000
"""Minimum of the rate of one worker, relative to the loop, and the number of stories from which it applies."""

SPREAD = 0.15
"""Maximum relative difference of the CPU time per story between all sizes."""

PEAK = 2000
"""Maximum memory of one worker, in MB."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Time and memory of a run.

    Attributes:
        stories: number of stories.
        seconds: elapsed time, in seconds.
        cpu: processor time of all processes, in seconds.
        codec: part of `cpu` in image codecs, in seconds; 0 if it was not measured.
        peak: peak memory of the main process, in MB.
        together: peak memory of all processes together, in MB.
    """

    stories: int
    seconds: float
    cpu: float
    codec: float
    peak: float
    together: float


def make_stories(folder: Path, count: int, pool: Path) -> None:
    """Writes a story folder of `count` stories with pictures from the folder `pool`."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for picture in pool.iterdir():
        (folder / "images" / picture.name).hardlink_to(picture)
    words = (["small", "large"], ["red", "green", "blue", "yellow", "cyan", "brown"], ["cube", "sphere", "cylinder"])
    with (folder / "stories.jsonl").open("w") as file:
        for number in range(count):
            sentences = [
                " ".join(["A", *map(random.choice, words), f"in place {random.integers(40)}."]) for _ in range(FRAMES)
            ]
            images = [f"images/{picture:03d}.png" for picture in random.integers(0, POOL, FRAMES)]
            split = "train" if (number + 1) % TEST_EVERY else "test"
            story = {"story_id": f"s{number:06d}", "split": split, "sentences": sentences, "images": images}
            file.write(json.dumps(story) + "\n")


def make_pool(folder: Path) -> None:
    """Draws pictures of 320x240 with soft light and noise, so that they compress as rendered ones do."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for number in range(POOL):
        light = np.linspace(90, 160, 320)[None, :] + np.linspace(-20, 20, 240)[:, None]
        grey = np.clip(light + random.normal(0, 2, light.shape), 0, 255).astype(np.uint8)
        image = Image.fromarray(grey).convert("RGB")
        pen = ImageDraw.Draw(image)
        for left, top in random.integers(0, 200, [FRAMES, 2]):
            pen.ellipse((left, top, left + 40, top + 40), fill=tuple(map(int, random.integers(0, 255, 3))))
        image.save(folder / f"{number:03d}.png")


def measure(work: Callable[..., float], stories: int, *arguments: object) -> Run:
    """Measures a function in a fresh process; the function returns its seconds in image codecs."""
    usage = measure_usage(f"{stories} stories", work, *arguments)
    return Run(stories, usage.seconds, usage.cpu, usage.result, usage.peak, usage.together)


def loop(data: Path) -> float:
    """Prepares the stories of a folder in a plain loop, and returns the processor seconds in image codecs."""
    encoder, codec = load_encoder(EMBEDDED), 0.0
    stories = [story for story in open_dataset(data).stories() if isinstance(story, Story)]
    for start in range(0, len(stories), BATCH):
        batch = stories[start : start + BATCH]
        began = time.process_time()
        for story in batch:
            load_frames(story)
        codec += time.process_time() - began
        encoder(tf.constant([sentence for story in batch for sentence in story.sentences]))
    return codec


def prepare_on_beam(data: Path, out: Path, workers: int) -> float:
    """Prepares the stories of a folder on Beam, as `storygan prepare` does; returns 0, as it measures no codecs."""
    settings = presets.load("quick").override([f"model.frames={FRAMES}", f"data.encoder={EMBEDDED}"])
    prepare(Preparation(data, out, settings, beam_args=runner_arguments(None, workers)), lambda line: None)
    return 0.0


def run_all(folder: Path, sizes: list[int], workers: list[int]) -> Iterator[tuple[str, Run, Run]]:
    """Yields name, start-up and run of every measurement; those of the loop come first."""
    make_pool(folder / "pool")
    for size in (START_UP_STORIES, *sizes):
        make_stories(folder / str(size), size, folder / "pool")
    measure(prepare_on_beam, START_UP_STORIES, folder / str(START_UP_STORIES), folder / "warm", 1)
    start = measure(loop, START_UP_STORIES, folder / str(START_UP_STORIES))
    for size in sizes:
        yield "loop", start, measure(loop, size, folder / str(size))
    for count in workers:
        name = f"{count} worker{'s' if count > 1 else ''}"
        place = folder / f"prepared-{count}"
        start = measure(prepare_on_beam, START_UP_STORIES, folder / str(START_UP_STORIES), place / "0", count)
        for size in sizes:
            yield name, start, measure(prepare_on_beam, size, folder / str(size), place / str(size), count)


def print_runs(runs: Iterator[tuple[str, Run, Run]]) -> None:
    """Prints a Markdown table, row by row, and compares one worker with the targets."""
    print(
        "| run | stories | start-up s | seconds | stories/s | of the loop | CPU ms a story | codec ms | of the loop |",
        end="",
    )
    print(" peak MB | with children |\n|" + "---|" * 11, flush=True)
    loops: dict[int, tuple[float, float]] = {}
    found: dict[str, dict[int, tuple[float, float, float]]] = {}
    for name, start, run in runs:
        count = run.stories - start.stories
        rate, cpu = count / (run.seconds - start.seconds), 1000 * (run.cpu - start.cpu) / count
        loops.setdefault(run.stories, (rate, cpu))
        shares = rate / loops[run.stories][0], loops[run.stories][1] / cpu
        found.setdefault(name, {})[run.stories] = (*shares, cpu)
        codec = f"{1000 * (run.codec - start.codec) / count:.2f}" if run.codec else ""
        print(
            f"| {name} | {run.stories:,} | {start.seconds:.1f} | {run.seconds:.1f} | {rate:.0f} | {shares[0]:.2f} | "
            f"{cpu:.2f} | {codec} | {shares[1]:.2f} | {run.peak:.0f} | {run.together:.0f} |",
            flush=True,
        )
        if name == "1 worker" and run.peak > PEAK:
            print(f"\nmissed: {run.peak:.0f} MB, expected at most {PEAK}\n")
    _print_targets(found.get("1 worker", {}))


def _print_targets(found: dict[int, tuple[float, float, float]]) -> None:
    """Prints the relative rates, CPU times and targets of one worker, by number of stories."""
    for stories, (share, cpu_share, _) in found.items():
        if stories >= SHARED_FROM:
            print(f"{stories:,} stories: {share:.2f} of the loop's rate, {cpu_share:.2f} by CPU time; target {SHARE}")
    if len(found) > 1:
        costs = [cost for _, _, cost in found.values()]
        print(f"CPU a story, largest over smallest: {max(costs) / min(costs):.2f}; target at most {1 + SPREAD:.2f}")


def main() -> None:
    """Measures all sizes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[1000, 5000, 20000], help="numbers of stories of the runs"
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of Beam workers")
    arguments = parser.parse_args()
    if min(arguments.sizes) <= START_UP_STORIES:
        parser.error(f"--sizes: found {min(arguments.sizes)}, expected more than {START_UP_STORIES}.")
    with tempfile.TemporaryDirectory() as temporary:
        print_runs(run_all(Path(temporary), arguments.sizes, arguments.workers))


if __name__ == "__main__":
    main()
