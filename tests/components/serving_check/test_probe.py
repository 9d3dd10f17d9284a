"""The probe of an export: the result for a good one, and the reason for each fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tfx.utils import path_utils

from components.serving_check import probe


@pytest.fixture
def run_probe(squares):
    """Returns a function that probes a Model artifact with the first test story."""
    return lambda model: probe.probe_export(path_utils.serving_model_path(model.uri), squares.test[0].sentences, 64)


def test_the_result_of_a_good_export(run_probe, save_model, squares):
    result = run_probe(save_model())
    assert result["reason"] == ""
    assert (result["frames"], result["image_size"]) == (squares.frames, 64)
    assert len(result["png_bytes"]) == len(result["png_sha256"]) == squares.frames


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ({"random": True}, "the same story, drawn twice, gave different pictures"),
        ({"error": "out of paint"}, "serving_default refused a test story: out of paint"),
        ({"png": False}, "picture 1 is not a PNG"),
        ({"frames": 5}, "info: found frames 5, expected 3"),
        ({"without": ["info"]}, "expected one called 'info'"),
        ({"without": ["serving_default"]}, "expected one called 'serving_default'"),
        ({"images": np.zeros((7, 3, 32, 32, 3), np.uint8)}, r"picture 1 is of shape \[32, 32, 3\], expected 64 pixels"),
        ({"images": np.zeros((7, 2, 64, 64, 3), np.uint8)}, "found 2 pictures, expected 3"),
    ],
)
def test_an_export_with_a_fault(run_probe, save_model, faults, reason):
    with pytest.raises(probe.ProbeError, match=reason):
        run_probe(save_model(**faults))


def test_an_export_without_its_graph(run_probe, save_model):
    model = save_model()
    Path(model.uri, "Format-Serving", "saved_model.pb").unlink()
    with pytest.raises(probe.ProbeError, match="the export cannot be loaded: OSError: SavedModel file does not exist"):
        run_probe(model)


def test_an_export_with_truncated_variables(run_probe, save_model):
    model = save_model()
    (data,) = Path(model.uri, "Format-Serving", "variables").glob("*.data-*")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(probe.ProbeError, match="the export cannot be loaded: "):
        run_probe(model)


def test_the_probe_imports_tensorflow_and_nothing_of_the_project():
    code = f"import sys, {probe.__name__}; print(*sys.modules)"
    root = Path(probe.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "tensorflow" in loaded
    assert not loaded & {"tfx", "apache_beam", "storygan_tf", "tensorflow_addons", "tensorflow_hub"}
