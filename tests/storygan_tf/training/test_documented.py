"""The programs in docs/training.md train on prepared stories."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "training.md"


@pytest.fixture(scope="module")
def programs() -> list[str]:
    """Returns the Python programs of the page, in their order."""
    if not PAGE.is_file():
        pytest.skip("the documentation is not installed")
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(prepared_folder, tmp_path, monkeypatch) -> Path:
    """Returns a folder with prepared stories in `runs/quick`, which is the working directory."""
    prepared_folder(tmp_path / "runs" / "quick", frames=4, size=128)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_the_model_trains_without_the_trainer(programs):
    names: dict = {}
    exec(programs[0], names)
    history = names["gan"].history.history
    assert {"image_discriminator", "story_generator", "kl"} <= set(history)
    assert [len(values) for values in history.values()] == [2] * len(history)
    assert [int(optimizer.iterations) for optimizer in names["gan"].optimizers] == [4, 4, 4]


@pytest.mark.slow
def test_the_model_trains_on_two_replicas(programs, folder):
    """Runs both programs in a new process: logical devices must be configured before TensorFlow starts."""
    devices = (
        "import tensorflow as tf\n"
        "(cpu,) = tf.config.list_physical_devices('CPU')\n"
        "tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])\n"
    )
    end = "assert replicas == 2 and [optimizer.iterations.numpy() for optimizer in gan.optimizers] == [4, 4, 4]\n"
    source = devices + programs[0] + programs[1].replace("MirroredStrategy()", "MirroredStrategy(['CPU:0', 'CPU:1'])")
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source + end], cwd=folder, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
