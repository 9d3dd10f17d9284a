"""`storygan train` on two replicas and as two workers: real processes, joined over loopback, killed and stopped."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from storygan_cli.train import TERMINATED, WORKER_LOST
from storygan_tf.history import read_history
from storygan_tf.saved import SavedStoryGAN

# On an idle machine four minutes; a busy one may take its time.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SETTINGS = (
    "model.generator_width=8",
    "model.discriminator_width=2",
    "model.noise_size=2",
    "model.context_size=32",
    "model.filter_count=4",
    "model.filter_length=12",
    "training.steps_per_epoch=10",
    "training.storyboard_stories=2",
    "training.phases.warm_up.epochs=3",
    "training.phases.warm_up.story_batch=4",
    "training.phases.adversarial.epochs=1",
    "training.phases.adversarial.story_batch=4",
    "training.phases.adversarial.image_batch=4",
)
TWO_DEVICES = """
import sys
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from storygan_cli.main import main
main(sys.argv[1:])
"""
"""`storygan` with two logical CPUs."""


class Trainings:
    """Starts `storygan train` on the same stories."""

    def __init__(self, cli, data: Path) -> None:
        self.cli = cli
        self.data = data
        self.started: list[subprocess.Popen[str]] = []

    def arguments(self, out: Path, *extra: str) -> list[str]:
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        return ["train", "--data", str(self.data), "--out", str(out), *settings, *extra]

    def start(self, command: list[str], log: Path, **environment: str) -> subprocess.Popen[str]:
        options = self.cli.options()
        options["env"] |= environment
        with log.open("w") as file:
            self.started.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, **options))
        return self.started[-1]

    def end(self) -> None:
        """Ends what a failed test has left running."""
        for process in self.started:
            process.kill()
            process.wait()

    def start_worker(self, index: int, ports: list[int], out: Path, folder: Path) -> subprocess.Popen[str]:
        """Starts a worker with a folder for its temporary files and a log in `folder`."""
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        temporary = folder / f"tmp{index}"
        temporary.mkdir(exist_ok=True)
        command = self.cli.arguments(*self.arguments(out))
        log = folder / f"worker{index}.log"
        return self.start(command, log, TF_CONFIG=json.dumps(config), TMPDIR=str(temporary))

    def start_workers(self, out: Path, folder: Path, ports: list[int] | None = None) -> list[subprocess.Popen[str]]:
        """Starts two workers, on free ports where none are given."""
        ports = ports or free_ports(2)
        return [self.start_worker(index, ports, out, folder) for index in range(2)]

    def supervise(self, workers: list[subprocess.Popen[str]], ports: list[int], out: Path, folder: Path) -> list[int]:
        """Starts each worker again as soon as it ends, until it ends well; returns all exit codes but the last."""
        codes = []
        while any(worker.poll() != 0 for worker in workers):
            for index, worker in enumerate(workers):
                if worker.poll():
                    codes.append(worker.returncode)
                    assert len(codes) < 12, logs(folder)
                    workers[index] = self.start_worker(index, ports, out, folder)
            time.sleep(0.05)
        return codes


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def ends(workers: list[subprocess.Popen[str]]) -> list[int]:
    return [worker.wait(timeout=1200) for worker in workers]


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))


def checkpoints(folder: Path) -> list[Path]:
    """Returns all whole checkpoints below a folder, by number."""
    found = folder.glob("**/checkpoints/**/state.json")
    return sorted((file.parent for file in found if file.parent.name.isdigit()), key=lambda path: int(path.name))


def wait_for_checkpoint(folder: Path, after: int, workers: list[subprocess.Popen[str]], where: Path) -> int:
    """Waits for a checkpoint with a greater number below a folder, and returns it."""
    while True:
        numbers = [int(path.name) for path in checkpoints(folder)]
        if numbers and numbers[-1] > after:
            return numbers[-1]
        assert all(worker.poll() is None for worker in workers), logs(where)
        time.sleep(0.02)


def place(checkpoint: Path) -> tuple[int, int, int]:
    """Returns phase, epoch and step of a checkpoint."""
    state = json.loads((checkpoint / "state.json").read_text())["state"]
    return state["phase"], state["epoch"], state["step"]


def weights(checkpoint: Path) -> dict[str, np.ndarray]:
    """Returns the networks' weights and statistics."""
    reader = tf.train.load_checkpoint(str(checkpoint / "weights"))
    names = [
        name for name in reader.get_variable_to_dtype_map() if name.startswith("trained/") and "optimizer" not in name
    ]
    return {name: reader.get_tensor(name) for name in sorted(names)}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)


@pytest.fixture(scope="module")
def trainings(cli, prepared_folder, tmp_path_factory) -> Iterator[Trainings]:
    trainings = Trainings(cli, prepared_folder(tmp_path_factory.mktemp("prepared") / "data"))
    yield trainings
    trainings.end()


@pytest.fixture(scope="module")
def one_device(trainings, cli, tmp_path_factory) -> Path:
    """The folder of a training on one device."""
    out = tmp_path_factory.mktemp("one") / "out"
    done = cli(*trainings.arguments(out))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def two_workers(trainings, tmp_path_factory) -> Path:
    """The folder of a training by two workers that nothing disturbed."""
    folder = tmp_path_factory.mktemp("two")
    assert ends(trainings.start_workers(folder / "out", folder)) == [0, 0], logs(folder)
    return folder


