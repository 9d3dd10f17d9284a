"""The pretrained model of the package, used by every command that takes a model, in new processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from storygan_tf.common.model_paths import PRETRAINED

pytestmark = pytest.mark.slow

WITHOUT_THE_PIPELINE = """
import sys
sys.modules |= dict.fromkeys(("tfx", "apache_beam", "tensorflow_transform", "ml_metadata", "tfx_bsl"))
from storygan_cli.main import main
main(sys.argv[1:])
"""
"""Runs `storygan` as if the extra `pipeline` were not installed."""


def test_the_first_command_draws_a_story(cli, tmp_path):
    done = cli("generate", "--model", "blocks", "--out", tmp_path / "story.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'story.png'}\n", "")
    with Image.open(tmp_path / "story.png") as image:
        assert np.asarray(image.convert("RGB")).std() > 1


@pytest.mark.parametrize(
    "arguments", [["generate", "--model", "blocks", "--out", "a.png"], ["lineage", "blocks"], ["lineage", "./blocks"]]
)
def test_drawing_and_lineage_need_no_pipeline(cli, tmp_path, arguments):
    shutil.copytree(PRETRAINED / "blocks", tmp_path / "blocks")
    options = cli.options() | {"cwd": tmp_path}
    done = subprocess.run([sys.executable, "-c", WITHOUT_THE_PIPELINE, *arguments], capture_output=True, **options)
    assert done.returncode == 0, done.stderr


def test_its_lineage_is_printed(cli):
    done = cli("lineage", "blocks", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["ssim"] > 0


def test_it_is_evaluated_and_compared(finished_run, cli, tmp_path):
    data, run_dir, _ = finished_run
    settings = cli.tiny_settings()[-18:]
    done = cli("evaluate", "--model", "blocks", "--data", data, "--out", tmp_path / "judged", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the model" in done.stdout
    done = cli("compare", run_dir, tmp_path / "judged", "--out", tmp_path / "page.html")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "page.html").is_file()
