"""`benchmarks/variants.py` trains and evaluates variants and prints a table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from storygan_tf.training.training_state import read_history

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "variants.py"


@pytest.fixture
def variants(finished_run, cli, tmp_path):
    """A function that runs the program on the stories of the finished run."""
    data, run_dir, _ = finished_run

    def run(*arguments):
        where = ["--run", run_dir, "--data", data, "--out", tmp_path / "out", "--preset", "quick"]
        command = [sys.executable, PROGRAM, *where, *cli.tiny_settings("training.phases.warm_up.epochs=1"), *arguments]
        environment = os.environ | {"PYTHONPATH": str(cli.code)}
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=1700, env=environment)

    return run


def test_the_table_has_the_metrics_of_a_variant(variants, tmp_path):
    done = variants("--table", "recipe", "--only", "warm-up alone")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    head, _, row = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    assert head[:2] == ["variant", "ssim"]
    out = tmp_path / "out" / "warm-up_alone"
    assert {entry["phase"] for entry in read_history(out)} == {"warm_up"}
    judged = json.loads((out / "judged" / "metrics.json").read_text())
    figures = next(row["figures"] for row in judged["rows"] if row["name"] == "model")
    values = [f"{figures[name]['value']:.3f}" if name in figures else "absent" for name in head[1:-1]]
    assert row[:-1] == ["warm-up alone", *values]


def test_an_unknown_variant_is_refused(variants):
    done = variants("--only", "no such part")
    assert done.returncode == 2
    assert "--only no such part: expected some of all parts, no image discriminator" in done.stderr
