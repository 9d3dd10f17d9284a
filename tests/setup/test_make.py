"""The Makefile, the first run, the lock and the wheel."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]

ROOMS = ("storygan_tf", "storygan_cli", "components", "pipeline", "serving")


def environment() -> dict[str, str]:
    """Returns the environment without the variables that a surrounding `make test` sets."""
    own = ("STORIES", "TEST_STORIES", "VAL_STORIES", "SEED", "MFLAGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES")
    return {name: value for name, value in os.environ.items() if name not in own}


def dry_run(make, *arguments: str) -> list[str]:
    command = [make, "--dry-run", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# Make


def test_make_run(make):
    setup, run = dry_run(make, "run")
    assert setup == "sh scripts/setup_env.sh"
    assert (
        run == "STORYGAN=.venv/bin/storygan STORIES=400 TEST_STORIES=48 VAL_STORIES=24 SEED=1 sh scripts/first_run.sh"
    )
    assert "STORIES=20 TEST_STORIES=4" in dry_run(make, "run", "STORIES=20", "TEST_STORIES=4")[1]


def test_the_first_run_draws_then_renders_then_trains(machine):
    storygan = machine.command("storygan", "exit 0")
    assert machine.run("sh", "scripts/first_run.sh", STORYGAN=str(storygan), STORIES="12").returncode == 0
    assert machine.calls() == [
        "storygan generate --model blocks --out runs/pretrained.png",
        "storygan data render --stories 12 --test-stories 48 --val-stories 24 --out runs/data/quick --seed 1",
        "storygan run --data runs/data/quick --out runs/quick --preset quick",
    ]


def test_the_first_run_prints_the_picture_before_it_trains(machine):
    machine.command("storygan", 'case "$1" in generate) shift 4; echo "$1" ;; *) echo "$1" ;; esac')
    printed = machine.run("sh", "scripts/first_run.sh").stdout.splitlines()
    assert printed.index("runs/pretrained.png") < printed.index("data") < printed.index("run")


def test_the_first_run_stops_at_a_failure(machine):
    machine.command("storygan", "exit 3")
    assert machine.run("sh", "scripts/first_run.sh").returncode == 3
    assert len(machine.calls()) == 1


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("test", '.venv/bin/python -m pytest -n 2 --dist loadfile -m "not slow"'),
        ("test-slow", ".venv/bin/python -m pytest -n 2 --dist loadfile -m slow"),
        ("test-all", ".venv/bin/python -m pytest -n 2 --dist loadfile"),
        ("lint", ".venv/bin/mypy"),
    ],
)
def test_make_sets_up_first(make, target, last):
    commands = dry_run(make, target)
    assert commands[0] == "sh scripts/setup_env.sh"
    assert commands[-1] == last


def test_make_passes_python_on(make, machine):
    """make passes the variable to the script, which uses no other Python."""
    (machine.bin / "make").symlink_to(make)
    done = machine.run("make", "test", "PYTHON=/no/such/python")
    assert done.returncode != 0
    assert "PYTHON=/no/such/python is not" in done.stderr
    assert "pytest" not in done.stdout


def test_make_help_lists_every_target(make):
    help_text = subprocess.run([make, "help"], cwd=ROOT, env=environment(), capture_output=True, text=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    for target in phony.group(1).split():
        assert re.search(rf"^{target} +\S", help_text, re.MULTILINE)


# The lock


LOCKS = ("requirements.lock", "requirements.gpu.lock")


def locked(file: str = LOCKS[0]) -> dict[str, str]:
    lines = (ROOT / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.lstrip().startswith("#"))


@pytest.mark.parametrize("file", LOCKS)
def test_the_lock_names_versions_alone(file):
    for line in (ROOT / file).read_text().splitlines():
        assert line.lstrip().startswith("#") or re.fullmatch(r"[a-z0-9-]+==[\w.+]+", line), line
        assert "://" not in line
        assert "--" not in line


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in (*ROOMS, "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    export = source / "storygan_tf/models/tiny/variables"
    export.mkdir(parents=True)
    (export / "variables.data-00000-of-00001").write_bytes(b"1")
    (export.parent / "saved_model.pb").write_bytes(b"2")
    command = [sys.executable, "-W", "ignore", "setup.py", "--quiet", "bdist_wheel", "--dist-dir", "dist"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next((source / "dist").glob("*.whl")))


def test_the_wheel_carries_every_room(wheel):
    names = set(wheel.namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - names == set()
    assert {name for name in names if name.split("/")[0] not in ROOMS and ".dist-info/" not in name} == set()


def test_the_wheel_carries_saved_models(wheel):
    assert {
        "storygan_tf/models/tiny/saved_model.pb",
        "storygan_tf/models/tiny/variables/variables.data-00000-of-00001",
    } <= set(wheel.namelist())


def test_the_wheel_carries_the_pretrained_model(wheel):
    shipped = ROOT / "storygan_tf/export/pretrained/blocks"
    for file in filter(Path.is_file, shipped.rglob("*")):
        assert wheel.read(str(file.relative_to(ROOT))) == file.read_bytes()


def test_the_metadata_of_the_wheel(wheel):
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    text = wheel.read(metadata).decode()
    assert re.search(r"Requires-Python: (<3\.12, ?>=3\.10|>=3\.10, ?<3\.12)\n", text)
    base = [line for line in text.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert not [line for line in base if re.search("tfx|beam|mitsuba|pytest", line)]
    assert {"pipeline", "render", "eval", "parquet", "serving", "kubeflow", "s3", "gpu", "dev"} == set(
        re.findall("Provides-Extra: (.*)", text)
    )
    scripts = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "storygan = storygan_cli.main:main" in wheel.read(scripts).decode()


def test_the_lock_follows_setup_py(wheel):
    """Fails if setup.py was edited without `make lock`."""
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = re.findall("^Requires-Dist: (.*)$", wheel.read(metadata).decode(), re.MULTILINE)
    requirements = [Requirement(line) for line in lines if 'extra == "gpu"' not in line]
    versions = locked()
    for requirement in requirements:
        assert requirement.specifier.contains(versions[requirement.name]), requirement
    lock = (ROOT / "requirements.lock").read_text()
    direct = re.findall(
        r"^([a-z0-9-]+)==.*\n(?:    # .*\n)*?    #(?: via|  ) storygan \(setup\.py\)", lock, re.MULTILINE
    )
    assert {requirement.name for requirement in requirements} == set(direct)


def test_the_lock_for_gpus_is_what_tensorflow_requires():
    """The lock has exactly the packages that the extra `and-cuda` of TensorFlow's own metadata adds."""
    required = map(Requirement, importlib.metadata.requires("tensorflow") or ())
    wanted = {one.name: str(one.specifier).removeprefix("==") for one in required if "and-cuda" in str(one.marker)}
    found = locked("requirements.gpu.lock")
    assert found == wanted
    assert not set(found) & set(locked())
