"""Stories of squares as records, a judge trained on them, and sources of frames for single tests."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from made_once import made_once

from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.data import example_schema
from storygan_tf.data.background import median_background
from storygan_tf.evaluation import measure
from storygan_tf.evaluation.judge.judge import save_judge, save_missing_reason
from storygan_tf.evaluation.judge.judge_training import train_judge
from storygan_tf.evaluation.plan import make_plan
from storygan_tf.metrics import frechet

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 210)}
LABELS = [*COLOURS, "large"]
FRAMES = 3


def make_story(name, seed, size=64, frames=FRAMES):
    """Returns a story of squares on a table, one more in each frame."""
    random = np.random.default_rng(seed)
    images = np.full((frames, size, size, 3), 110, np.uint8) + np.arange(size, dtype=np.uint8)[:, None, None] // 4
    labels = np.zeros((frames, len(LABELS)), np.int64)
    objects = [[] for _ in range(frames)]
    sentences = []
    for first in range(frames):
        colour, large = random.integers(len(COLOURS)), random.integers(2)
        side = 20 if large else 10
        y, x = (int(place) for place in random.integers(0, size - side, 2))
        images[first:, y : y + side, x : x + side] = list(COLOURS.values())[colour]
        labels[first:, colour] = 1
        labels[first:, -1] |= large
        item = {"shape": "square", "colour": LABELS[colour], "size": "large" if large else "small"}
        for later in objects[first:]:
            later.append(item | {"x": x + side / 2, "y": y + side / 2})
        sentences.append(f"A {item['size']} {item['colour']} square at {x} {y}.")
    return SimpleNamespace(name=name, sentences=sentences, images=images, labels=labels, objects=objects)


def write_examples(root, splits, labelled=True, placed=True, files=2):
    """Writes stories as StoryExampleGen does, each split in some files and in no order."""
    for split, stories in splits.items():
        folder = root / f"Split-{split}"
        folder.mkdir(parents=True)
        for part in range(files):
            with tf.io.TFRecordWriter(str(folder / f"data-{part}.gz"), "GZIP") as writer:
                for story in stories[part::files][::-1]:
                    pngs = [tf.io.encode_png(image).numpy() for image in story.images]
                    labels = story.labels.tolist() if labelled else None
                    objects = story.objects if placed else None
                    example = example_schema.story_example(story.name, story.sentences, pngs, labels, objects)
                    writer.write(example.SerializeToString())
    if labelled:
        (root / example_schema.LABELS_FILE).write_text(json.dumps(LABELS))
    return root


class CalledOnce:
    """Calls a pure function of arrays, or of dataclasses of them, once for each content of its arguments."""

    def __init__(self, function):
        self.function = function
        self.results = {}

    def __call__(self, *arguments):
        digest = hashlib.sha256()
        for argument in arguments:
            for part in vars(argument).values() if dataclasses.is_dataclass(argument) else (argument,):
                array = np.ascontiguousarray(part)
                digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        key = digest.digest()
        if key not in self.results:
            self.results[key] = self.function(*arguments)
        return copy.deepcopy(self.results[key])  # a caller may change it


@pytest.fixture(scope="session")
def remembered():
    """Functions that take most of an evaluation's time and get the same arguments for most baselines."""
    return CalledOnce(measure.ssim), CalledOnce(frechet._root_and_trace)


@pytest.fixture(scope="module", autouse=True)
def called_once(remembered):
    """Computes SSIM and decomposed covariances once, in the modules of this folder only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "ssim", remembered[0])
        patch.setattr(frechet, "_root_and_trace", remembered[1])
        yield remembered


@pytest.fixture
def computed_again(called_once):
    """Computes everything again in a test."""
    for function in called_once:
        function.results.clear()


class Painter:
    """A source of frames that draws what a function returns for a batch and a sample."""

    drawn_from = "text"

    def __init__(self, draw, description="the model", samples=2):
        self.draw, self.description, self.samples = draw, description, samples
        self.calls = []

    def frames(self, batch, seed, sample=0):
        self.calls.append((tuple(batch.ids), seed, sample))
        return self.draw(batch, sample)


def blurred(images):
    images = images.astype(np.float32)
    return ((images + np.roll(images, 1, axis=-3) + np.roll(images, 1, axis=-2)) / 3).round().astype(np.uint8)


def noise(batch, sample):
    drawn = [np.random.default_rng(len(name) + sample).integers(0, 256, (FRAMES, 64, 64, 3)) for name in batch.ids]
    return np.stack(drawn).astype(np.uint8)


@pytest.fixture(scope="session")
def world():
    """Returns training and test stories, their background, and functions that make more."""
    train = [make_story(f"train{number:03}", number) for number in range(40)]
    test = [make_story(f"test{number:03}", 1000 + number) for number in range(18)]
    return SimpleNamespace(
        train=train,
        test=test,
        background=median_background(story.images for story in train),
        labels=LABELS,
        frames=FRAMES,
        make_story=make_story,
        write_examples=write_examples,
    )


@pytest.fixture(scope="session")
def painters(world):
    """Returns sources of frames by name; `of(draw)` makes another."""
    return SimpleNamespace(
        truth=Painter(lambda batch, sample: batch.images),
        blurred=Painter(lambda batch, sample: blurred(batch.images)),
        noise=Painter(noise),
        background=Painter(lambda batch, sample: np.broadcast_to(world.background, batch.images.shape).copy()),
        of=Painter,
    )


@pytest.fixture(scope="session")
def examples(world, tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("examples"), {"train": world.train, "test": world.test})


@pytest.fixture(scope="session")
def judge(world, tmp_path_factory):
    """Returns the folder of a judge of the squares."""

    def train(path):
        images = np.stack([story.images for story in world.train])
        labels = np.stack([story.labels for story in world.train])
        objects = [story.objects for story in world.train]
        save_judge(train_judge(images, labels, LABELS, objects, world.background, seed=1, epochs=15), path)

    return str(made_once(tmp_path_factory, "judge-of-squares", train))


@pytest.fixture(scope="session")
def no_judge(tmp_path_factory):
    path = tmp_path_factory.mktemp("no_judge") / "none"
    save_missing_reason("the data has no labels", path)
    return str(path)


@pytest.fixture(scope="session")
def plan(examples, judge):
    """Returns a function that plans an evaluation."""

    def plan(model, root=examples, judge=judge, settings=None, **options):
        return make_plan(str(root), model, settings or EvaluationConfig(replicates=60), judge, **options)

    return plan
