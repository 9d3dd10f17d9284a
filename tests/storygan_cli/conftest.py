"""Runs `storygan` in this process, which saves the seconds that starting Python and importing libraries would take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from storygan_cli.main import main


@dataclasses.dataclass(frozen=True)
class Finished:
    """Exit code and output of a finished command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def storygan(capsys, monkeypatch) -> Callable[..., Finished]:
    """Returns a function that runs `storygan` with the given arguments."""
    for name, value in {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("STORYGAN_DEBUG", raising=False)

    def run(*arguments: object) -> Finished:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        code = ended.value.code
        return Finished(code if isinstance(code, int) else int(code is not None), *capsys.readouterr())

    return run
