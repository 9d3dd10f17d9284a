"""Folders that take long to make and that no test changes: made once for all processes of a run of the tests."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder that the first process to need it makes, while the others wait.

    Args:
        factory: the fixture `tmp_path_factory`.
        name: name of the folder, unique in a run of the tests.
        make: writes the folder at a path that does not exist yet.

    Returns:
        The folder. Tests must not change it.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # The base folder of a worker lies in that of the run.
    path = root / f"made-once-{name}"
    with (root / f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = root / f"{path.name}.unfinished-{os.getpid()}"
            make(unfinished)
            unfinished.rename(path)
    return path