@pytest.fixture(scope="module")
def two_replicas(trainings, tmp_path_factory) -> Path:
    """The folder of a training on two logical CPUs."""
    folder = tmp_path_factory.mktemp("replicas")
    arguments = trainings.arguments(folder / "out", "--strategy", "mirrored")
    process = trainings.start([sys.executable, "-c", TWO_DEVICES, *arguments], folder / "train.log")
    assert ends([process]) == [0], logs(folder)
    return folder / "out"


def losses(out: Path) -> list[tuple[str, float]]:
    return [loss for entry in read_history(out) for loss in entry["losses"].items()]


def assert_near(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Networks to 1e-4 of their length, half of all tensors to 1e-5; moving statistics to 5e-2 of each.

    One device's fused kernel stores the unbiased variance n / (n - 1), the synchronized form the biased one.
    """
    assert one.keys() == other.keys()
    statistics = {name for name in one if "/moving_" in name}
    differences = {name: length(other[name] - one[name]) / max(length(one[name]), 1e-8) for name in one}
    trained = [name for name in one if name not in statistics]
    apart, whole = total([other[name] - one[name] for name in trained]), total([one[name] for name in trained])
    assert apart < 1e-4 * whole
    assert np.median([differences[name] for name in trained]) < 1e-5
    assert max(differences[name] for name in statistics) < 5e-2


def length(values: np.ndarray) -> float:
    return float(np.linalg.norm(values.astype(np.float64)))


def total(tensors: list[np.ndarray]) -> float:
    return float(np.linalg.norm([length(values) for values in tensors]))


def test_two_replicas_train_as_one_device(one_device, two_replicas):
    assert losses(two_replicas) == [(name, pytest.approx(value, rel=1e-4)) for name, value in losses(one_device)]
    assert_near(weights(checkpoints(one_device)[-1]), weights(checkpoints(two_replicas)[-1]))


def test_two_workers_train_as_one_device(one_device, two_workers):
    out = two_workers / "out"
    assert losses(out) == [(name, pytest.approx(value, rel=1e-4)) for name, value in losses(one_device)]
    assert_near(weights(checkpoints(one_device)[-1]), weights(checkpoints(out)[-1]))


def test_the_chief_alone_tells_and_leaves_something(two_workers):
    chief, other = ((two_workers / f"worker{index}.log").read_text() for index in range(2))
    assert "worker 1 of 2" in chief
    assert "worker 2 of 2" in other
    assert "training: " in chief
    assert "training: " not in other
    (version,) = (two_workers / "out" / "serving_model" / "storygan").iterdir()
    assert f"model      {version}" in chief
    assert len(list((two_workers / "out").glob("work/*/tensorboard/*"))) == 1
    for index in range(2):
        assert list((two_workers / f"tmp{index}").glob("storygan-worker-*")) == []


def test_what_two_workers_export_draws_as_one_devices(one_device, two_workers):
    sentences = [["A red square in place 1.", "A green square in place 1."]]
    one, other = (SavedStoryGAN(out).generate(sentences, seeds=[3]) for out in (one_device, two_workers / "out"))
    assert np.abs(one.astype(int) - other).mean() < 1  # Of 255 grey levels; the moving variances differ somewhat.


def test_a_training_that_has_ended_waits_for_nobody(trainings, two_workers, tmp_path):
    """Started again, one of the workers alone."""
    config = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 1}}
    command = trainings.cli.arguments(*trainings.arguments(two_workers / "out"))
    again = trainings.start(command, tmp_path / "again.log", TF_CONFIG=json.dumps(config))
    assert ends([again]) == [0], logs(tmp_path)
    assert "joining" not in logs(tmp_path)


def test_workers_that_are_stopped_and_killed_and_started_again_end_as_the_undisturbed_ones(
    trainings, two_workers, tmp_path
):
    out = tmp_path / "out"
    workers = trainings.start_workers(out, tmp_path)
    seen = wait_for_checkpoint(out, 1, workers, tmp_path)
    workers[1].send_signal(signal.SIGTERM)
    assert ends(workers) == [TERMINATED, TERMINATED], logs(tmp_path)
    assert "stopped by SIGTERM" in (tmp_path / "worker1.log").read_text()
    saved = checkpoints(out)[-1]
    phase, epoch, step = place(saved)
    assert phase == 0
    where = f"after step {step} of epoch {epoch + 1} of phase 'warm_up'"
    assert f"stopped by a signal to another worker {where}" in (tmp_path / "worker0.log").read_text()
    assert int(saved.name) >= seen

    ports = free_ports(2)
    workers = trainings.start_workers(out, tmp_path, ports)
    wait_for_checkpoint(tmp_path / "tmp1", 0, workers, tmp_path)
    workers[1].kill()
    workers[1].wait()
    time.sleep(1)  # In which the chief finishes what it is writing; it comes no further alone.
    chiefs, others = ({place(path): path for path in checkpoints(folder)} for folder in (out, tmp_path / "tmp1"))
    newest = max(chiefs.keys() & others.keys())
    assert_same(weights(chiefs[newest]), weights(others[newest]))
    # The first to be started again meets the chief that has not noticed yet.
    codes = trainings.supervise(workers, ports, out, tmp_path)
    assert set(codes) == {-signal.SIGKILL, WORKER_LOST}, logs(tmp_path)
    assert_same(weights(checkpoints(two_workers / "out")[-1]), weights(checkpoints(out)[-1]))
    assert losses(out) == losses(two_workers / "out")
