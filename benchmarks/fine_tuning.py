"""Measures how much a pretrained model helps if there are few stories of another look.

    .venv/bin/python benchmarks/fine_tuning.py --data runs/data/blocks --out runs/fine_tuning [--stories 72]

Test stories of a rendered folder of `blocks`, which are not in the pretrained model's training data, get another look:
a wooden table instead of the grey one, and warm light from the left. Their sentences stay the same. The same preset is
trained on some of them twice, for the same number of steps: from the pretrained model and from scratch. Both models,
and the pretrained model as it is, are evaluated on the other stories. The frozen judge was not trained on the other
look; its metrics of the true frames show how reliable it is there. Results in the output folder are reused.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.config.schema import IMAGE_SIZE, EvaluationConfig
from storygan_tf.data.background import median_background
from storygan_tf.data.datasets.story import load_frame
from storygan_tf.data.datasets.story_folder import STORIES_FILE
from storygan_tf.evaluation.judge.judge import BLOCKS as FROZEN_JUDGE
from storygan_tf.evaluation.result import Evaluation
from storygan_tf.reporting.comparison import ComparedModel, comparison_table
from storygan_tf.reporting.evaluation_files import METRICS_FILE
from storygan_tf.training.trainer import HISTORY
from storygan_tf.training.warm_start import load_initial_model

SEED = 1
"""Seed of the table's grain and of the training."""

WOOD = (152, 104, 62)
"""Mean colour of the table, RGB."""

LIGHT = (1.06, 1.0, 0.86)
"""Factors of the channels of an object's colour, for warmer light."""

OBJECT_LEVELS = 19
"""Grey levels by which an object differs from the table; a smaller difference is shadow."""

PASSED = "min_ssim_over_random"
"""The only threshold that is set, to a value that every model passes: without any threshold no model is pushed."""


def wooden_table(seed: int = SEED) -> np.ndarray:
    """Returns a picture of planks with grain: float32 [64, 64, 3] in [0, 255]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE].astype(np.float32)
    plank = (y // 11).astype(int)
    shade = random.uniform(0.85, 1.1, 8)[plank]
    phase = random.uniform(0, 2 * np.pi, 8)[plank]
    grain = 1 + 0.06 * np.sin(1.9 * y + phase + 1.5 * np.sin(0.11 * x + phase))
    gap = np.where(y % 11 < 1, 0.7, 1.0)
    noise = 1 + 0.02 * random.standard_normal([IMAGE_SIZE, IMAGE_SIZE])
    return (np.float32(WOOD) * (shade * grain * gap * noise)[..., np.newaxis]).astype(np.float32)


def other_look(frames: np.ndarray, background: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Draws the objects of frames on another table, in another light.

    A pixel that differs from the background by more than `OBJECT_LEVELS` belongs to an object (or to the core of a
    shadow) and keeps its colour, in warmer light. All other pixels show the new table, darkened by the old shadows. The
    brightness falls from 1.15 at the left to 0.75 at the right.

    Args:
        frames: uint8 [n, 64, 64, 3], the frames.
        background: uint8 [64, 64, 3], the median of the frames.
        table: float32 [64, 64, 3] in [0, 255], the new table.

    Returns:
        The new frames, uint8 [n, 64, 64, 3].
    """
    old, before = frames.astype(np.float32), background.astype(np.float32)
    objects = np.abs(old - before).max(axis=-1, keepdims=True) > OBJECT_LEVELS
    shadow = np.clip(old.mean(axis=-1, keepdims=True) / np.maximum(before.mean(axis=-1, keepdims=True), 1), 0, 1.2)
    light = np.linspace(1.15, 0.75, IMAGE_SIZE, dtype=np.float32)[:, np.newaxis]
    drawn = np.where(objects, old * np.float32(LIGHT), table * shadow) * light
    return np.clip(np.round(drawn), 0, 255).astype(np.uint8)


def write_other_look(data: Path, out: Path, train: int, test: int) -> None:
    """Writes a folder with test stories of `data` in the other look; the first `train` of them are for training."""
    if (out / STORIES_FILE).is_file():
        return
    stories = [json.loads(line) for line in (data / STORIES_FILE).read_text(encoding="utf-8").splitlines()]
    chosen = [story for story in stories if story["split"] == "test"][: train + test]
    if len(chosen) < train + test:
        sys.exit(f"{data}: found {len(chosen)} test stories, expected {train + test}.")
    frames = np.stack([[load_frame(data / image) for image in story["images"]] for story in chosen])
    background, table = median_background([frames]), wooden_table()
    for number, (story, pictures) in enumerate(zip(chosen, frames, strict=True)):
        story["split"] = "train" if number < train else "test"
        for name, picture in zip(story["images"], other_look(pictures, background, table), strict=True):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(out / name)
    write_atomically(out / STORIES_FILE, "".join(json.dumps(story) + "\n" for story in chosen).encode())


def training_options(preset: str, assignments: Sequence[str]) -> list[str]:
    """Returns the options of both trainings: preset, frozen judge, seed, and a threshold that every model passes."""
    names = [field.name for field in dataclasses.fields(EvaluationConfig) if field.name.startswith(("min_", "max_"))]
    thresholds = [f"evaluation.{name}={-2 if name == PASSED else 'null'}" for name in names]
    settings = [f"evaluation.judge={FROZEN_JUDGE}", *thresholds, f"training.seed={SEED}", *assignments]
    return ["--preset", preset, *(part for setting in settings for part in ("--set", setting))]


def storygan(command: str, done: Path, *arguments: object) -> None:
    """Runs a command in a process of its own, unless the file `done` exists, which it writes."""
    if not done.is_file():
        subprocess.run([sys.executable, "-m", "storygan_cli", command, *map(str, arguments)], check=True)


def training_minutes(run: Path) -> float:
    """Returns the duration of the training of a run, in minutes."""
    history: list[dict[str, Any]] = json.loads((run / HISTORY).read_text())
    return sum(float(entry["seconds"]) for entry in history) / 60


def measured(folder: Path, name: str) -> ComparedModel:
    """Returns the evaluation in a folder, with a name for the table."""
    metrics = folder / METRICS_FILE
    return ComparedModel(name, Evaluation.from_json(metrics.read_text(), str(metrics)))


def main() -> None:
    """Trains both models, and prints the metrics of each model and baseline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a rendered folder of blocks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--initial", default="blocks", help="model to start from")
    parser.add_argument("--preset", help="preset of both trainings; by default that of the initial model")
    parser.add_argument("--stories", type=int, default=72)
    parser.add_argument("--test-stories", type=int, default=200)
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    data, tuned, scratch, as_it_is = (
        arguments.out / name for name in ("data", "fine_tuned", "from_scratch", "as_it_is")
    )
    write_other_look(arguments.data, data, arguments.stories, arguments.test_stories)
    options = training_options(arguments.preset or load_initial_model(arguments.initial).preset, arguments.assignments)
    storygan(
        "evaluate", as_it_is / METRICS_FILE, "--model", arguments.initial, "--data", data, "--out", as_it_is, *options
    )
    for run, more in ((tuned, ["--init-from", arguments.initial]), (scratch, [])):
        storygan("run", run / METRICS_FILE, "--data", data, "--out", run, *more, *options)
    rows = [measured(as_it_is, "as it is")]
    rows += [measured(run, f"{run.name}, {training_minutes(run):.1f} min") for run in (tuned, scratch)]
    print(f"{arguments.stories} training stories of another look, {arguments.test_stories} test stories")
    print(comparison_table(rows))


if __name__ == "__main__":
    main()
