"""Compares training on a GPU with the CPU: float32, 16 bits, XLA, several GPUs. `make test-gpu` runs it.

Not yet run: the tolerances are expectations. That of float32 is large because GPUs since Nvidia's Ampere generation
multiply float32 with 10 bits of mantissa (TF32).
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

PROGRAM = Path(__file__).with_name("fit_program.py")
ROOT = Path(__file__).parents[2]
GPUS = len(tf.config.list_physical_devices("GPU"))

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="needs a GPU, and TensorFlow finds none")]


def run(*command: object, **environment: str) -> str:
    whole = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"} | environment
    arguments = [sys.executable, "-W", "ignore", *map(str, command)]
    done = subprocess.run(arguments, cwd=ROOT, env=whole, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@functools.cache
def fit(*settings: str, devices: str = "0") -> dict[str, Any]:
    """Returns the report of `fit_program.py` on the GPUs with these numbers, or on the CPU for `-1`."""
    found: dict[str, Any] = json.loads(run(PROGRAM, *settings, CUDA_VISIBLE_DEVICES=devices).splitlines()[-1])
    return found


def assert_losses(found: dict[str, Any], tolerance: float) -> None:
    """Asserts that losses are close to those of float32 on the CPU: accuracies absolutely, others relatively."""
    for epoch, expected in zip(found["losses"], fit(devices="-1")["losses"], strict=True):
        assert epoch.keys() == expected.keys()
        for name, value in expected.items():
            allowed = {"abs": 0.15} if name.endswith("accuracy") else {"rel": tolerance}
            assert epoch[name] == pytest.approx(value, **allowed), name


def test_float32():
    found = fit()
    assert all("GPU" in device for device in found["devices"])
    assert all(found["growth"])
    assert_losses(found, 2e-2)


def test_sixteen_bits():
    found = fit("training.mixed_precision=true")
    assert "float16" in found["compute"]
    assert found["weights"] == ["float32"]
    assert_losses(found, 1e-1)


def test_xla():
    assert_losses(fit("training.xla=true"), 2e-2)


def test_xla_and_sixteen_bits():
    assert_losses(fit("training.xla=true", "training.mixed_precision=true"), 1e-1)


@pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")
@pytest.mark.parametrize("xla", ["false", "true"])
def test_two_gpus(xla):
    found = fit("training.strategy=mirrored", f"training.xla={xla}", devices="0,1")
    assert len(found["devices"]) == 2
    assert_losses(found, 2e-2)


def test_the_benchmark_measures_a_gpu():
    table = run("benchmarks/train_step.py", "--preset", "quick", "--batch", "24", "--xla", "--rounds", "2")
    print(table)
    assert "stories a second" in table
