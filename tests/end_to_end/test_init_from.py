"""`storygan run --init-from`: what it takes from the initial model, and the steps that a change of it repeats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.training.warm_start import load_initial_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def initial(finished_run, tmp_path_factory) -> Path:
    """Returns a copy of the pushed version of the finished run."""
    version = next((finished_run[1] / "serving_model" / "storygan").iterdir())
    return Path(shutil.copytree(version, tmp_path_factory.mktemp("initial") / "model"))


@pytest.fixture(scope="module")
def continued(initial, story_folder, cli, tmp_path_factory):
    """Returns the arguments, the run directory and the output of a run that starts from `initial`."""
    root = tmp_path_factory.mktemp("continued")
    data = story_folder(root / "data", train=7, test=3)
    arguments = [*cli.tiny_run(data, root / "run"), "--init-from", str(initial)]
    done = cli(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return arguments, root / "run", done.stdout


def version(run_dir: Path) -> Path:
    return max((run_dir / "serving_model" / "storygan").iterdir())


def test_its_vectors_are_those_of_the_initial_model(continued, initial):
    vectorizer = load_initial_model(str(initial)).load_vectorizer()
    files = list((continued[1] / "pipeline" / "Transform" / "transformed_examples").rglob("*.gz"))
    assert len(files) >= 2
    for record in tf.data.TFRecordDataset([str(file) for file in files], compression_type="GZIP"):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        vectors = np.array(features["vectors"].float_list.value).reshape(4, -1)
        np.testing.assert_allclose(vectors, vectorizer(list(features["sentences"].bytes_list.value)), atol=1e-5)


def test_the_lineage_of_the_pushed_model_names_the_initial_model(continued, initial, cli):
    expected = load_initial_model(str(initial)).lineage_entry()
    assert json.loads((version(continued[1]) / "assets.extra" / "storygan.json").read_text())["initial"] == expected
    assert expected["model"] == str(initial)
    lineage = cli("lineage", continued[1], "--json")
    assert lineage.returncode == 0, lineage.stderr
    assert json.loads(lineage.stdout)["initial"] == expected


def test_it_can_be_an_initial_model_with_discriminators_itself(continued):
    initial = load_initial_model(str(continued[1]))
    assert initial.has_discriminators
    assert initial.labels == ("blue", "green", "red", "yellow")


def test_a_change_of_the_initial_model_runs_the_steps_that_depend_on_it_again(continued, initial, cli):
    arguments = continued[0]
    again = cli(*arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("unchanged, from the cache") == 10
    info = initial / "assets.extra" / "storygan.json"
    kept = info.read_bytes()
    try:
        info.write_bytes(kept + b"\n")
        changed = cli(*arguments)
    finally:
        info.write_bytes(kept)
    assert changed.returncode == 0, changed.stderr
    for step in ("Transform", "Trainer", "StoryEvaluator"):
        assert f"] {step}: done in" in changed.stdout
    assert changed.stdout.count("unchanged, from the cache") == 5


def test_other_labels_are_refused(initial, story_folder, story_lines, cli, tmp_path):
    data = story_folder(tmp_path / "data", train=3, test=1)
    lines = story_lines(data)
    for number in range(4):
        lines.edit(number, labels=[["dog"]] * 4)
    done = cli(*cli.tiny_run(data, tmp_path / "run"), "--init-from", initial)
    assert done.returncode == 1
    assert "the stories' labels are dog, the initial model's blue, green, red, yellow" in done.stderr
    assert "Traceback" not in done.stderr
