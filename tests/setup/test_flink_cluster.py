"""The scripts of the Flink cluster: their errors, that they stop only their own processes, and the manifest."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from flink.cluster import CONFIGURATION
from flink.pod_cluster import ENVIRONMENT, POOL

ROOT = Path(__file__).parents[2]
SCRIPT = "scripts/flink/cluster.py"
MISSING = 3


def cluster(machine, *arguments, **environment):
    return machine.run(sys.executable, SCRIPT, *arguments, **environment)


def create_flink_folder(machine):
    """Creates the folder that a download of Flink would create."""
    (machine.checkout / ".flink/python/lib/python3.10/site-packages/pyflink/lib").mkdir(parents=True)


def java(machine, version):
    machine.command("java", f"echo 'openjdk version \"{version}\"' >&2")


def test_without_java_the_error_says_how_to_install_it(machine):
    done = cluster(machine, "up")
    assert done.returncode == MISSING
    assert done.stderr.startswith("flink: found no java. Flink 1.19 needs Java 11 or 17: apt-get install")


@pytest.mark.parametrize("version", ["1.8.0_392", "21.0.1"])
def test_another_java_is_refused(machine, version):
    java(machine, version)
    done = cluster(machine, "up")
    assert done.returncode == MISSING
    assert f'found openjdk version "{version}". Flink 1.19 needs Java 11 or 17' in done.stderr


def test_without_maven_the_error_says_how_to_install_it(machine):
    java(machine, "17.0.15")
    create_flink_folder(machine)
    done = cluster(machine, "up")
    assert done.returncode == MISSING
    assert "found no Maven, which builds Beam's job server: apt-get install maven" in done.stderr


def test_failed_downloads_and_builds_are_reported(machine):
    java(machine, "17.0.15")
    done = cluster(machine, "up")
    assert (done.returncode, "no environment for Flink: `uv` failed." in done.stderr) == (MISSING, True)
    create_flink_folder(machine)
    machine.command("mvn", "echo '[ERROR] no answer'; exit 1")
    done = cluster(machine, "up")
    assert (done.returncode, "no job server: `mvn` failed. [ERROR] no answer" in done.stderr) == (MISSING, True)


def test_another_process_with_the_number_of_a_stopped_one_is_not_killed(machine):
    folder = machine.checkout / ".flink/cluster"
    folder.mkdir(parents=True)
    (folder / "processes.json").write_text(json.dumps([{"name": "jobmanager", "pid": os.getpid(), "started": "1"}]))
    assert cluster(machine, "down").returncode == 0
    assert not (folder / "processes.json").exists()


def test_stopping_a_cluster_that_does_not_run_does_nothing(machine):
    assert cluster(machine, "down").returncode == 0


def test_missing_tools_of_pods_are_named(machine):
    done = machine.run(sys.executable, "scripts/flink/pod_cluster.py", "storygan", "prepare")
    assert (done.returncode, done.stderr.startswith("flink: pods need unshare (util-linux)")) == (MISSING, True)


@pytest.fixture(scope="module")
def manifest():
    return {
        (document["kind"], document["metadata"]["name"]): document
        for document in yaml.safe_load_all((ROOT / "scripts/flink/kubernetes.yaml").read_text())
    }


def containers(manifest, deployment):
    pod = manifest["Deployment", deployment]["spec"]["template"]["spec"]
    return {container["name"]: container for container in pod["containers"]}


def test_the_manifest_follows_kubernetes_schemas(manifest):
    assert [kind for kind, _ in manifest] == ["ConfigMap", "Service", "Deployment", "Deployment"]
    for document in manifest.values():
        kubernetes_validate.validate(document, "1.31", strict=True)


def test_the_manifest_has_the_flink_configuration_of_the_pods(manifest):
    properties = manifest["ConfigMap", "flink"]["data"]["FLINK_PROPERTIES"].splitlines()
    assert {*properties} - {*CONFIGURATION.splitlines()} == {"jobmanager.rpc.address: flink"}
    for deployment, name in (("flink-job-manager", "job-manager"), ("flink-task-manager", "task-manager")):
        assert containers(manifest, deployment)[name]["envFrom"] == [{"configMapRef": {"name": "flink"}}]


def test_each_task_manager_has_a_pool_of_workers_as_in_the_pods(manifest):
    pool = containers(manifest, "flink-task-manager")["workers"]
    assert ["-m", *POOL] == [*pool["command"], *pool["args"]][1:]
    assert f"--environment_config=localhost:{pool['args'][1]}" in ENVIRONMENT


def test_steps_reach_the_job_server_by_the_service(manifest):
    service = manifest["Service", "flink"]["spec"]
    pod = manifest["Deployment", "flink-job-manager"]["spec"]["template"]
    assert service["selector"] == pod["metadata"]["labels"]
    assert {port["name"]: port["port"] for port in service["ports"]}["jobs"] == 8099
