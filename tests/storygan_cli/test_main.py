"""The command line: help, version, error messages, exit codes, tracebacks on demand, interruption."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import storygan_tf
from storygan_cli import main
from storygan_tf.common.errors import DataError

ROOT = Path(__file__).parents[2]

WITH_COMMANDS = """
import signal, sys, time
from storygan_cli import main

@main.app.command()
def fault():
    raise KeyError("weights\\nof layer 3")

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

@main.app.command()
def model():
    import storygan_tf
    chatter()
    print(storygan_tf.StoryGAN.__name__)

main.main()
"""
"""A program with the real command line and four more commands."""


def environment(**changed: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"} | changed


def with_commands(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITH_COMMANDS, *arguments]
    return subprocess.run(command, env=environment(**changed), capture_output=True, text=True)


def test_version():
    command = [sys.executable, "-m", "storygan_cli", "--version"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"storygan {storygan_tf.__version__}\n")


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("run",),
        ("prepare",),
        ("train",),
        ("generate",),
        ("batch",),
        ("export",),
        ("serve",),
        ("evaluate",),
        ("compare",),
        ("lineage",),
        ("compile",),
        ("data",),
        ("data", "render"),
        ("data", "check"),
        ("data", "show"),
        ("data", "convert"),
    ],
)
def test_help_shows_an_example(storygan, command):
    done = storygan(*command, "--help")
    assert done.returncode == 0, done.stderr
    assert re.search("Example: +" + " +".join(("storygan", *command)), done.stdout), done.stdout


def test_without_a_command_help_is_printed(storygan):
    done = storygan()
    assert "Usage: storygan" in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("rnu",), ("run", "--no-such-option"), ("run",)])
def test_wrong_usage(storygan, arguments):
    done = storygan(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Usage: storygan" in done.stderr


@pytest.fixture
def failing_command(monkeypatch):
    """Returns a function that adds a command `fail`, which raises an error, for the duration of the test."""
    monkeypatch.setattr(main.app, "registered_commands", [*main.app.registered_commands])

    def add(error):
        @main.app.command()
        def fail():
            raise error

    return add


def test_a_mistake_is_one_paragraph(storygan, failing_command):
    failing_command(DataError("stories.jsonl: line 3: no field 'sentences'; add it."))
    done = storygan("fail")
    assert done.returncode == 1
    assert done.stderr == "storygan: stories.jsonl: line 3: no field 'sentences'; add it.\n"


def test_a_fault_is_one_paragraph_with_advice(storygan, failing_command):
    failing_command(KeyError("weights\nof layer 3"))
    done = storygan("fail")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("storygan: KeyError: ")
    assert "layer 3" in first
    assert "storygan --debug" in second


def test_a_missing_extra_is_named(storygan, failing_command):
    failing_command(ModuleNotFoundError("No module named 'mitsuba'", name="mitsuba.no_such_part"))
    done = storygan("fail")
    assert done.returncode == 1
    assert "pip install 'storygan[render]'" in done.stderr


@pytest.mark.parametrize(("arguments", "changed"), [(("--debug", "fault"), {}), (("fault",), {"STORYGAN_DEBUG": "1"})])
def test_debug_shows_the_traceback(arguments, changed):
    done = with_commands(*arguments, **changed)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert 'raise KeyError("weights' in done.stderr or "in fault" in done.stderr


def test_libraries_are_silent_and_the_model_has_a_public_name():
    """The package imports the model and all libraries that it needs when its name is used for the first time."""
    done = with_commands("model")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\nStoryGAN\n", "")


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
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.strip() == "storygan: interrupted; run the same command again to continue."
