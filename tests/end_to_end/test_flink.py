"""Preparation on a real Flink cluster gives FnApiRunner's records, also where a task manager is killed on the way.

The short form prepares 600 stories twice on the cluster and kills once. `STORYGAN_FLINK=full` kills at several moments,
the first Beam pipeline's among them, and runs the whole TFX pipeline on the cluster, too.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf import records
from storygan_tf.embedded_encoder import embed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("STORYGAN_FLINK") == "full"
MISSING = 3
"""Exit code of the script where Java, Maven or the packages cannot be had."""

PATIENCE = 1500
"""Seconds that a command may take on a machine that has other work to do, too."""

STORIES = {"train": 540, "test": 60}
SIZE = 16
WORDS = 40

SHARES = (0.3, 0.0, 0.6, 0.9) if FULL else (0.3,)
"""Shares of a job's tasks that have ended when a task manager is killed."""


class Cluster:
    """A cluster of `scripts/flink/cluster.py` on a port of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.options: list[str] = []

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = [sys.executable, str(ROOT / "scripts/flink/cluster.py"), *arguments, "--folder", str(self.folder)]
        return subprocess.run(script, capture_output=True, text=True, timeout=600)

    def up(self) -> None:
        done = self.call("up", "--port", str(self.port))
        if done.returncode == MISSING:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
        self.options = done.stdout.strip().splitlines()[-1].partition(" --out OUT ")[2].split()

    def ask(self, path: str) -> dict:
        with urllib.request.urlopen(f"http://localhost:{self.port}/{path}", timeout=30) as answer:
            return json.load(answer)

    def processes(self) -> list[dict]:
        return json.loads((self.folder / "processes.json").read_text())

    def jobs(self) -> dict[str, dict]:
        return {job["jid"]: job for job in self.ask("jobs/overview")["jobs"]}

    def busiest(self) -> int:
        """Returns the process of the task manager that the most slots are taken of."""
        name = min(self.ask("taskmanagers")["taskmanagers"], key=lambda manager: manager["freeSlots"])["id"]
        return next(entry["pid"] for entry in self.processes() if entry["name"] == name)

    def failures(self, job: str) -> list[str]:
        return [entry["exceptionName"] for entry in self.ask(f"jobs/{job}/exceptions")["exceptionHistory"]["entries"]]


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path / "cluster")
    made.up()
    yield made
    made.call("down")


@pytest.fixture(scope="module")
def data(tmp_path_factory, story_folder, story_lines):
    """Stories of words that are not alike in frequency.

    Those of `story_folder` are: by symmetry several directions then have the same variance, and which of them a PCA
    takes depends on the order of a sum.
    """
    folder = story_folder(tmp_path_factory.mktemp("flink") / "data", **STORIES)
    random, chances = np.random.default_rng(0), 1 / np.arange(1, WORDS + 1)
    lines = story_lines(folder).read()
    for line in lines:
        drawn = random.choice(WORDS, [len(line["sentences"]), 5], p=chances / chances.sum())
        line["sentences"] = [" ".join(f"word{word}" for word in row) for row in drawn]
    (folder / "stories.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert_distinct_variances([sentence for line in lines[: STORIES["train"]] for sentence in line["sentences"]])
    return folder


def assert_distinct_variances(sentences: list[str]) -> None:
    """What makes vectors comparable: no two of the directions that are kept, nor the next, are as wide."""
    vectors = embed(tf.constant(sentences)).numpy().astype(np.float64)
    variances = np.linalg.eigvalsh(np.cov(vectors, rowvar=False))[::-1][: SIZE + 1]
    assert (-np.diff(variances) / variances[:-1]).min() > 1e-3


def arguments(data: Path, out: Path, *options: str) -> list[str]:
    return ["prepare", "--data", str(data), "--out", str(out), "--set", f"model.sentence_size={SIZE}", *options]


def complete(running: subprocess.Popen[str]) -> str:
    """Waits until a command ends well, and returns what it printed."""
    try:
        printed, _ = running.communicate(timeout=PATIENCE)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0, printed
    return printed


@pytest.fixture(scope="module")
def expected(data, cli, tmp_path_factory):
    out = tmp_path_factory.mktemp("in_memory") / "prepared"
    complete(cli.start(*arguments(data, out)))
    return prepared(out)


def prepared(out: Path) -> dict[tuple[str, bytes], tuple[dict, np.ndarray]]:
    """Returns every record by its file and story: its features but for the vectors, and these."""
    stories = {}
    for file in sorted(out.glob("Split-*/*.gz")):
        for content in tf.data.TFRecordDataset(str(file), compression_type="GZIP").as_numpy_iterator():
            features = dict(tf.train.Example.FromString(content).features.feature)
            vectors = np.array(features.pop(records.VECTORS).float_list.value, np.float32)
            name = features[records.STORY_ID].bytes_list.value[0]
            assert (str(file.relative_to(out)), name) not in stories
            stories[str(file.relative_to(out)), name] = features, vectors
    return stories


def assert_same(out: Path, expected) -> None:
    found = prepared(out)
    assert list(found) == list(expected)
    for name, (features, vectors) in expected.items():
        assert found[name][0] == features, name
        np.testing.assert_allclose(found[name][1], vectors, atol=1e-4, err_msg=str(name))


def runs(pid: int) -> bool:
    """Tells whether a process runs; one that has ended may still be waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def left_behind(out: Path) -> list[str]:
    return [str(path) for path in out.rglob("*") if re.match(r"beam-temp-|storygan-|writing$|unfinished$", path.name)]


