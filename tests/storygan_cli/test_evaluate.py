"""`storygan evaluate` and `storygan compare`: the errors for arguments that cannot be used."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from storygan_cli.main import app
from storygan_tf.common.errors import ConfigError, DataError, ModelError


def fails(error, words, *arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(done.exception, error), done.output
    assert words in str(done.exception)


@pytest.mark.parametrize("given", [[], ["--model", "m", "--images", "i"]])
def test_a_model_or_pictures_are_needed(given, tmp_path):
    fails(ConfigError, "expected exactly one of them", "evaluate", "--data", tmp_path, "--out", tmp_path, *given)


def test_a_missing_model_is_refused_before_anything_is_read(tmp_path):
    arguments = ["--data", tmp_path / "none", "--out", tmp_path, "--model", tmp_path / "model"]
    fails(ModelError, "no such folder", "evaluate", *arguments)


def test_missing_data_is_refused(tmp_path):
    arguments = ["--data", tmp_path / "none", "--out", tmp_path, "--images", tmp_path]
    fails(DataError, "no such folder", "evaluate", *arguments)


def test_an_unknown_layout_is_wrong_usage(tmp_path):
    arguments = ["evaluate", "--data", tmp_path, "--out", tmp_path, "--images", tmp_path, "--images-layout", "dalle"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 2
    assert "storyviz" in done.output


def test_a_comparison_needs_two_runs_and_a_page(tmp_path):
    fails(ConfigError, "expected at least two", "compare", tmp_path)
    fails(ConfigError, "expected .html", "compare", tmp_path, tmp_path / "b", "--out", "page.pdf")


def test_a_folder_without_an_evaluation_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    fails(DataError, "a: holds no metrics.json", "compare", tmp_path / "a", tmp_path / "b")
