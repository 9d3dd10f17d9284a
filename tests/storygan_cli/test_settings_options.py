"""The number of frames of a story: from an assignment, from the data, or an error."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from storygan_cli.main import app
from storygan_cli.settings_options import fit_to_data, start_settings
from storygan_tf.common.errors import DataError
from storygan_tf.config import presets


@pytest.fixture
def mixed(tmp_path, story_folder, story_lines):
    """Returns a folder of seven stories of four frames and one of three."""
    folder = story_folder(tmp_path / "mixed")
    line = story_lines(folder).read()[0]
    story_lines(folder).edit(0, **{key: line[key][:3] for key in ("sentences", "images", "labels", "objects")})
    return folder


def test_the_data_decides(tmp_path, story_folder):
    folder = story_folder(tmp_path / "data", train=1, test=1, frames=3)
    settings = fit_to_data(presets.load("quick"), ["training.seed=2"], None, folder)
    assert settings.model.frames == 3
    assert settings.override(["model.frames=4"]) == presets.load("quick")


def test_different_lengths_are_an_error(mixed):
    with pytest.raises(DataError, match=r"different numbers of frames \(1 of 3, 7 of 4\).*--set model\.frames=N"):
        fit_to_data(presets.load("quick"), None, None, mixed)


def test_an_assignment_or_an_initial_model_decides_before_the_data(mixed):
    assignments = ["model.frames=2"]
    settings = presets.load("quick").override(assignments)
    assert fit_to_data(settings, assignments, None, mixed) is settings
    settings, initial = start_settings(None, "blocks", [])
    assert fit_to_data(settings, None, initial, mixed) is settings


def test_a_folder_without_stories_changes_nothing(tmp_path):
    (tmp_path / "stories.jsonl").write_text("\n")
    settings = presets.load("quick")
    assert fit_to_data(settings, None, None, tmp_path) is settings


@pytest.mark.parametrize("command", ["run", "prepare"])
def test_commands_refuse_different_lengths_before_anything_is_written(command, mixed, tmp_path):
    done = CliRunner().invoke(app, [command, "--data", str(mixed), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, DataError)
    assert "different numbers of frames (1 of 3, 7 of 4)" in str(done.exception)
    assert not (tmp_path / "out").exists()
