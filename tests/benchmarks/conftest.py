"""Benchmarks are programs, not a package: their folder is on the path when they run, and here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"

sys.path.insert(0, str(BENCHMARKS))


@pytest.fixture
def run_benchmark(forked_python) -> Callable[..., str]:
    """A function that runs a benchmark in a process of its own, and returns its output.

    The process is forked from one that has imported the third-party packages. The processes that a benchmark measures
    are new ones.
    """

    def run(name: str, *options: object) -> str:
        environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{BENCHMARKS}", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = forked_python.run(["-m", name, *map(str, options)], cwd=ROOT, env=environment, timeout=1700)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
