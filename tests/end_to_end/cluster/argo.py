"""An Argo workflow without a cluster: each template's container command as a process, in the order of the DAG.

Done as Argo does: parameters are put into templates, of which none may be left; a step starts when those that it
depends on have succeeded; one that fails is run again as its `retryStrategy` says, at once; variables come from the
pod's labels, secrets and config maps; artifacts are read after the step. Not done: images (Python and the sources stand
for them), volumes (they must be at the same path here), resources and tolerations.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RUNNING = "Going to run a new execution"
CACHED = "A cached execution"


@dataclasses.dataclass
class Attempt:
    """How a container ended."""

    code: int
    log: str

    @property
    def cached(self) -> bool:
        return CACHED in self.log


@dataclasses.dataclass
class Argo:
    """Runs workflows.

    Attributes:
        folder: for what containers have of their own.
        code: the sources that stand for the image.
        config_maps: name -> variables.
        secrets: name -> values.
        kill: steps whose first container is killed while it works.
    """

    folder: Path
    code: Path
    config_maps: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    kill: tuple[str, ...] = ()

    def run(
        self, workflow: dict[str, Any], name: str, steps: tuple[str, ...] = (), **parameters: str
    ) -> dict[str, list[Attempt]]:
        """Runs a workflow and returns each step's attempts; ends after the first step that did not succeed.

        Args:
            workflow: the content of the file.
            name: of the workflow; each has its own.
            steps: names of templates that are run; all by default.
            parameters: in place of the workflow's own.
        """
        arguments = {given["name"]: given["value"] for given in workflow["spec"]["arguments"]["parameters"]}
        assert set(parameters) <= set(arguments)
        templates = {template["name"]: template for template in workflow["spec"]["templates"]}
        entry = templates[workflow["spec"]["entrypoint"]]
        dag = resolve(entry, arguments | parameters)["dag"]
        attempts: dict[str, list[Attempt]] = {}
        for task in ordered(dag["tasks"]):
            if steps and task["name"] not in steps:
                continue
            template, given = templates[task["template"]], task["arguments"]["parameters"]
            attempts[task["name"]] = self._step(template, name, {one["name"]: one["value"] for one in given})
            if attempts[task["name"]][-1].code:
                break
        return attempts

    def _step(self, template: dict[str, Any], workflow: str, given: dict[str, str]) -> list[Attempt]:
        assert {one["name"] for one in template["inputs"]["parameters"]} == set(given)
        template = resolve(template, given)
        tries, attempts = 1 + int(template.get("retryStrategy", {}).get("limit", 0)), []
        while len(attempts) < tries and (not attempts or attempts[-1].code):
            attempts.append(self._container(template, workflow, len(attempts)))
        return attempts

    def _container(self, template: dict[str, Any], workflow: str, number: int) -> Attempt:
        pod = f"{workflow}-{template['name']}-{number}"
        own = self.folder / pod
        own.mkdir(parents=True)
        container, command = template["container"], [*template["container"]["command"], *template["container"]["args"]]
        artifacts = {
            artifact["path"]: own / Path(artifact["path"]).name for artifact in template["outputs"]["artifacts"]
        }
        # A container has a /tmp of its own.
        command = [str(artifacts.get(part, part)) for part in command]
        assert max(map(len, command)) < 128 * 1024, "Linux takes no longer argument"
        with (own / "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=own, env=self._environment(container, template, workflow, pod), stdout=log, stderr=log
            )
            try:
                if template["name"] in self.kill and number == 0:
                    kill_at_work(process, own / "log")
                code = process.wait(500)
            finally:
                process.kill()
        if code == 0:
            for path in artifacts.values():
                assert json.loads(path.read_text())["outputs"]
        return Attempt(code, (own / "log").read_text())

    def _environment(
        self, container: dict[str, Any], template: dict[str, Any], workflow: str, pod: str
    ) -> dict[str, str]:
        fields = {
            "metadata.name": pod,
            "metadata.uid": pod,
            "metadata.namespace": "kubeflow",
            "metadata.labels['workflows.argoproj.io/workflow']": workflow,
            "metadata.labels['pipeline/runid']": workflow,
        }
        fields |= {f"metadata.labels['{key}']": value for key, value in template["metadata"]["labels"].items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "PYTHONPATH": str(self.code), "HOME": str(self.folder)}
        for source in container.get("envFrom", ()):
            environment |= self.config_maps[source["configMapRef"]["name"]]
        for variable in container.get("env", ()):
            source = variable.get("valueFrom", {})
            if "fieldRef" in source:
                environment[variable["name"]] = fields[source["fieldRef"]["fieldPath"]]
            elif "secretKeyRef" in source:
                environment[variable["name"]] = self.secrets[source["secretKeyRef"]["name"]][
                    source["secretKeyRef"]["key"]
                ]
            else:
                environment[variable["name"]] = variable["value"]
        return environment


def kill_at_work(process: subprocess.Popen[bytes], log: Path) -> None:
    """Kills a step's process when its executor has begun."""
    while process.poll() is None and RUNNING not in log.read_text():
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)


def resolve(template: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    """Puts parameters into a template's JSON, as Argo does."""

    def value(match: re.Match[str]) -> str:
        return json.dumps(parameters[match[1].removeprefix("inputs.parameters.")])[1:-1]

    return json.loads(re.sub(r"\{\{(.*?)\}\}", value, json.dumps(template)))


def ordered(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields tasks after those that they depend on."""
    done: set[str] = set()
    while waiting := [task for task in tasks if task["name"] not in done]:
        task = next(task for task in waiting if set(task.get("dependencies", ())) <= done)
        yield task
        done.add(task["name"])
