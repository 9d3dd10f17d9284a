"""`storygan export`: the pictures stay the same with float16 weights; a folder that is no export is not replaced."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import HashedVectorizer, small_config
from typer.testing import CliRunner

from storygan_cli.main import app
from storygan_tf.common.errors import ModelError
from storygan_tf.config.schema import DataConfig, Settings
from storygan_tf.export.serving_warmup import SERVING_WARMUP_FILE
from storygan_tf.export.signatures import export_storygan, model_info
from storygan_tf.export.weight_io import read_weights
from storygan_tf.models.story_generator import StoryGenerator
from storygan_tf.training.reexport import compare

MODEL = small_config()
SETTINGS = Settings(preset="quick", model=MODEL, data=DataConfig(encoder="embedded", max_sentence_length=20))
STORY = ["A red cube.", "A blue sphere."]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    keras.utils.set_random_seed(3)
    generator = StoryGenerator(MODEL)
    generator(tf.random.normal([8, 2, 6]), training=True)
    path = tmp_path_factory.mktemp("models") / "1"
    export_storygan(generator, HashedVectorizer(), model_info(SETTINGS, [STORY], ["red"]), path, 20)
    return path


def export(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.fixture(scope="module")
def half(model, tmp_path_factory) -> Path:
    """Returns the folder of the model with float16 weights, which was an empty folder before."""
    out = tmp_path_factory.mktemp("half")
    done = export("--model", model, "--out", out, "--weights", "float16")
    assert done.exit_code == 0, done.exception
    assert f"export     {out}" in done.output
    assert "weights kept as float16" in done.output
    return out


def test_float16_and_back(model, half, tmp_path):
    whole = tmp_path / "whole" / "1"
    assert export("--model", half, "--out", whole).exit_code == 0
    for name, value in read_weights(model).items():
        np.testing.assert_allclose(read_weights(half)[name], value, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(read_weights(whole)[name], read_weights(half)[name])
    sizes = [(path / "variables" / "variables.data-00000-of-00001").stat().st_size for path in (model, half, whole)]
    assert sizes[2] == pytest.approx(sizes[0], rel=0.02)
    assert sizes[1] < 0.65 * sizes[0]


def test_signatures_length_limit_and_info_stay_the_same(model, half):
    before, after = (tf.saved_model.load(str(path)) for path in (model, half))
    assert set(after.signatures) == set(before.signatures)
    assert (half / SERVING_WARMUP_FILE).read_bytes() == (model / SERVING_WARMUP_FILE).read_bytes()
    query = tf.constant([""])
    infos = [json.loads(each.signatures["info"](query=query)["info"].numpy()[0]) for each in (before, after)]
    assert infos[0] == infos[1]
    assert compare(before, after).most <= 2
    answer = after.signatures["serving_default"](sentences=tf.constant([["x" * 20, "x" * 21]]))
    assert answer["error"].numpy()[0] == b"sentence 2 is longer than 20 characters; shorten it."


def test_a_folder_that_is_no_export_is_left_alone(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = export("--model", model, "--out", tmp_path)
    assert isinstance(done.exception, ModelError)
    assert "is there and is no export" in str(done.exception)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_folder_without_a_model_is_refused(tmp_path):
    done = export("--model", tmp_path, "--out", tmp_path / "1")
    assert "holds no exported model" in str(done.exception)
    assert not (tmp_path / "1").exists()
