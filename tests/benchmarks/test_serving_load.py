"""The serving benchmark: its arithmetic, and a short run against the local server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving_load import Measured, table

ROOT = Path(__file__).parents[2]


def test_rate_and_times_of_requests():
    measured = Measured.from_requests("in process, batches of 2", [0.1] * 98 + [0.2, 1.0], 20.0, rows=2)
    assert measured.stories_per_second == 10
    assert measured.p50 == pytest.approx(100)
    assert 200 < measured.p99 < 1000
    other = Measured("local server, 16 callers", 8.5, 1, 2, failed=3)
    assert table([measured, other]).splitlines()[-1] == "| local server, 16 callers | 8.5 | 1.0 | 2.0 | 3 | 0.85 |"


@pytest.mark.slow
def test_a_short_run():
    program = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "serving_load.py")]
    options = ["--model", "blocks", "--seconds", "1", "--callers", "1", "4"]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    environment.pop("STORYGAN_SERVING_TARGET", None)
    done = subprocess.run([*program, *options], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    assert [row["name"] for row in rows[-4:]] == [
        f"local server{batching}, {callers} callers" for batching in ("", ", batching") for callers in (1, 4)
    ]
    assert [row for row in rows if row["failed"] or not row["stories_per_second"]] == []
