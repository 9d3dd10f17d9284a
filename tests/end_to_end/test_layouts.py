"""The main job straight from the field's layouts, with the presets made for them, on fixtures."""

from __future__ import annotations

import pytest
from PIL import Image

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
"""A model that learns nothing in seconds; the schedule, T and the labels stay the preset's."""


@pytest.mark.parametrize("layout", ["pororo", "flintstones"])
def test_a_run_from_the_layout_ends_with_pictures(layout, tmp_path, pororo_folder, flintstones_folder, cli):
    data = pororo_folder(tmp_path / "data", clips=24) if layout == "pororo" else flintstones_folder(tmp_path / "data")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    done = cli("run", "--data", data, "--out", tmp_path / "run", "--preset", layout, *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run/rejects.jsonl").read_text() == ""
    with Image.open(tmp_path / "run/storyboard.png") as board:
        assert board.width > 5 * 160
