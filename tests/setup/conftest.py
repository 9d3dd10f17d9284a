"""A copy of the scripts, with a PATH on which fake commands describe the machine that a test needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TOOLS = ("sh", "bash", "cat", "cp", "cut", "dirname", "head", "id", "ln", "ls", "mkdir", "mv", "rm", "sed", "sha256sum")


class Machine:
    """A folder with a copy of the scripts, and fake commands, each of which logs its calls."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.bin = folder / "bin"
        self.home = folder / "home"
        self.log = folder / "calls.log"
        for path in (self.checkout, self.bin, self.home):
            path.mkdir()
        shutil.copytree(ROOT / "scripts", self.checkout / "scripts")
        shutil.copy(ROOT / "Makefile", self.checkout)
        (self.checkout / "requirements.lock").write_text("uv==0.9.1\n    # via storygan (setup.py)\n")
        (self.checkout / "setup.py").write_text("# setup\n")
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.command("uname", 'case "$1" in -s) echo Linux ;; -m) echo x86_64 ;; esac')
        self.command("getconf", "echo glibc 2.36")
        self.command("g++", "exit 0")
        for downloader in ("curl", "wget", "pip", "uv"):
            self.command(downloader, "exit 97")

    def command(self, name: str, body: str, folder: Path | None = None) -> Path:
        """Writes a fake command."""
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.log}"\n{body}\n')
        path.chmod(0o755)
        return path

    def python(self, path: Path | None = None, version: str = "3.10", lacks: str = "") -> Path:
        """Writes a fake Python that supports the calls of the scripts, and creates fake environments."""
        path = path or self.bin / f"python{version}"
        uv = self.command("uv", 'case "$1" in --version) echo uv 0.9.1 ;; esac', self.home / "download")
        body = f"""
case "$*" in
*"== wanted"*) case "$*" in *" {version}") echo "$0" ;; *) echo ;; esac ;;
*Python.h*) echo "{lacks} " ;;
"-c import ensurepip" | "-c import pip") case "{lacks}" in *ensurepip*) exit 1 ;; esac ;;
*"sys.exit("*"3.10"*) exit {0 if version == "3.10" else 1} ;;
"-m venv "*) mkdir -p "$3/bin"; echo home >"$3/pyvenv.cfg"; cp "$0" "$3/bin/python" ;;
"-m pip install "*) cp "{uv}" "${{0%/*}}/uv" ;;
--version) echo "Python {version}.9" ;;
esac
"""
        return self.command(path.name, body, path.parent)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command on the machine, in its checkout."""
        return subprocess.run(
            command or ("sh", "scripts/setup_env.sh"),
            cwd=self.checkout,
            env={"PATH": str(self.bin), "HOME": str(self.home)} | environment,
            capture_output=True,
            text=True,
        )

    def calls(self) -> list[str]:
        """Returns the calls of fake commands since the last call of this method."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def make() -> str:
    found = shutil.which("make")
    if found is None:
        pytest.skip("make is not installed")
    return os.fspath(found)
