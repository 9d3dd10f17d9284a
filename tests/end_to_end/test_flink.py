"""Preparation on a real Flink cluster writes the records of FnApiRunner, even if a task manager is killed.

By default 600 stories are prepared on a cluster of pods, one of which is lost meanwhile. With `STORYGAN_FLINK=full`
that cluster also draws pictures and runs a step of a compiled pipeline. Then, on a cluster of plain processes, task
managers are killed at several moments of both Beam pipelines, and the whole TFX pipeline runs.
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
import yaml
from flink.pod_cluster import TASK_MANAGERS, MissingError, PodCluster

from pipeline.cluster import kubeflow
from pipeline.cluster.cluster_settings import CompileRequest, split_assignments
from storygan_tf.config import presets
from storygan_tf.data import example_schema
from storygan_tf.text.hashed_ngram_encoder import embed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("STORYGAN_FLINK") == "full"
MISSING = 3
"""Exit code of the script if Java, Maven or the packages are not available."""

PATIENCE = 1500
"""Most seconds that a command may take, on a busy machine."""

STORIES = {"train": 540, "test": 60}
SIZE = 16
WORDS = 40

full = pytest.mark.skipif(not FULL, reason="STORYGAN_FLINK=full")

SHARES = (0.3, 0.0, 0.6, 0.9)
"""Fractions of the tasks of a job that have ended when a task manager is killed."""


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
        return subprocess.run(script, capture_output=True, text=True, timeout=1700)

    def up(self) -> None:
        done = self.call("up", "--port", str(self.port))
        if done.returncode == MISSING:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
        self.options = done.stdout.strip().splitlines()[-1].partition(" --out OUT ")[2].split()

    def query(self, path: str) -> dict:
        with urllib.request.urlopen(f"http://localhost:{self.port}/{path}", timeout=30) as response:
            return json.load(response)

    def processes(self) -> list[dict]:
        return json.loads((self.folder / "processes.json").read_text())

    def busiest(self) -> int:
        """Returns the process id of the task manager with the most occupied slots."""
        name = min(self.query("taskmanagers")["taskmanagers"], key=lambda manager: manager["freeSlots"])["id"]
        return next(entry["pid"] for entry in self.processes() if entry["name"] == name)


def jobs(cluster: Cluster | PodCluster) -> list[dict]:
    """Returns the jobs in the order in which they started."""
    return sorted(cluster.query("jobs/overview")["jobs"], key=lambda job: job["start-time"])


def failures(cluster: Cluster | PodCluster, job: str) -> list[str]:
    return [entry["exceptionName"] for entry in cluster.query(f"jobs/{job}/exceptions")["exceptionHistory"]["entries"]]


def records_read(cluster: PodCluster, job: str) -> dict[str, int]:
    """Returns the number of records that the tasks of a job read on each task manager."""
    read = dict.fromkeys(TASK_MANAGERS, 0)
    for vertex in cluster.query(f"jobs/{job}")["vertices"]:
        for manager in cluster.query(f"jobs/{job}/vertices/{vertex['id']}/taskmanagers")["taskmanagers"]:
            read[manager["taskmanager-id"]] += manager["metrics"]["read-records"]
    return read


@pytest.fixture
def pods(tmp_path):
    try:
        with PodCluster(tmp_path / "pods") as running:
            yield running
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def cluster(tmp_path):
    running = Cluster(tmp_path / "cluster")
    running.up()
    yield running
    running.call("down")


@pytest.fixture(scope="module")
def data(tmp_path_factory, story_folder, story_lines):
    """Returns a folder of stories whose words have different frequencies.

    The words of `story_folder` have equal frequencies. By symmetry, several directions then have the same variance, and
    the order of a sum decides which of them a PCA takes.
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
    """Asserts that the PCA is unique: the directions that it keeps, and the next one, have different variances."""
    vectors = embed(tf.constant(sentences)).numpy().astype(np.float64)
    variances = np.linalg.eigvalsh(np.cov(vectors, rowvar=False))[::-1][: SIZE + 1]
    assert (-np.diff(variances) / variances[:-1]).min() > 1e-3


