"""`data check`, `data show` and the pipeline on small data sets of each layout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from PIL import Image

from storygan_tf.data.datasets.open_dataset import FORMATS
from storygan_tf.data.prepared_data import PreparedData

pytestmark = pytest.mark.slow

SMALL = (
    "data.encoder=embedded",
    "model.sentence_size=16",
    "model.generator_width=8",
    "model.discriminator_width=4",
    "training.steps_per_epoch=2",
    "training.phases.adversarial.epochs=1",
    "training.phases.adversarial.story_batch=4",
    "training.phases.adversarial.image_batch=4",
    "evaluation.classifier_epochs=1",
    "evaluation.replicates=40",
    "evaluation.min_ssim_over_random=-1",
    "evaluation.min_f1_over_floor=-1",
    "evaluation.min_f1_over_random=-1",
    "evaluation.min_object_gain=-99",
)
"""Settings of a model that is trained in seconds; schedule, number of frames and labels stay those of the preset."""


@pytest.fixture
def make_data(cli, story_folder, pororo_folder, flintstones_folder):
    """A function that writes stories of a layout into a folder and returns the options of a run on them."""

    def make(layout: str, folder: Path) -> list[str]:
        if layout == "pororo-sv":
            pororo_folder(folder, clips=24)
        elif layout == "flintstones-sv":
            flintstones_folder(folder)
        elif layout == "clevr-sv":
            succeed(cli("data", "render", "--stories", 10, "--test-stories", 4, "--out", folder))
            (folder / "stories.jsonl").unlink()
        else:
            story_folder(folder.with_name("stories"), train=10, test=4)
            succeed(cli("data", "convert", folder.with_name("stories"), "--to", layout, "--out", folder))
        preset = layout.removesuffix("-sv")
        if preset in ("pororo", "flintstones"):
            return ["--preset", preset, *(part for setting in SMALL for part in ("--set", setting))]
        return ["--preset", "quick", *cli.tiny_settings()]

    return make


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


WHOLE = ("pororo-sv",)
"""Layouts on which the whole pipeline runs; the others are only prepared, since records do not depend on the layout."""


@pytest.mark.parametrize("layout", [name for name in FORMATS if name not in ("auto", "story-folder")])
def test_each_layout_is_checked_shown_and_run(layout, make_data, cli, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    settings = make_data(layout, data)
    checked = succeed(cli("data", "check", data))
    assert f"layout     {layout}\n" in checked
    assert ", 0 set aside" in checked
    succeed(cli("data", "show", data, "--out", tmp_path / "shown.png"))
    command = "run" if layout in WHOLE else "prepare"
    succeed(cli(command, "--data", data, "--out", out, *settings))
    assert (out / "rejects.jsonl").read_text() == ""
    assert PreparedData.find(out).train
    frames = 5 if layout in ("pororo-sv", "flintstones-sv") else 4
    for picture in (tmp_path / "shown.png", *out.glob("storyboard.png")):
        with Image.open(picture) as board:
            assert frames * 160 < board.width < (frames + 1) * 160
    assert (out / "storyboard.png").exists() == (layout in WHOLE)
