"""`storygan train`: the settings it refuses, the files it writes, and how it continues an interrupted training."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from storygan_cli.main import app
from storygan_cli.settings_options import start_settings
from storygan_cli.train import TERMINATED, _find_workers, _training_assignments
from storygan_tf.common.errors import ConfigError, DataError, ModelError
from storygan_tf.config import presets
from storygan_tf.export.loaded_model import SavedStoryGAN
from storygan_tf.training.distribution import find_worker
from storygan_tf.training.training_state import read_history

ROOT = Path(__file__).parents[2]
TINY = (
    "model.generator_width=8",
    "model.discriminator_width=2",
    "model.noise_size=2",
    "training.steps_per_epoch=3",
    "training.phases.warm_up.epochs=2",
    "training.phases.warm_up.story_batch=4",
    "training.phases.adversarial.schedule=pixel",
    "training.phases.adversarial.epochs=1",
    "training.phases.adversarial.story_batch=2",
)
"""Settings of a model so small that it trains in seconds, and learns nothing."""


def arguments(data: Path, out: Path, *extra: object) -> list[str]:
    settings = [part for setting in TINY for part in ("--set", setting)]
    return ["train", "--data", str(data), "--out", str(out), *settings, *map(str, extra)]


def train(data: Path, out: Path, *extra: object):
    return CliRunner().invoke(app, arguments(data, out, *extra))


def refuses(error, words, *given):
    done = train(*given)
    assert isinstance(done.exception, error), done.output
    assert words in str(done.exception)


@pytest.fixture(scope="module")
def data(prepared_folder, tmp_path_factory) -> Path:
    return prepared_folder(tmp_path_factory.mktemp("prepared") / "data")


# Options


def test_help_names_every_strategy():
    text = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    for name in ("auto", "one-device", "mirrored", "multi-worker", "tpu"):
        assert name in text


def test_options_are_settings():
    given = _training_assignments(strategy="mirrored", xla=True, mixed_precision=None)
    settings, initial = start_settings(None, None, ["model.frames=2", *given])
    assert initial is None
    assert settings == presets.load("quick").override(
        ["model.frames=2", "training.strategy=mirrored", "training.xla=true"]
    )


def test_a_folder_that_is_not_prepared_is_refused(tmp_path):
    refuses(DataError, "holds no prepared stories", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (["--strategy", "mirored"], ConfigError, "training.strategy"),
        (["--preset", "quik"], ConfigError, "did you mean 'quick'"),
        (["--set", "model.frames=3"], DataError, "expected stories of 3 frames"),
        (["--set", "model.labels=3"], DataError, "3 labels"),
        (["--init-from", "blocks"], ConfigError, "model.frames is 2, the initial model's 4"),
        (["--init-from", "nowhere"], ModelError, "--init-from"),
        (["--strategy", "multi-worker"], ConfigError, "TF_CONFIG is not set"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_trained(data, tmp_path, monkeypatch, given, error, words):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    refuses(error, words, data, tmp_path / "out", *given)
    assert not (tmp_path / "out" / "work").exists()


def test_a_wrong_tf_config_is_refused_before_anything_is_written(data, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": []}}')
    refuses(ConfigError, "TF_CONFIG: found", data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


JOB = {
    "STORYGAN_WORKERS": "2",
    "STORYGAN_JOB": "train",
    "STORYGAN_SERVICE": "workers",
    "STORYGAN_PORT": "2222",
    "JOB_COMPLETION_INDEX": "1",
}
"""Environment of a pod of an Indexed Job."""


def test_in_a_pod_of_a_job_the_workers_are_derived(monkeypatch):
    for name, value in (JOB | {"TF_CONFIG": ""}).items():
        monkeypatch.setenv(name, value)
    _find_workers()
    worker = find_worker()
    assert (worker.chief, worker.number) == ("train-0.workers:2222", 1)


def test_an_existing_tf_config_is_kept_in_a_pod_of_a_job(monkeypatch):
    given = json.dumps({"cluster": {"worker": ["a:1", "b:1", "c:1"]}, "task": {"type": "worker", "index": 2}})
    for name, value in (JOB | {"TF_CONFIG": given}).items():
        monkeypatch.setenv(name, value)
    _find_workers()
    assert os.environ["TF_CONFIG"] == given


def test_wrong_variables_of_a_pod_are_refused_before_anything_is_written(data, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in (JOB | {"JOB_COMPLETION_INDEX": "2"}).items():
        monkeypatch.setenv(name, value)
    refuses(ConfigError, "JOB_COMPLETION_INDEX: found 2, expected less", data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# A training


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Returns the folder of a training and its standard output."""
    out = tmp_path_factory.mktemp("trained") / "out"
    done = train(data, out)
    assert done.exit_code == 0, done.exception
    return out, done.stdout