def test_the_records_are_those_of_the_runner_in_memory(cluster, cli, data, expected, tmp_path):
    assert len(expected) == sum(STORIES.values())
    printed = complete(cli.start(*arguments(data, tmp_path / "out", *cluster.options)))
    assert printed.splitlines()[:3] == ["[1/2] examples", "[2/2] vectors", "stories    600 of 600: 540 train, 60 test"]
    assert len(cluster.jobs()) == 2
    assert {job["state"] for job in cluster.jobs().values()} == {"FINISHED"}
    assert_same(tmp_path / "out", expected)
    assert left_behind(tmp_path / "out") == []
    processes = [entry["pid"] for entry in cluster.processes()]
    assert cluster.call("down").returncode == 0
    assert list(filter(runs, processes)) == []


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("number", [1, 0] if FULL else [1])
def test_a_killed_task_manager_changes_nothing(cluster, cli, data, expected, tmp_path, number, share):
    running = cli.start(*arguments(data, tmp_path / "out", *cluster.options))
    try:
        job = wait_for_job(cluster, running, number, share)
        os.kill(cluster.busiest(), signal.SIGKILL)
    except BaseException:
        running.kill()
        raise
    complete(running)
    assert cluster.failures(job), "the job ended before it noticed"
    assert cluster.ask("overview")["taskmanagers"] == 1
    assert_same(tmp_path / "out", expected)
    assert left_behind(tmp_path / "out") == []


def wait_for_job(cluster: Cluster, running: subprocess.Popen[str], number: int, share: float) -> str:
    """Returns the id of the job of this number, when so much of it has ended that a kill meets it on the way."""
    while running.poll() is None:
        jobs = sorted(cluster.jobs().values(), key=lambda job: job["start-time"])
        if len(jobs) > number and jobs[number]["state"] == "RUNNING":
            tasks = jobs[number]["tasks"]
            if tasks["running"] and tasks["finished"] >= share * tasks["total"]:
                return jobs[number]["jid"]
        time.sleep(0.05)
    raise AssertionError(f"the job ended first: {running.stdout.read()}")


@pytest.mark.skipif(not FULL, reason="STORYGAN_FLINK=full")
def test_the_whole_pipeline_runs_on_it(cluster, cli, story_folder, tmp_path):
    data = story_folder(tmp_path / "data", train=10, test=4)
    complete(cli.start(*cli.tiny_run(data, tmp_path / "run"), *cluster.options))
    assert len(cluster.jobs()) >= 4
    assert len(list((tmp_path / "run/serving_model/storygan").iterdir())) == 1
    assert left_behind(tmp_path / "run") == []
