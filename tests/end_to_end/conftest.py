"""A tiny but complete run of the pipeline, made once and restored after each test that changes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from forked_python import ForkedProcess, ForkedPython

REPOSITORY = Path(__file__).parents[2]

TINY = (
    "model.generator_width=8",
    "model.discriminator_width=4",
    "model.noise_size=4",
    "training.steps_per_epoch=2",
    "training.phases.warm_up.epochs=2",
    "training.phases.warm_up.story_batch=4",
    "training.phases.adversarial.epochs=1",
    "training.phases.adversarial.story_batch=4",
    "training.phases.adversarial.image_batch=4",
    "evaluation.classifier_epochs=1",
    "evaluation.replicates=40",
    "evaluation.min_ssim_over_random=-1",
    "evaluation.min_f1_over_floor=-1",
    "evaluation.min_f1_over_random=-1",
    "evaluation.min_placed_over_random=-1",
    "evaluation.min_object_gain=-99",
    "evaluation.max_ssim_drop=1",
    "evaluation.max_object_error_rise=255",
)
"""Settings of a model that is trained in seconds, learns nothing and is pushed nevertheless."""

DRAW = """
import sys, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
result = model.signatures["serving_default"](sentences=tf.constant([sys.argv[2:]]))
assert result["error"].numpy()[0] == b"", result["error"]
print([tf.io.decode_png(image).shape.as_list() for image in result["image_bytes"][0]])
print("tfx" in sys.modules, "keras" in sys.modules)
"""


class CommandLine:
    """Runs `storygan` in processes of its own, with the sources in `code`.

    A call runs a command to its end in a process that is forked from one that has imported the third-party packages.
    `fork` starts such a process, `start` a new Python.
    """

    code = REPOSITORY

    def __init__(self, python: ForkedPython) -> None:
        self._python = python

    def arguments(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "storygan_cli", *map(str, arguments)]

    def options(self) -> dict:
        return {"cwd": self.code, "env": os.environ | {"PYTHONPATH": str(self.code)}, "text": True}

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        options = self.options()
        return self._python.run(self.arguments(*arguments)[1:], cwd=options["cwd"], env=options["env"], timeout=1700)

    def fork(self, *arguments: object) -> ForkedProcess:
        options = self.options()
        return self._python.popen(self.arguments(*arguments)[1:], cwd=options["cwd"], env=options["env"])

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self.arguments(*arguments), stdout=pipe, stderr=subprocess.STDOUT, **self.options())

    @staticmethod
    def tiny_settings(*extra: str) -> list[str]:
        return [part for setting in (*TINY, *extra) for part in ("--set", setting)]

    def tiny_run(self, data: Path, run_dir: Path, *extra: str) -> list[str]:
        settings = self.tiny_settings(*extra)
        return ["run", "--data", str(data), "--out", str(run_dir), "--preset", "quick", *settings]


@pytest.fixture(scope="session")
def cli(forked_python):
    return CommandLine(forked_python)


@pytest.fixture(scope="session")
def draw_elsewhere() -> Callable[[Path, Sequence[str]], list[str]]:
    """A function that draws a story with an export in a new process, which imports nothing but TensorFlow.

    It returns two lines: the shapes of the pictures, and whether TFX and Keras were imported.
    """

    def draw(version: Path, sentences: Sequence[str]) -> list[str]:
        command = [sys.executable, "-c", DRAW, str(version), *sentences]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()

    return draw


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, story_folder, cli):
    """Returns the data folder, the run directory and the output of a finished run; tests must not change them."""
    root = tmp_path_factory.mktemp("finished")
    data = story_folder(root / "data", train=10, test=4)
    done = cli(*cli.tiny_run(data, root / "run"))
    assert done.returncode == 0, done.stdout + done.stderr
    return data, root / "run", done.stdout


@pytest.fixture
def run_to_change(finished_run, tmp_path):
    """Returns the data folder and the run directory of the finished run, which a test may change; restores both.

    Tests cannot use copies, because a run directory contains absolute paths.
    """
    data, run_dir, _ = finished_run
    shutil.copytree(data, tmp_path / "data")
    shutil.copytree(run_dir, tmp_path / "run")
    yield data, run_dir
    for path, copy in ((data, tmp_path / "data"), (run_dir, tmp_path / "run")):
        shutil.rmtree(path)
        shutil.move(copy, path)