def arguments(data: Path, out: Path, *options: str) -> list[str]:
    return ["prepare", "--data", str(data), "--out", str(out), "--set", f"model.sentence_size={SIZE}", *options]


def complete(running: subprocess.Popen[str]) -> str:
    """Waits until a command succeeds, and returns its output."""
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
    """Returns the features and the vectors of every record, by its file and story id; features exclude the vectors."""
    stories = {}
    for file in sorted(out.glob("Split-*/*.gz")):
        for content in tf.data.TFRecordDataset(str(file), compression_type="GZIP").as_numpy_iterator():
            features = dict(tf.train.Example.FromString(content).features.feature)
            vectors = np.array(features.pop(example_schema.VECTORS).float_list.value, np.float32)
            name = features[example_schema.STORY_ID].bytes_list.value[0]
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
    """Returns whether a process runs; one that has ended may remain as a zombie until its parent collects it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def left_behind(out: Path) -> list[str]:
    return [str(path) for path in out.rglob("*") if re.match(r"beam-temp-|storygan-|writing$|unfinished$", path.name)]


def start_in_pod(pods: PodCluster, cli, *command: object) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return pods.client(cli.arguments(*command), stdout=pipe, stderr=subprocess.STDOUT, **cli.options())


def test_pods_write_the_records_of_the_runner_in_memory_even_if_one_is_lost(pods, cli, data, expected, tmp_path):
    assert len(expected) == sum(STORIES.values())
    running = start_in_pod(pods, cli, *arguments(data, tmp_path / "out", *pods.options()))
    job = wait_for_job(pods, running, 1, 0.3)
    pods.lose(TASK_MANAGERS[0])
    complete(running)
    first, second, *_ = jobs(pods)
    assert min(records_read(pods, first["jid"]).values()) > 0
    assert (first["state"], second["jid"]) == ("FINISHED", job)
    assert failures(pods, job), "the job ended before the loss had an effect"
    assert_same(tmp_path / "out", expected)
    assert left_behind(tmp_path / "out") == []
    processes = [process.pid for process in pods.processes()]
    pods.down()
    assert list(filter(runs, processes)) == []


@full
def test_pods_draw_the_pictures_of_the_runner_in_memory(pods, cli, data, tmp_path):
    lines = (data / "stories.jsonl").read_text().splitlines(keepends=True)[:64]
    (tmp_path / "stories.jsonl").write_text("".join(lines))
    command = ["batch", "--model", "blocks", "--input", tmp_path / "stories.jsonl", "--batch-size", 8, "--output"]
    complete(cli.start(*command, tmp_path / "here"))
    complete(start_in_pod(pods, cli, *command, tmp_path / "there", *pods.options()))
    expected, found = (
        {path.name: path.read_bytes() for path in (tmp_path / place / "images").rglob("*.png")}
        for place in ("here", "there")
    )
    assert len(expected) == sum(len(json.loads(line)["sentences"]) for line in lines)
    assert found == expected
    assert sum(records_read(pods, jobs(pods)[0]["jid"]).values()) > 0


@full
def test_a_compiled_step_in_a_pod_runs_on_the_cluster(pods, cli, data, tmp_path):
    beam = [part.removeprefix("--beam=") for part in pods.options() if part.startswith("--beam=")]
    step = f"cluster.steps.StoryExampleGen.beam={json.dumps(['--runner=PortableRunner', *beam])}"
    cluster_settings, _ = split_assignments([step])
    settings = presets.load("quick")
    kubeflow.compile(
        CompileRequest("example/storygan:1", str(data), str(tmp_path), settings, cluster_settings),
        tmp_path / "pipeline.yaml",
    )
    complete(
        pods.client(
            first_step(tmp_path / "pipeline.yaml", tmp_path / "step"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **cli.options(),
        )
    )
    assert [job["state"] for job in jobs(pods)] == ["FINISHED"]
    output = json.loads((tmp_path / "step/executor_output.json").read_text())
    (examples,) = output["artifacts"]["examples"]["artifacts"]
    found = [
        name
        for file in Path(examples["uri"]).glob("Split-*/*.gz")
        for name in tf.data.TFRecordDataset(str(file), compression_type="GZIP").as_numpy_iterator()
    ]
    assert len(found) == sum(STORIES.values())


def first_step(pipeline: Path, folder: Path) -> list[str]:
    """Returns the command of the container of StoryExampleGen, with the message that Kubeflow would pass."""
    spec, *_ = yaml.safe_load_all(pipeline.read_text())
    defaults = spec["root"]["inputDefinitions"]["parameters"]
    values = {
        name: defaults[given["componentInputParameter"]].get("defaultValue")
        if "componentInputParameter" in given
        else given["runtimeValue"]["constant"]
        for name, given in spec["root"]["dag"]["tasks"]["StoryExampleGen"]["inputs"]["parameters"].items()
    }
    outputs = spec["components"]["StoryExampleGen"]["outputDefinitions"]["artifacts"]
    message = {
        "inputs": {"parameterValues": values},
        "outputs": {
            "artifacts": {name: {"artifacts": [{"name": name, "uri": str(folder / name)}]} for name in outputs},
            "outputFile": str(folder / "executor_output.json"),
        },
    }
    container = spec["deploymentSpec"]["executors"]["StoryExampleGen_executor"]["container"]
    program, *others = [
        part.replace("{{$}}", json.dumps(message)) for part in (*container["command"], *container["args"])
    ]
    assert program == "python"
    return [sys.executable, *others]


@full
def test_the_records_are_those_of_the_runner_in_memory(cluster, cli, data, expected, tmp_path):
    printed = complete(cli.start(*arguments(data, tmp_path / "out", *cluster.options)))
    assert printed.splitlines()[:3] == [
        "[1/2] examples",
        "[2/2] vectors",
        "stories    600 of 600: 513 train, 27 val, 60 test",
    ]
    assert [job["state"] for job in jobs(cluster)] == ["FINISHED", "FINISHED"]
    assert_same(tmp_path / "out", expected)
    assert left_behind(tmp_path / "out") == []
    processes = [entry["pid"] for entry in cluster.processes()]
    assert cluster.call("down").returncode == 0
    assert list(filter(runs, processes)) == []


@full
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("number", [1, 0])
def test_a_killed_task_manager_changes_nothing(cluster, cli, data, expected, tmp_path, number, share):
    running = cli.start(*arguments(data, tmp_path / "out", *cluster.options))
    try:
        job = wait_for_job(cluster, running, number, share)
        os.kill(cluster.busiest(), signal.SIGKILL)
    except BaseException:
        running.kill()
        raise
    complete(running)
    assert failures(cluster, job), "the job ended before the kill had an effect"
    assert cluster.query("overview")["taskmanagers"] == 1
    assert_same(tmp_path / "out", expected)
    assert left_behind(tmp_path / "out") == []


def wait_for_job(cluster: Cluster | PodCluster, running: subprocess.Popen[str], number: int, share: float) -> str:
    """Waits until a fraction `share` of the tasks of job `number` has ended and others run, and returns its id."""
    while running.poll() is None:
        found = jobs(cluster)
        if len(found) > number and found[number]["state"] == "RUNNING":
            tasks = found[number]["tasks"]
            if tasks["running"] and tasks["finished"] >= share * tasks["total"]:
                return found[number]["jid"]
        time.sleep(0.2)
    raise AssertionError(f"the job ended first: {running.stdout.read()}")


@full
def test_the_whole_pipeline_runs_on_flink(cluster, cli, story_folder, tmp_path):
    data = story_folder(tmp_path / "data", train=10, test=4)
    complete(cli.start(*cli.tiny_run(data, tmp_path / "run"), *cluster.options))
    assert len(jobs(cluster)) >= 4
    assert len(list((tmp_path / "run/serving_model/storygan").iterdir())) == 1
    assert left_behind(tmp_path / "run") == []
