"""A run directory belongs to one configuration, and does not start from itself."""

from __future__ import annotations

import pytest

from pipeline.run_directory import RunDirectory
from storygan_tf.common.errors import ConfigError
from storygan_tf.config import presets

QUICK = presets.load("quick")


def open_run(tmp_path, init_from, out="run"):
    (tmp_path / "data").mkdir()
    return RunDirectory.open(tmp_path / out, QUICK.override([f"training.init_from={init_from}"]), tmp_path / "data")


@pytest.mark.parametrize("inside", ["run", "run/serving_model/storygan/3", "other/../run"])
def test_a_run_that_would_start_from_its_own_model_is_refused(tmp_path, inside):
    with pytest.raises(ConfigError, match=r"is in the run directory .* itself; choose another --out"):
        open_run(tmp_path, tmp_path / inside)
    assert not (tmp_path / "run").exists()


def test_a_run_may_start_from_another_one(tmp_path):
    assert open_run(tmp_path, tmp_path / "run-before").settings.training.init_from == str(tmp_path / "run-before")


def test_a_run_directory_may_be_called_like_a_pretrained_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_run(tmp_path, "blocks", out="blocks").settings.training.init_from == "blocks"
