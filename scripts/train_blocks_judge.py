"""Makes the frozen judge of `blocks` that ships in the package, and prints what it is worth.

    .venv/bin/python scripts/train_blocks_judge.py [--data DIR] [--out DIR] [--also DIR ...]

Stories of a seed that no preset uses are rendered into the data folder unless they are there (20 minutes on one core).
The judge is trained on its training stories (20 minutes on two cores) and judged on its test stories and on those of
other folders of `blocks`: beside the true frames the median background and another story's true frames.
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
from storygan_tf.evaluation.judge.judge_training import judge_figures, train_judge

SEED = 7001
"""Of the stories and of the training."""

STORIES, TEST_STORIES = 2000, 300
EPOCHS = 20
BACKGROUND_STORIES = 500


@dataclasses.dataclass(frozen=True)
class Stories:
    """Stories of a split: frames `[stories, T, 64, 64, 3]`, labels `[stories, T, L]` and objects."""

    images: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    objects: list


def read(folder: Path, split: str) -> Stories:
    """Reads the stories of a split."""
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
    """Renders the stories that are missing, trains the judge and saves it."""
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
    save_judge(dataclasses.replace(judge, what="the frozen judge of blocks"), out)


def tell(folder: Path, out: Path) -> None:
    """Prints how the judge judges a folder's test stories."""
    judge, test = load_judge(out), read(folder, "test")
    background = judge.networks.labels.background.numpy()
    rows = {
        "true frames": test.images,
        "median background": np.broadcast_to(background, test.images.shape),
        "another story": np.roll(test.images, 1, axis=0),
    }
    print(f"{len(test.images)} test stories of {folder}")
    for name, images in rows.items():
        figures = judge_figures(judge, images, test.labels, test.objects)
        print(f"  {name:18s}", "  ".join(f"{figure} {value:.4f}" for figure, value in figures.items()))


def main() -> None:
    """Makes the judge and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("runs/data/judge"))
    parser.add_argument("--out", type=Path, default=BLOCKS)
    parser.add_argument("--also", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    make(arguments.data, arguments.out)
    print(f"{load_judge(arguments.out).sha256}  {arguments.out}")
    for folder in (arguments.data, *arguments.also):
        tell(folder, arguments.out)


if __name__ == "__main__":
    main()
