"""Real artifacts for the components' tests: records of squares, and SavedModels with an export's signatures."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from made_once import made_once
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.beam_options import beam_options
from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.data import example_schema
from storygan_tf.evaluation.judge.judge_choice import choose_judge

FRAMES = 3
COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 210)}
LABELS = [*COLOURS, "large"]
REJECTS = [{"story_id": "<script>alert(1)</script>", "file": "images/9.png", "reason": "image is missing"}]


def square_story(name, seed):
    """Returns a story in which each frame has one more square: name, sentences, images and labels."""
    random = np.random.default_rng(seed)
    images = np.full((FRAMES, 64, 64, 3), 110, np.uint8)
    labels = np.zeros((FRAMES, len(LABELS)), np.int64)
    sentences = []
    for first in range(FRAMES):
        colour, large = random.integers(len(COLOURS)), random.integers(2)
        side = 20 if large else 10
        y, x = random.integers(0, 64 - side, 2)
        images[first:, y : y + side, x : x + side] = list(COLOURS.values())[colour]
        labels[first:, colour] = 1
        labels[first:, -1] |= large
        sentences.append(f"A {'large' if large else 'small'} {LABELS[colour]} square at {x} {y} in {name}.")
    return SimpleNamespace(name=name, sentences=sentences, images=images, labels=labels)


class Painter(tf.Module):
    """Returns fixed frames for known stories, with the signatures of an export; it can be given faults.

    Args:
        stories: the known stories.
        images: their frames, uint8 [stories, T, height, width, 3].
        frames: the number of frames in `info`.
        random: whether frames differ from call to call.
        error: the value of the output `error` for every story.
        png: whether `image_bytes` are PNG, and not JPEG.
    """

    def __init__(self, stories, images, *, frames=FRAMES, random=False, error="", png=True):
        super().__init__()
        self.images = tf.Variable(images, trainable=False)
        keys = tf.constant([story.sentences[0] for story in stories])
        values = tf.range(len(stories), dtype=tf.int64)
        self.numbers = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0)
        self._info = json.dumps({"frames": frames, "image_size": 64, "examples": [], "words": []})
        self._random, self._error, self._png = random, error, png

    def raw(self, sentences, seed):
        images = tf.gather(self.images, self.numbers.lookup(sentences[:, 0]))
        if self._random:
            images += tf.cast(tf.random.uniform(tf.shape(images), 0, 100, tf.int32), tf.uint8)
        return {"images": images, "error": tf.fill([tf.shape(sentences)[0]], self._error)}

    def pictures(self, sentences, seed):
        outputs = self.raw(sentences, seed)
        flat = tf.reshape(outputs["images"], [-1, *self.images.shape[2:]])
        encode = tf.io.encode_png if self._png else tf.io.encode_jpeg
        encoded = tf.map_fn(encode, flat, fn_output_signature=tf.string)
        return {"image_bytes": tf.reshape(encoded, [-1, self.images.shape[1]]), "error": outputs["error"]}

    def signatures(self):
        sentences = tf.TensorSpec([None, None], tf.string, "sentences")
        seed = tf.TensorSpec([None], tf.int64, "seed")
        return {
            "serving_default": tf.function(lambda sentences: self.pictures(sentences, None), [sentences]),
            "generate": tf.function(self.pictures, [sentences, seed]),
            "generate_raw": tf.function(self.raw, [sentences, seed]),
            "info": tf.function(
                lambda query: {"info": tf.fill(tf.shape(query), self._info)},
                [tf.TensorSpec([None], tf.string, "query")],
            ),
        }


@pytest.fixture(scope="session")
def squares():
    """Returns training and test stories."""
    return SimpleNamespace(
        train=[square_story(f"train{number:03}", number) for number in range(32)],
        test=[square_story(f"test{number:03}", 1000 + number) for number in range(7)],
        labels=LABELS,
        frames=FRAMES,
        rejects=REJECTS,
    )


@pytest.fixture(scope="session")
def examples(squares, tmp_path_factory):
    """Returns an Examples artifact such as StoryExampleGen writes."""
    artifact = standard_artifacts.Examples()
    artifact.uri, artifact.id = write(tmp_path_factory.mktemp("examples"), squares), 1
    artifact.split_names = '["train", "test"]'
    return artifact


def write(root, squares, files=1):
    """Writes the files of an Examples artifact, each split into a number of files, and returns its folder."""
    for split in ("train", "test"):
        (root / f"Split-{split}").mkdir(parents=True)
        stories = getattr(squares, split)
        size = -(-len(stories) // files)
        for part in range(files):
            name = f"data_tfrecord-{part:05d}-of-{files:05d}.gz"
            with tf.io.TFRecordWriter(str(root / f"Split-{split}" / name), "GZIP") as writer:
                for story in stories[part * size : (part + 1) * size]:
                    pngs = [tf.io.encode_png(image).numpy() for image in story.images]
                    example = example_schema.story_example(story.name, story.sentences, pngs, story.labels.tolist())
                    writer.write(example.SerializeToString())
    counts = {"given": 40, "accepted": 39, "rejected": {"image is missing": 1}, "splits": {"train": 32, "test": 7}}
    (root / example_schema.COUNTS_FILE).write_text(json.dumps(counts))
    (root / example_schema.LABELS_FILE).write_text(json.dumps(LABELS))
    (root / example_schema.REJECTS_FILE).write_text("".join(json.dumps(reject) + "\n" for reject in REJECTS))
    return str(root)


@pytest.fixture(scope="session")
def write_examples(squares):
    """Returns a function that writes the same stories into a folder, each split into another number of files."""
    return lambda root, files: write(root, squares, files)


@pytest.fixture(scope="session")
def judge(examples, tmp_path_factory):
    """Returns the artifact of a judge that is trained on the squares."""

    def train(path):
        choose_judge(examples.uri, EvaluationConfig(classifier_epochs=25), path)

    artifact = standard_artifacts.Model()
    artifact.uri = str(made_once(tmp_path_factory, "judge-of-placeless-squares", train))
    return artifact


@pytest.fixture(scope="session")
def painter_model(squares, tmp_path_factory):
    """Returns a function that writes a Model artifact of a `Painter` of the test stories into a folder.

    A painter with the same arguments is saved once and copied, so that a test may damage its files.
    """
    root = tmp_path_factory.mktemp("painters")
    saved = {}

    def write_model(folder, images=None, without=(), **faults):
        if images is None:
            images = np.stack([story.images for story in squares.test])
        key = (hashlib.sha256(images.tobytes()).digest(), images.shape, tuple(without), *sorted(faults.items()))
        if key not in saved:
            painter = Painter(squares.test, images, **faults)
            signatures = {name: function for name, function in painter.signatures().items() if name not in without}
            saved[key] = root / str(len(saved))
            tf.saved_model.save(painter, str(saved[key]), signatures=signatures)
        artifact = standard_artifacts.Model()
        artifact.uri, artifact.id = str(folder), 17
        shutil.copytree(saved[key], path_utils.serving_model_path(artifact.uri), dirs_exist_ok=True)
        return artifact

    return write_model


@pytest.fixture
def save_model(painter_model, tmp_path):
    """Returns a function that saves a `Painter` with some arguments and returns its Model artifact."""
    return functools.partial(painter_model, tmp_path / "model")


@pytest.fixture(scope="session")
def beam_executor(tmp_path_factory):
    """Returns a function that constructs an executor on Beam from its class, as TFX's launcher does."""

    def construct(executor_class):
        context = executor_class.Context(
            beam_pipeline_args=beam_options([]),
            tmp_dir=str(tmp_path_factory.mktemp("executor")),
            unique_id="1",
            pipeline_run_id="run-7",
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["pytest"])  # TFX parses it.
            return executor_class(context)

    return construct
