"""`storygan run`: its settings, and the options that it refuses before the pipeline is loaded."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from storygan_cli.main import app
from storygan_cli.settings_options import start_settings
from storygan_tf.common.errors import ConfigError, ModelError
from storygan_tf.config import presets
from storygan_tf.training.warm_start import load_initial_model

INITIAL = load_initial_model("blocks")
SAME = [f"model.{name}={json.dumps(value)}" for name, value in vars(INITIAL.model).items()]


def fails(error, words, *arguments):
    done = CliRunner().invoke(app, ["run", *(str(argument) for argument in arguments)])
    assert isinstance(done.exception, error), done.output
    assert words in str(done.exception)


def test_without_a_preset_it_is_quick():
    assert start_settings(None, None, ["training.seed=3"])[0] == presets.load("quick").override(["training.seed=3"])


def test_with_a_model_to_start_from_it_is_that_models_preset():
    settings, _ = start_settings(None, "blocks", SAME)
    assert settings.preset == INITIAL.preset
    assert settings.training.init_from == "blocks"


def test_a_path_to_start_from_is_kept_as_an_absolute_one(tmp_path, monkeypatch):
    (tmp_path / "blocks").symlink_to(INITIAL.path)
    monkeypatch.chdir(tmp_path)
    assert start_settings(None, "./blocks", SAME)[0].training.init_from == str(tmp_path / "blocks")


def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "data").mkdir()
    given = ["--data", tmp_path / "data", "--out", tmp_path / "run", "--init-from", "blocks", "--set", "model.frames=5"]
    fails(ConfigError, "model.frames is 5, the initial model's 4", *given)
    fails(ConfigError, "data.encoder is 'x', the initial model's 'embedded'", *given[:-1], "data.encoder=x")
    assert not (tmp_path / "run").exists()


def test_an_encoder_other_than_the_initial_models_is_refused(tmp_path):
    given = ["--data", tmp_path, "--out", tmp_path / "run", "--init-from", "blocks", "--encoder", "some/encoder"]
    fails(ConfigError, "data.encoder is 'some/encoder', the initial model's 'embedded'", *given)


def test_a_missing_model_is_refused(tmp_path):
    fails(ModelError, "--init-from", "--data", tmp_path, "--out", tmp_path / "run", "--init-from", tmp_path / "none")


@pytest.mark.parametrize("preset", ["paper"])
def test_a_preset_without_a_pixel_phase_needs_discriminators(preset, tmp_path):
    given = ["--data", tmp_path, "--out", tmp_path / "run", "--init-from", "blocks", "--preset", preset]
    same = [part for setting in (*SAME, f"data.encoder={INITIAL.encoder}") for part in ("--set", setting)]
    fails(ConfigError, "brings no discriminators", *given, *same)