def contents(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_training_exports_a_model_that_draws_and_describes_itself(trained):
    out, printed = trained
    (version,) = (out / "serving_model" / "storygan").iterdir()
    assert f"model      {version}" in printed
    saved = SavedStoryGAN(out)
    assert saved.info["preset"] == "quick"
    assert saved.info["encoder"] == "embedded"
    assert saved.info["examples"] == [
        ["A red square in place 2.", "A green square in place 2."],
        ["A green square in place 0.", "A blue square in place 0."],
    ]
    assert saved.info["words"] == sorted(
        ["a", "red", "green", "blue", "yellow", "square", "in", "place", "0", "1", "2"]
    )
    assert saved.generate(saved.info["examples"]).shape == (2, 2, 64, 64, 3)
    assert [(entry["phase"], entry["epoch"]) for entry in read_history(out)] == [
        ("warm_up", 1),
        ("warm_up", 2),
        ("adversarial", 1),
    ]


@pytest.mark.slow
def test_a_rerun_finishes_at_once(data, trained):
    out, printed = trained
    before = contents(out)
    done = train(data, out)
    assert done.exit_code == 0
    assert contents(out) == before
    assert done.stdout.splitlines() == printed.splitlines()[-4:]


@pytest.mark.slow
def test_another_configuration_is_refused(data, trained):
    out, _ = trained
    refuses(ConfigError, "training.seed was 1, now 5", data, out, "--set", "training.seed=5")


@pytest.mark.slow
def test_other_stories_in_the_same_place_are_trained_on_anew(data, trained, prepared_folder, tmp_path):
    out, _ = shutil.copytree(trained[0], tmp_path / "out"), None
    other = prepared_folder(tmp_path / "data", train=6)
    done = train(other, out, "--reconfigure")
    assert done.exit_code == 0, done.exception
    assert len(list((out / "work").iterdir())) == 2
    old, new = sorted((out / "serving_model" / "storygan").iterdir(), key=lambda path: int(path.name))
    assert f"model      {new}" in done.stdout
    assert int(new.name) > int(old.name)


@pytest.mark.slow
def test_without_a_vectorizer_it_warns_first_and_can_export_later(data, trained, tmp_path):
    bare = shutil.copytree(data, tmp_path / "data")
    (bare / "vectorizer").rename(tmp_path / "vectorizer")
    done = train(bare, tmp_path / "out")
    assert done.exit_code == 0, done.exception
    assert "no model will be exported" in done.stderr
    assert "model      none was exported" in done.stdout
    assert not (tmp_path / "out" / "serving_model").exists()
    history = (tmp_path / "out" / "history.json").read_bytes()
    (tmp_path / "vectorizer").rename(bare / "vectorizer")
    done = train(bare, tmp_path / "out")
    assert done.exit_code == 0, done.exception
    assert (tmp_path / "out" / "history.json").read_bytes() == history
    sentences = [["A red square.", "A blue square."]]
    one, other = (SavedStoryGAN(out).generate(sentences, seeds=[1]) for out in (trained[0], tmp_path / "out"))
    assert (one == other).all()


@pytest.mark.slow
def test_a_training_starts_from_an_exported_one(data, trained, tmp_path):
    done = train(data, tmp_path / "out", "--init-from", trained[0], "--set", "training.phases.warm_up.epochs=1")
    assert done.exit_code == 0, done.exception
    first, *_ = read_history(trained[0])
    assert read_history(tmp_path / "out")[0]["losses"]["l1"] < first["losses"]["l1"]
    assert SavedStoryGAN(tmp_path / "out").info["initial"]["model"] == str(trained[0])


@pytest.mark.slow
def test_sigterm_saves_and_has_an_exit_code_of_its_own(data, trained, forked_python, tmp_path):
    out = tmp_path / "out"
    given = arguments(data, out, "--set", "training.steps_per_epoch=100000")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with forked_python.popen(["-m", "storygan_cli", *given], cwd=ROOT, env=environment) as process:
        while process.poll() is None and not list(out.glob("work/*/checkpoints/*/state.json")):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        printed = process.stdout.read()
    assert process.returncode == TERMINATED
    assert "stopped by SIGTERM" in printed
    assert "goes on from the last checkpoint" in printed
    assert "Traceback" not in printed
    states = [json.loads(file.read_text())["state"] for file in out.glob("work/*/checkpoints/**/state.json")]
    assert any(state["step"] for state in states)
