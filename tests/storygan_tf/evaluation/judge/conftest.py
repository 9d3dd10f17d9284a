"""Stories of coloured squares and discs, and a judge trained on them."""

from __future__ import annotations

import functools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from made_once import made_once

from storygan_tf.data import example_schema
from storygan_tf.data.background import median_background
from storygan_tf.evaluation.judge.judge import load_judge, save_judge
from storygan_tf.evaluation.judge.judge_training import train_judge

COLOURS = {"blue": (40, 60, 210), "green": (30, 180, 40), "red": (200, 30, 30)}
SHAPES = ("disc", "square")
RADII = {"large": 9, "small": 5}
LABELS = (*COLOURS, "large")
FRAMES = 3


def make_stories(count, seed):
    """Returns stories with an object more in each frame: images, labels, objects.

    The table is a gradient; an object is drawn around its place, sometimes cut by the border.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64] + 0.5
    images = np.full((count, FRAMES, 64, 64, 3), 100, np.uint8) + np.arange(64, dtype=np.uint8)[:, np.newaxis]
    labels = np.zeros((count, FRAMES, len(LABELS)), np.int64)
    objects = [[[] for _ in range(FRAMES)] for _ in range(count)]
    for story in range(count):
        for first in range(FRAMES):
            shape, colour, size = (str(random.choice(list(names))) for names in (SHAPES, COLOURS, RADII))
            x, y = (float(random.uniform(21 * centre, 21 * centre + 21)) for centre in (first, random.integers(3)))
            across, down = np.abs(columns - x), np.abs(rows - y)
            distance = np.hypot(across, down) if shape == "disc" else np.maximum(across, down)
            images[story, first:, distance < RADII[size]] = COLOURS[colour]
            labels[story, first:, LABELS.index(colour)] = 1
            labels[story, first:, -1] |= size == "large"
            item = {"shape": shape, "colour": colour, "material": "paint", "size": size, "x": x, "y": y}
            for frame in range(first, FRAMES):
                objects[story][frame].append(item)
    return SimpleNamespace(images=images, labels=labels, label_names=LABELS, objects=objects)


@pytest.fixture(scope="session")
def stories():
    """Stories to train on."""
    return make_stories(56, seed=5)


@pytest.fixture(scope="session")
def others():
    """Stories to judge."""
    return make_stories(40, seed=6)


@pytest.fixture(scope="session")
def background(stories):
    return median_background([stories.images])


@pytest.fixture(scope="session")
def judge(stories, background, tmp_path_factory):
    def train(path):
        save_judge(train_judge(stories.images, stories.labels, LABELS, stories.objects, background, 1, 12), path)

    return load_judge(made_once(tmp_path_factory, "judge-of-squares-and-discs", train))


@pytest.fixture(scope="session")
def quick_judge(background):
    """Returns a function that trains an inaccurate judge in a moment, once for the same arguments."""

    @functools.cache
    def train(count=9, labels=True, objects=True, without=(), again=False):
        few = make_stories(count, seed=7)
        kept = [
            [[{key: item[key] for key in item if key not in without} for item in frame] for frame in story]
            for story in few.objects
        ]
        return train_judge(
            few.images,
            few.labels if labels else None,
            LABELS if labels else (),
            kept if objects else None,
            background,
            1,
            1,
        )

    return train


@pytest.fixture
def write_examples(tmp_path):
    """Returns a function that writes training stories as StoryExampleGen does."""

    def write(count=9, *, source="story-folder", labels=True, objects=True):
        root = tmp_path / "examples"
        (root / "Split-train").mkdir(parents=True)
        stories = make_stories(count, seed=8)
        with tf.io.TFRecordWriter(str(root / "Split-train" / "data.gz"), "GZIP") as writer:
            for index in range(count):
                example = example_schema.story_example(
                    f"s{index:03}",
                    ["a", "b", "c"],
                    [tf.io.encode_png(image).numpy() for image in stories.images[index]],
                    stories.labels[index].tolist() if labels else None,
                    stories.objects[index] if objects else None,
                )
                writer.write(example.SerializeToString())
        (root / example_schema.COUNTS_FILE).write_text(json.dumps({"source": source}))
        (root / example_schema.LABELS_FILE).write_text(json.dumps(list(LABELS) if labels else []))
        return str(root)

    return write
