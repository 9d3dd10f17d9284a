"""Runs compiled pipelines without a cluster: each step's container command as a process, with a launcher's message.

The class `Launcher` replaces the launchers of Vertex and of Kubeflow Pipelines 2, whose messages say less about
artifacts. It is not a cluster: nothing is cached, no image is started, and artifacts are in local folders. In the short
form all steps run with messages of Kubeflow, in processes forked from one that has imported the third-party packages,
and the first two with messages of Vertex, each in a new Python. `make prove-cluster` runs all steps with both, each in
a new Python.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked_python import ForkedProcess, ForkedPython

from pipeline.cluster import kubeflow, vertex
from pipeline.cluster.cluster_settings import CompileRequest, split_assignments
from storygan_tf.config import presets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if os.environ.get("STORYGAN_CLUSTER") else 1800)]

REPOSITORY = Path(__file__).parents[3]
FULL = os.environ.get("STORYGAN_CLUSTER") == "full"


@dataclasses.dataclass
class Launcher:
    """Runs the tasks of a specification one after the other.

    Attributes:
        spec: the PipelineSpec.
        folder: folder for artifacts, messages and logs.
        with_types: whether the artifacts in messages have TFX's types, as on Vertex. Otherwise they are as on Kubeflow
            2: outputs have an empty schema and inputs no type.
        python: where to fork the processes of `python` from; None starts a new Python for each.
        values: values of runtime parameters, instead of their defaults.
        kill: functions by step that return whether to kill the first attempt now.
        artifacts: the artifacts that steps wrote, by step and output.
        attempts: exit codes of all attempts, by step.
        errors: the log of the last attempt, by step.
    """

    spec: dict[str, Any]
    folder: Path
    with_types: bool
    python: ForkedPython | None = None
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    kill: dict[str, Callable[[], bool]] = dataclasses.field(default_factory=dict)
    artifacts: dict[tuple[str, str], dict] = dataclasses.field(default_factory=dict)
    attempts: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    errors: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def tasks(self) -> dict[str, Any]:
        return self.spec["root"]["dag"]["tasks"]

    def order(self) -> Iterator[str]:
        """Yields the tasks, each after those that it depends on."""
        waiting = dict(self.tasks)
        while waiting:
            ready = [name for name, task in waiting.items() if not set(task.get("dependentTasks", ())) & set(waiting)]
            assert ready, f"tasks {list(waiting)} wait for each other"
            for name in ready:
                yield name
                del waiting[name]

    def run(self, steps: list[str] | None = None) -> None:
        for name in self.order():
            if steps is None or name in steps:
                self._run_task(name)

    def _run_task(self, name: str) -> None:
        output_file = self.folder / "messages" / name / "executor_output.json"
        given = self.executor_input(name, output_file)
        retries = int(self.tasks[name].get("retryPolicy", {}).get("maxRetryCount", 0))
        for attempt in range(1 + retries):
            code = self._attempt(name, given, self.kill.get(name) if attempt == 0 else None)
            self.attempts.setdefault(name, []).append(code)
            if code == 0:
                self._keep_outputs(name, given, json.loads(output_file.read_text()))
                return
        raise AssertionError(f"{name} ended with {self.attempts[name]}:\n{self.errors[name][-3000:]}")

    def _attempt(self, name: str, given: dict, when_to_kill: Callable[[], bool] | None) -> int:
        container = self.spec["deploymentSpec"]["executors"][f"{name}_executor"]["container"]
        command = [part.replace("{{$}}", json.dumps(given)) for part in (*container["command"], *container["args"])]
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
        }
        errors = self.folder / "logs" / name
        errors.parent.mkdir(parents=True, exist_ok=True)
        with errors.open("wb") as log:
            process = self._start(command, environment, log.fileno())
            try:
                while when_to_kill and process.poll() is None and not when_to_kill():
                    time.sleep(0.02)
                if when_to_kill:
                    process.kill()
                code = process.wait(timeout=900)
            finally:
                process.kill()
                process.wait()
        self.errors[name] = errors.read_text()
        return code

    def _start(
        self, command: list[str], environment: dict[str, str], log: int
    ) -> subprocess.Popen[bytes] | ForkedProcess:
        if not self.python:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        program, *arguments = command
        assert program == "python"
        return self.python.start(arguments, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def executor_input(self, name: str, output_file: Path) -> dict:
        task, component = self.tasks[name], self.spec["components"][self.tasks[name]["componentRef"]["name"]]
        parameters = {key: self._value(given) for key, given in task["inputs"].get("parameters", {}).items()}
        old = self.spec["schemaVersion"] == "2.0.0"
        given_artifacts = {}
        for key, given in task["inputs"].get("artifacts", {}).items():
            source = given["taskOutputArtifact"]
            artifact = self.artifacts[source["producerTask"], source["outputArtifactKey"]]
            given_artifacts[key] = {"artifacts": [artifact if self.with_types else artifact | {"type": None}]}
        outputs = {
            key: {"artifacts": [self._new_artifact(name, key, given)]}
            for key, given in component["outputDefinitions"]["artifacts"].items()
        }
        return {
            "inputs": {"parameters" if old else "parameterValues": parameters, "artifacts": given_artifacts},
            "outputs": {"artifacts": outputs, "outputFile": str(output_file)},
        }

    def _value(self, given: dict) -> Any:
        if "componentInputParameter" in given:
            name = given["componentInputParameter"]
            defaults = self.spec["root"]["inputDefinitions"]["parameters"]
            value = self.values.get(name, defaults[name].get("defaultValue"))
            return {"stringValue": value} if self.spec["schemaVersion"] == "2.0.0" else value
        constant = given["runtimeValue"]
        return constant["constant"] if "constant" in constant else constant["constantValue"]

    def _new_artifact(self, task: str, key: str, given: dict) -> dict:
        uri = self.folder / "artifacts" / task / key
        kind = given["artifactType"]
        if self.with_types:
            return {"name": f"projects/1/metadataStores/default/artifacts/{task}-{key}", "uri": str(uri), "type": kind}
        assert kind["schemaTitle"].startswith("system.")
        return {"name": key, "uri": str(uri), "type": {"instanceSchema": ""}, "metadata": given.get("metadata", {})}

    def _keep_outputs(self, name: str, given: dict, output: dict) -> None:
        """Keeps the artifacts of a step, with the metadata that the step wrote."""
        for key, listed in given["outputs"]["artifacts"].items():
            (artifact,), (written,) = listed["artifacts"], output["artifacts"][key]["artifacts"]
            assert written["uri"] == artifact["uri"]
            assert Path(artifact["uri"]).is_dir(), f"{name} wrote no {key}"
            self.artifacts[name, key] = artifact | {
                "metadata": artifact.get("metadata", {}) | written.get("metadata", {})
            }


@pytest.fixture(scope="module")
def data(tmp_path_factory, story_folder) -> Path:
    return story_folder(tmp_path_factory.mktemp("stories") / "data", train=10, test=4)


def request_of(data: Path, root: str, cli: Any, *assignments: str) -> CompileRequest:
    tiny = [setting for setting in cli.tiny_settings() if setting != "--set"]
    cluster, others = split_assignments([*tiny, *assignments])
    return CompileRequest("example/storygan:1", str(data), root, presets.load("quick").override(others), cluster)


def has_saved_an_epoch(work: Path) -> bool:
    for path in work.glob("*/checkpoints/[0-9]*/state.json"):
        with contextlib.suppress(OSError, ValueError):  # the checkpoint is being replaced
            if json.loads(path.read_text())["state"]["history"]:
                return True
    return False


def check_pushed(serving: Path, launcher: Launcher, data: Path, draw_elsewhere: Callable) -> None:
    (version,) = serving.iterdir()
    assert launcher.artifacts["StoryEvaluator", "blessing"]["metadata"]["blessed"] == 1
    assert launcher.artifacts["Pusher", "pushed_model"]["metadata"]["pushed"] == 1
    story = json.loads((data / "stories.jsonl").read_text().splitlines()[0])
    assert draw_elsewhere(version, story["sentences"])[0] == str([[64, 64, 3]] * 4)


def test_all_steps_run_as_kubeflow_starts_them_and_one_that_is_killed_runs_again(
    data, tmp_path, cli, forked_python, draw_elsewhere, steps
):
    root = tmp_path / "root"
    kubeflow.compile(request_of(data, str(root), cli), tmp_path / "pipeline.yaml")
    (spec,) = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    kill = {"Trainer": lambda: has_saved_an_epoch(root / "work")}
    values, python = {"training_json": '{"seed": 7}'}, None if FULL else forked_python
    launcher = Launcher(spec, tmp_path, with_types=False, python=python, values=values, kill=kill)
    launcher.run()
    assert set(launcher.attempts) == set(steps)
    assert launcher.attempts.pop("Trainer") == [-signal.SIGKILL, 0]
    assert "training: 1/3 epochs" not in launcher.errors["Trainer"]
    assert "training: 3/3 epochs" in launcher.errors["Trainer"]
    assert all(codes == [0] for codes in launcher.attempts.values())
    check_pushed(root / "serving", launcher, data, draw_elsewhere)
    lineage = json.loads((Path(launcher.artifacts["StoryEvaluator", "evaluation"]["uri"]) / "lineage.json").read_text())
    assert lineage["settings"]["training"]["seed"] == 7
    assert lineage["settings"]["evaluation"]["replicates"] == 40


@pytest.mark.parametrize("version", ["2.0.0", pytest.param("2.1.0", marks=() if FULL else pytest.mark.skip("full"))])
def test_steps_run_as_vertex_starts_them(data, tmp_path, cli, draw_elsewhere, version, steps):
    places = [f"cluster.serving={tmp_path}/serving", f"cluster.work={tmp_path}/work", f"cluster.schema={version}"]
    vertex.compile(request_of(data, "gs://bucket/storygan", cli, *places), tmp_path / "job.json")
    job = json.loads((tmp_path / "job.json").read_text())
    parameters = job["runtimeConfig"].get("parameters") or job["runtimeConfig"]["parameterValues"]
    values = {name: value["stringValue"] if isinstance(value, dict) else value for name, value in parameters.items()}
    launcher = Launcher(job["pipelineSpec"], tmp_path, with_types=True, values=values)
    expected = steps if FULL else steps[:2]
    launcher.run(expected)
    assert launcher.attempts == {step: [0] for step in expected}
    assert launcher.artifacts["StatisticsGen", "statistics"]["metadata"]["split_names"] == '["train", "test"]'
    if FULL:
        check_pushed(tmp_path / "serving", launcher, data, draw_elsewhere)
