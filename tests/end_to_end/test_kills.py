"""A training that is killed repeatedly ends with the same weights as an undisturbed one, and a full disk loses nothing.

The training is stopped once by SIGTERM and killed twice, or `STORYGAN_KILLS` times. `STORYGAN_KILLS_SEED` sets the seed
of the moments.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from forked_python import ForkedProcess, ForkedPython

from storygan_tf.training.checkpoints import TrainingCheckpoints
from storygan_tf.training.training_state import read_history

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PROGRAM = Path(__file__).with_name("training_program.py")
ROOT = Path(__file__).parents[2]
EPOCHS, STEPS = 8, 32
KILLS = int(os.environ.get("STORYGAN_KILLS", "2"))
SEED = int(os.environ.get("STORYGAN_KILLS_SEED", random.SystemRandom().randrange(10**6)))
WITHIN_A_SAVE = 3
"""Every kill whose number is a multiple of this happens while a checkpoint is being written."""


class Run:
    """A training in a process of its own."""

    def __init__(self, python: ForkedPython, folder: Path) -> None:
        self.python = python
        self.work_dir, self.out = folder / "work", folder / "trained.npz"
        self.arguments = ["-m", PROGRAM.stem, str(self.work_dir), str(self.out)]
        path = f"{ROOT}{os.pathsep}{PROGRAM.parent}"
        self.options = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}}

    @contextlib.contextmanager
    def started(self) -> Iterator[ForkedProcess]:
        with self.python.popen(self.arguments, **self.options) as process:
            try:
                yield process
            finally:
                process.kill()

    def finish(self) -> None:
        """Runs the training to its end."""
        done = self.python.run(self.arguments, **self.options, timeout=3000)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]

    def steps(self) -> int:
        """Returns the number of outer steps before the newest checkpoint, or 0 if there is none."""
        states = [0]
        for path in self.find("[0-9]*/state.json"):
            with contextlib.suppress(OSError, ValueError):
                state = json.loads(path.read_text())["state"]
                states.append(STEPS * len(state["history"]) + state["step"])
        return max(states)

    def is_saving(self) -> bool:
        return bool(self.find("writing-*"))

    def find(self, pattern: str) -> list[Path]:
        return [path for kind in ("", "within_epoch/") for path in self.work_dir.glob(f"checkpoints/{kind}{pattern}")]

    def trained(self) -> list[np.ndarray]:
        with np.load(self.out) as arrays:
            return [arrays[name] for name in arrays.files]

    def history(self) -> list[dict]:
        measured = ("seconds", "stories_per_second")
        return [{name: entry[name] for name in entry if name not in measured} for entry in read_history(self.work_dir)]


@pytest.fixture(scope="module")
def undisturbed(forked_python, tmp_path_factory):
    run = Run(forked_python, tmp_path_factory.mktemp("undisturbed"))
    run.finish()
    return run


def wait_until(process, condition) -> None:
    while not condition():
        assert process.poll() is None, process.stdout.read()[-3000:]
        time.sleep(0.005)


def kill(run, moment, chance, within_save) -> bool:
    """Kills a run shortly after it has saved step `moment`, and returns whether it was writing a checkpoint."""
    with run.started() as process:
        wait_until(process, lambda: run.steps() >= moment)
        time.sleep(chance.uniform(0, 0.1))
        while within_save:
            wait_until(process, run.is_saving)
            process.send_signal(signal.SIGSTOP)
            if run.is_saving():
                break
            process.send_signal(signal.SIGCONT)
    assert process.returncode == -signal.SIGKILL
    return run.is_saving()


def assert_same(run, undisturbed) -> int:
    """Asserts that two runs have the same trained arrays and losses, and returns the number of arrays."""
    one, other = undisturbed.trained(), run.trained()
    for expected, found in zip(one, other, strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=f"seed {SEED}")
    assert run.history() == undisturbed.history()
    return len(one)


def test_a_training_that_is_stopped_and_killed_repeatedly_ends_as_the_undisturbed_one(
    forked_python, undisturbed, tmp_path, capsys
):
    chance, run = random.Random(SEED), Run(forked_python, tmp_path)
    stop(run)
    moments = sorted(chance.sample(range(EPOCHS * STEPS * 9 // 10), KILLS))
    saving = [kill(run, moment, chance, number % WITHIN_A_SAVE == 0) for number, moment in enumerate(moments)]
    run.finish()
    arrays = assert_same(run, undisturbed)
    assert any(saving)
    assert sum("rollbacks" in entry for entry in run.history()) >= 1
    with capsys.disabled():
        print(
            f"\nSIGTERM and {KILLS} kills (SIGKILL, seed {SEED}) of a training of {EPOCHS * STEPS} steps, kills after "
            f"steps {', '.join(map(str, moments))}, {sum(saving)} of them while a checkpoint was being written: all "
            f"{arrays} arrays (weights, averages, moments) and the losses of all {len(run.history())} epochs equal "
            "those of the undisturbed training, bit for bit."
        )


def stop(run) -> None:
    """Sends SIGTERM to a run after five steps, which saves before it ends."""
    with run.started() as process:
        wait_until(process, lambda: run.steps() >= 5)
        before = run.steps()
        process.send_signal(signal.SIGTERM)
        output = process.stdout.read()
        process.wait(1500)
    assert process.returncode == 1
    assert "error: training was stopped by SIGTERM after step " in output.strip().splitlines()[-1]
    assert run.steps() >= before


def on_a_small_disk(folder: Path, size: str, command: list[str], options: dict) -> subprocess.CompletedProcess[str]:
    """Runs a command with a disk of `size` mounted at `folder`, and copies its content to `folder`.kept at the end."""
    folder.mkdir()
    script = (
        f"mount -t tmpfs -o size={size} tmpfs {shlex.quote(str(folder))} || exit 77\n"
        f"{shlex.join(command)}\ncode=$?\ncp -r {shlex.quote(str(folder))} {shlex.quote(str(folder))}.kept\nexit $code"
    )
    spaces = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(spaces, **options, **output)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a small disk")
def test_a_full_disk_ends_a_training_with_its_last_checkpoint_intact(forked_python, undisturbed, tmp_path):
    size = sum(path.stat().st_size for path in next(undisturbed.work_dir.glob("checkpoints/0*")).iterdir())
    small, run = tmp_path / "small", Run(forked_python, tmp_path)
    command = [sys.executable, "-W", "ignore", str(PROGRAM), str(small / "work"), str(run.out)]
    done = on_a_small_disk(small, f"{int(2.6 * size)}", command, run.options)
    if done.returncode not in (0, 1):
        pytest.skip(f"no small disk can be mounted: {done.stdout.strip()[-200:]}")
    assert done.returncode == 1, done.stdout[-3000:]
    assert "could not be written" in done.stdout.strip().splitlines()[-1]
    assert "Free some space" in done.stdout.strip().splitlines()[-1]
    shutil.move(tmp_path / "small.kept" / "work", run.work_dir)
    assert TrainingCheckpoints(run.work_dir / "checkpoints").newest() is not None
    assert not run.is_saving()
    run.finish()
    assert_same(run, undisturbed)
