"""Trains the frozen judge of `blocks` that ships with the package, and prints its metrics.

    .venv/bin/python scripts/train_blocks_judge.py [--data DIR] [--out DIR] [--also DIR ...]

If the data folder lacks stories, they are rendered with a seed that no preset uses (20 minutes on one core). The judge
is trained on the training stories (20 minutes on two cores). Its metrics are computed on the test stories of the data
folder and of the other folders of `blocks` that `--also` names: for the true frames, the median background, and the
true frames of another story.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from storygan_tf.common.progress import progress
from storygan_tf.data.background import evenly_spaced, median_background
from storygan_tf.data.blocks.render import render_blocks
from storygan_tf.data.datasets import Story, open_dataset
from storygan_tf.data.datasets.story import load_frame
from storygan_tf.evaluation.judge.judge import BLOCKS, load_judge, save_judge
from storygan_tf.evaluation.judge.judge_training import judge_metrics, train_judge

SEED = 7001
"""Seed of the stories and of the training."""

STORIES, TEST_STORIES = 2000, 300
EPOCHS = 20
BACKGROUND_STORIES = 500
"""Most training stories from which the median background is computed."""


@dataclasses.dataclass(frozen=True)
class Stories:
    """The stories of a split.

    Attributes:
        images: uint8 `[stories, T, 64, 64, 3]`.
        labels: bool `[stories, T, L]`.
        label_names: L names.
        objects: the objects of each story's frames.
    """

    images: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    objects: list


def read(folder: Path, split: str) -> Stories:
    """Reads the stories of a split from a data folder."""
    dataset = open_dataset(folder, "story-folder")
    names = dataset.label_names or ()
    stories = [story for story in dataset.stories() if isinstance(story, Story) and story.split == split]
    return Stories(
        images=np.stack([[load_frame(path) for path in story.images] for story in stories]),
        labels=np.array([[[name in frame for name in names] for frame in story.labels or ()] for story in stories]),
        label_names=names,
        objects=[story.objects for story in stories],
    )


def make(folder: Path, out: Path) -> None:
    """Renders missing stories, trains the judge and saves it."""
    with progress("rendering stories", STORIES + TEST_STORIES) as advance:
        render_blocks(folder, STORIES, TEST_STORIES, seed=SEED, progress=lambda done, _: advance(min(done, 1)))
    train = read(folder, "train")
    background = median_background([train.images[evenly_spaced(len(train.images), BACKGROUND_STORIES)]])
    with progress("training the judge", EPOCHS, unit="epoch") as advance:
        judge = train_judge(
            train.images,
            train.labels,
            train.label_names,
            train.objects,
            background,
            SEED,
            EPOCHS,
            lambda done, total: advance(),
        )
    save_judge(dataclasses.replace(judge, description="the frozen judge of blocks"), out)


def print_metrics(folder: Path, out: Path) -> None:
    """Prints the metrics of a folder's test stories by the judge in `out`."""
    judge, test = load_judge(out), read(folder, "test")
    background = judge.networks.labels.background.numpy()
    rows = {
        "true frames": test.images,
        "median background": np.broadcast_to(background, test.images.shape),
        "another story": np.roll(test.images, 1, axis=0),
    }
    print(f"{len(test.images)} test stories of {folder}")
    for name, images in rows.items():
        metrics = judge_metrics(judge, images, test.labels, test.objects)
        print(f"  {name:18s}", "  ".join(f"{metric} {value:.4f}" for metric, value in metrics.items()))


def main() -> None:
    """Trains the judge and prints its SHA-256 and metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("runs/data/judge"))
    parser.add_argument("--out", type=Path, default=BLOCKS)
    parser.add_argument("--also", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    make(arguments.data, arguments.out)
    print(f"{load_judge(arguments.out).sha256}  {arguments.out}")
    for folder in (arguments.data, *arguments.also):
        print_metrics(folder, arguments.out)


if __name__ == "__main__":
    main()
