"""The command line as a user meets it: help, versions, errors in one paragraph, tracebacks on demand, interruption."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import storygan_tf

ROOT = Path(__file__).parents[2]

WITH_COMMANDS = """
import signal, sys, time
from storygan_cli import main
from storygan_tf.common.errors import DataError

@main.app.command()
def mistake():
    raise DataError("stories.jsonl: line 3: no field 'sentences'; add it.")

@main.app.command()
def fault():
    raise KeyError("weights\\nof layer 3")

@main.app.command()
def extra():
    import mitsuba.no_such_part

@main.app.command()
def sleep():
    print("ready", flush=True)
    time.sleep(60)

@main.app.command()
def chatter():
    import logging, warnings
    import tensorflow as tf
    warnings.warn("a library's warning")
    logging.getLogger("absl").warning("absl says")
    tf.get_logger().warning("tensorflow says")
    print(tf.constant(1).numpy())

main.main()
"""
"""The real command line with four more commands."""


def environment(**changed: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"} | changed


def storygan(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "storygan_cli", *arguments]
    return subprocess.run(command, env=environment(**changed), capture_output=True, text=True)


def with_commands(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITH_COMMANDS, *arguments]
    return subprocess.run(command, env=environment(**changed), capture_output=True, text=True)


def test_version():
    done = storygan("--version")
    assert (done.returncode, done.stdout) == (0, f"storygan {storygan_tf.__version__}\n")


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("run",),
        ("generate",),
        ("export",),
        ("serve",),
        ("data",),
        ("data", "render"),
        ("data", "check"),
        ("data", "show"),
    ],
)
def test_help_shows_an_example(command):
    done = storygan(*command, "--help")
    assert done.returncode == 0, done.stderr
    assert re.search("Example: +" + " +".join(("storygan", *command[:1])), done.stdout), done.stdout


def test_without_a_command_comes_help():
    done = storygan()
    assert "Usage: storygan" in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("rnu",), ("run", "--no-such-option"), ("run",)])
def test_wrong_usage(arguments):
    done = storygan(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Usage: storygan" in done.stderr


def test_a_mistake_is_one_paragraph():
    done = with_commands("mistake")
    assert done.returncode == 1
    assert done.stderr == "storygan: stories.jsonl: line 3: no field 'sentences'; add it.\n"


def test_a_fault_is_one_paragraph_with_advice():
    done = with_commands("fault")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("storygan: KeyError: ")
    assert "layer 3" in first
    assert "storygan --debug" in second


def test_a_missing_extra_is_named():
    done = with_commands("extra")
    assert done.returncode == 1
    assert "pip install 'storygan[render]'" in done.stderr


@pytest.mark.parametrize(("arguments", "changed"), [(("--debug", "fault"), {}), (("fault",), {"STORYGAN_DEBUG": "1"})])
def test_debug_shows_the_traceback(arguments, changed):
    done = with_commands(*arguments, **changed)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert 'raise KeyError("weights' in done.stderr or "in fault" in done.stderr


def test_libraries_are_silent():
    done = with_commands("chatter")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_debug_lets_libraries_speak():
    done = with_commands("--debug", "chatter")
    assert done.returncode == 0
    for text in ("a library's warning", "absl says", "tensorflow says"):
        assert text in done.stderr


def test_interrupted():
    command = [sys.executable, "-c", WITH_COMMANDS, "sleep"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "storygan: interrupted; run the same command again to go on."
