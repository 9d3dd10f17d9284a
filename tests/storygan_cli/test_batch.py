"""`storygan batch`: its output, its exit, and that a killed job loses and repeats no story."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from forked_python import ForkedProcess, ForkedPython
from typer.testing import CliRunner

from storygan_cli.main import app
from storygan_tf.common.errors import ConfigError, DataError, ModelError

ROOT = Path(__file__).parents[2]


def batch(*arguments):
    return CliRunner().invoke(app, ["batch", *(str(argument) for argument in arguments)])


def write_stories(path: Path, count: int, blank: int = 0) -> Path:
    """Writes stories for `blocks`; the last `blank` of them hold a blank sentence."""
    shapes = ("cube", "ball", "tube")
    stories = [
        {
            "story_id": f"s{number}",
            "sentences": [
                f"A {colour} {shapes[number % 3]} stands {number} left." for colour in ("red", "blue", "green")
            ]
            + [" " if number >= count - blank else "The end."],
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(story) + "\n" for story in stories))
    return path


def test_it_prints_how_many_stories_were_drawn_and_rejected(tmp_path):
    given = write_stories(tmp_path / "a.jsonl", 5, blank=2)
    done = batch("--model", "blocks", "--input", given, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-4:] == [
        f"drawn      3 of 5: {tmp_path}/out/manifest",
        f"set aside  2: {tmp_path}/out/rejects.jsonl",
        "           2 x sentence 4 is blank; write at least one word.",
        f"pictures   {tmp_path}/out/images",
    ]
    assert len(list((tmp_path / "out/images/00000").iterdir())) == 12


def test_it_fails_if_no_story_could_be_drawn(tmp_path):
    given = write_stories(tmp_path / "a.jsonl", 2, blank=2)
    done = batch("--model", "blocks", "--input", given, "--output", tmp_path / "out")
    assert isinstance(done.exception, DataError)
    assert "none of 2 stories could be drawn" in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--input", "a.jsonl", "--output", "out"], ConfigError, "found neither, expected one of them"),
        (["--input", "a", "--output", "b", "--model", "m", "--target", "t"], ConfigError, "found both"),
        (["--input", "a", "--output", "b", "--model", "block"], ModelError, "did you mean 'blocks'"),
        (["--input", "a", "--output", "b", "--target", "t", "--concurrency", "0"], ConfigError, "--concurrency 0"),
        (["--input", "missing.jsonl", "--output", "out", "--model", "blocks"], DataError, "found no such file"),
        (["--input", "a", "--output", "b", "--model", "blocks", "--beam-runner", "x"], ConfigError, "--beam-runner x"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = batch(*arguments)
    assert isinstance(done.exception, error), done.output
    assert words in str(done.exception)


class Job:
    """A job of `storygan batch` in a process of its own."""

    def __init__(self, python: ForkedPython, given: Path, out: Path, workers: int) -> None:
        self.out = out
        self.python = python
        self.command = ["-m", "storygan_cli", "batch", "--model", "blocks"]
        self.command += ["--input", str(given), "--output", str(out), "--beam-workers", str(workers)]
        self.options = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": str(ROOT)}}

    def start(self) -> ForkedProcess:
        return self.python.popen(self.command, **self.options)

    def finish(self) -> None:
        done = self.python.run(self.command, **self.options, timeout=1500)
        assert done.returncode == 0, done.stderr[-3000:]

    def written(self) -> dict[Path, int]:
        """Returns the modification time of each part of the manifest."""
        return {path: path.stat().st_mtime_ns for path in self.out.glob("manifest/*.jsonl")}

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.out)): path.read_bytes() for path in self.out.rglob("*") if path.is_file()}


def kill_after(job: Job, parts: int, chance: random.Random) -> None:
    """Kills a job and all its workers with SIGKILL, up to two seconds after `parts` parts are complete."""
    with job.start() as process:
        try:
            while len(job.written()) < parts:
                assert process.poll() is None, process.stdout.read()[-3000:]
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 2))
        finally:
            os.killpg(process.pid, signal.SIGKILL)


STORIES, BLANK = 1200, 40


@pytest.fixture(scope="module")
def undisturbed(forked_python, tmp_path_factory) -> tuple[Path, Job]:
    """Returns a file of stories, and a job that has drawn them."""
    folder = tmp_path_factory.mktemp("undisturbed")
    given = write_stories(folder / "a.jsonl", STORIES, BLANK)
    job = Job(forked_python, given, folder / "whole", 1)
    job.finish()
    return given, job


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_job_continues_to_the_same_result(forked_python, undisturbed, tmp_path, workers):
    given, whole = undisturbed
    job, chance = Job(forked_python, given, tmp_path / "out", workers), random.Random(workers)
    kill_after(job, 0, chance)
    kill_after(job, 1, chance)
    before = job.written()
    kill_after(job, 2, chance)
    assert before
    assert not (tmp_path / "out/counts.json").exists()
    job.finish()
    assert job.files() == whole.files()
    assert before.items() <= job.written().items()
    counts = json.loads((tmp_path / "out/counts.json").read_text())
    assert (counts["given"], counts["written"]) == (STORIES, STORIES - BLANK)
