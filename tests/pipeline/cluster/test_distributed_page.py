"""`docs/distributed.md`: its command compiles, and its manifests say the same as what it compiles.

Kubernetes' own kinds, and pods within others, are checked against its published schemas; TrainJob, TrainingRuntime and
TFJob against the fields that the page uses. What their controllers do was read in their sources, and is run nowhere.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import shlex
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from storygan_cli.main import app
from storygan_tf.training.distribution import find_worker
from storygan_tf.training.indexed_job import tf_config

KUBERNETES = "1.31"
PAGE = (Path(__file__).parents[3] / "docs/distributed.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def shown() -> dict[str, dict]:
    """Returns the manifests on the page by their kinds."""
    return {document["kind"]: document for block in blocks("yaml") for document in yaml.safe_load_all(block)}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict:
    """Returns the Job that the command on the page compiles."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    (command,) = (line for line in lines if line.startswith("storygan compile"))
    out = tmp_path_factory.mktemp("page") / "job.yaml"
    arguments = [str(out) if part == "job.yaml" else part for part in shlex.split(command)[1:]]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    _, job = yaml.safe_load_all(out.read_text())
    return job


def pod_of(document: dict) -> dict:
    return document["spec"]["template"]["spec"]


def test_the_page_has_the_job_that_compiling_writes(compiled):
    follow = f"--max-log-requests={compiled['spec']['completions']} --selector batch.kubernetes.io/job-name="
    assert follow + compiled["metadata"]["name"] in PAGE


def container_of(pod: dict) -> dict:
    (only,) = pod["containers"]
    return only


def validate_pod(pod: dict) -> None:
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "storygan"}, "spec": pod}
    kubernetes_validate.validate(whole, KUBERNETES, strict=True)


def without(values: dict, *names: str) -> dict:
    return {name: value for name, value in values.items() if name not in names}


def runtime_job(shown: dict[str, dict]) -> dict:
    """Returns the Job in the TrainingRuntime."""
    (replicated,) = shown["TrainingRuntime"]["spec"]["template"]["spec"]["replicatedJobs"]
    return replicated


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "Job"])
def test_kubernetes_kinds_follow_its_schemas(shown, kind):
    kubernetes_validate.validate(shown[kind], KUBERNETES, strict=True)


def test_stories_are_prepared_where_training_looks_for_them(shown, compiled):
    prepare = pod_of(shown["Job"])
    render, command = prepare["initContainers"][0]["command"], container_of(prepare)["command"]
    assert render[-1] == command[command.index("--data") + 1]
    trained = container_of(pod_of(compiled))["args"]
    assert command[command.index("--out") + 1] == trained[trained.index("--data") + 1]
    for given in (render, command):
        for option in (part for part in given if part.startswith("--")):
            assert option in CliRunner().invoke(app, [*command_of(given), "--help"]).output


def command_of(given: list[str]) -> list[str]:
    """Returns the names of a command of `storygan`, without its options."""
    return list(itertools.takewhile(lambda part: not part.startswith("--"), given[1:]))


def test_the_training_runtimes_pods_are_those_of_the_job(shown, compiled):
    replicated = runtime_job(shown)
    assert shown["TrainingRuntime"]["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
    assert replicated["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "node"}}
    kubernetes_validate.validate(job | {"spec": replicated["template"]["spec"]}, KUBERNETES, strict=True)
    spec = copy.deepcopy(replicated["template"]["spec"])
    for rule in spec["podFailurePolicy"]["rules"]:
        if "onExitCodes" in rule:
            assert rule["onExitCodes"].pop("containerName") == container_of(spec["template"]["spec"])["name"] == "node"
    expected = copy.deepcopy(compiled["spec"])
    for rule in expected["podFailurePolicy"]["rules"]:
        rule.get("onExitCodes", {}).pop("containerName", None)
    assert spec["podFailurePolicy"] == expected["podFailurePolicy"]
    assert spec["backoffLimit"] == expected["backoffLimit"]
    pod, of_job = spec["template"]["spec"], expected["template"]["spec"]
    assert without(pod, "containers") == without(of_job, "containers", "subdomain")
    of_train_job = ("command", "args", "env", "resources", "name")
    assert without(container_of(pod), "name") == without(container_of(of_job), *of_train_job)


def test_a_train_job_runs_the_jobs_command(shown, compiled):
    job, worker = shown["TrainJob"], container_of(pod_of(compiled))
    assert job["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
    runtime = shown["TrainingRuntime"]["metadata"]["name"]
    assert job["spec"]["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org",
        "kind": "TrainingRuntime",
        "name": runtime,
    }
    trainer = job["spec"]["trainer"]
    assert trainer["numNodes"] == compiled["spec"]["completions"]
    assert trainer["resourcesPerNode"] == worker["resources"]
    assert {name: trainer[name] for name in ("image", "command", "args")} == {
        name: worker[name] for name in ("image", "command", "args")
    }
    assert set(trainer) == {"numNodes", "image", "command", "args", "env", "resourcesPerNode"}


def test_a_train_jobs_pods_find_each_other_by_the_names_that_it_gives_them(shown, compiled):
    job = shown["TrainJob"]
    variables = {entry["name"]: entry["value"] for entry in job["spec"]["trainer"]["env"]}
    of_job = {entry["name"]: entry["value"] for entry in container_of(pod_of(compiled))["env"]}
    assert variables.keys() == of_job.keys()
    cluster = json.loads(tf_config(variables | {"JOB_COMPLETION_INDEX": "0"}))["cluster"]
    name, node = job["metadata"]["name"], runtime_job(shown)["name"]
    (port,) = container_of(runtime_job(shown)["template"]["spec"]["template"]["spec"])["ports"]
    # JobSet's host names, of the first and only replica of `node`; its service is called as it is itself.
    assert cluster == {"worker": [f"{name}-{node}-0-{index}.{name}:{port['containerPort']}" for index in range(2)]}


def test_a_tf_jobs_pods_are_those_of_the_job(shown, compiled):
    job = shown["TFJob"]
    assert job["apiVersion"] == "kubeflow.org/v1"
    assert set(job["spec"]) == {"successPolicy", "runPolicy", "tfReplicaSpecs"}
    workers = job["spec"]["tfReplicaSpecs"]["Worker"]
    assert workers["replicas"] == compiled["spec"]["completions"]
    pod, expected = workers["template"]["spec"], pod_of(compiled)
    validate_pod(pod)
    assert without(pod, "containers") == without(expected, "containers", "subdomain", "restartPolicy")
    worker = container_of(pod)
    assert worker["name"] == "tensorflow"  # the operator identifies the container by this name
    assert worker["ports"] == [{"name": "tfjob-port", "containerPort": 2222}]
    assert without(worker, "name", "ports") == without(container_of(expected), "name", "ports", "env")


def test_what_the_training_operator_sets_is_understood():
    addresses = [f"storygan-train-worker-{index}.default.svc:2222" for index in range(2)]
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 1}, "environment": "cloud"}
    worker = find_worker({"TF_CONFIG": json.dumps(config)})
    assert (worker.count, worker.number, worker.chief) == (2, 1, addresses[0])
