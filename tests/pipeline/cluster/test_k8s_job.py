"""`storygan compile --target k8s-job` writes a service and a Job, and refuses invalid options."""

from __future__ import annotations

import json

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from storygan_cli import train
from storygan_cli.main import app
from storygan_tf.common.errors import ConfigError, TrainingError
from storygan_tf.training.indexed_job import tf_config

KUBERNETES = "1.31"
VOLUMES = 'cluster.volumes=[{"claim": "stories", "path": "/mnt/stories"}, {"claim": "runs", "path": "/mnt/runs"}]'
REQUIRED = {
    "--target": "k8s-job",
    "--workers": "3",
    "--image": "registry.example/storygan:1",
    "--data": "/mnt/stories/prepared",
    "--root": "/mnt/runs/blocks",
}


class StrictLoader(yaml.SafeLoader):
    """A YAML loader that refuses aliases, which make a manifest hard to edit by hand."""

    def compose_node(self, parent, index):
        assert not self.check_event(yaml.AliasEvent)
        return super().compose_node(parent, index)


@pytest.fixture
def compiled(tmp_path):
    """Compiles with further options and changed required ones; returns the service, the Job and the printed text."""

    def run(*extra, **changes):
        given = REQUIRED | {f"--{name}": value for name, value in changes.items()}
        options = [part for name, value in given.items() if value is not None for part in (name, value)]
        out = tmp_path / "out" / "job.yaml"
        done = CliRunner().invoke(app, ["compile", *options, "--out", str(out), "--set", VOLUMES, *extra])
        if done.exception:
            assert not out.exists()
            raise done.exception
        return (*yaml.load_all(out.read_text(), StrictLoader), done.stdout)

    return run


def pod(job: dict) -> dict:
    return job["spec"]["template"]["spec"]


def container(job: dict) -> dict:
    (only,) = pod(job)["containers"]
    return only


EVERYTHING = [
    "cluster.name=blocks",
    "cluster.retries=7",
    "cluster.cpu=2",
    "cluster.memory=8Gi",
    "cluster.steps.Trainer.memory=32Gi",
    "cluster.steps.Trainer.accelerators=2",
    'cluster.node_selector=["pool=gpu"]',
    'cluster.tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]',
    'cluster.secrets=[{"name": "s3", "key": "id", "env": "AWS_ACCESS_KEY_ID"}, {"name": "ca", "path": "/etc/ca"}]',
    "cluster.service_account=trainer",
]


@pytest.mark.parametrize("settings", [[], EVERYTHING], ids=["least", "everything"])
def test_both_documents_follow_kubernetes_schemas(compiled, settings):
    service, job, _ = compiled(*[part for setting in settings for part in ("--set", setting)])
    for document in (service, job):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_pods_are_found_by_the_names_that_training_derives(compiled):
    service, job, _ = compiled()
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert pod(job)["subdomain"] == service["metadata"]["name"]
    environment = {entry["name"]: entry["value"] for entry in container(job)["env"]}
    config = json.loads(tf_config(environment | {"JOB_COMPLETION_INDEX": "2"}))
    (port,) = {entry["port"] for entry in service["spec"]["ports"]}
    assert [entry["containerPort"] for entry in container(job)["ports"]] == [port]
    assert config == {
        "cluster": {"worker": [f"{job['metadata']['name']}-{n}.{pod(job)['subdomain']}:{port}" for n in range(3)]},
        "task": {"type": "worker", "index": 2},
    }


def test_the_command_is_the_trainings_with_its_settings(compiled):
    _, job, printed = compiled("--preset", "blocks", "--init-from", "blocks", "--set", "training.seed=5")
    worker = container(job)
    assert worker["image"] == REQUIRED["--image"]
    assert [*worker["command"], *worker["args"]] == [
        *("storygan", "train", "--data", "/mnt/stories/prepared", "--out", "/mnt/runs/blocks"),
        *("--strategy", "multi-worker", "--preset", "blocks", "--init-from", "blocks", "--set", "training.seed=5"),
    ]
    assert "kubectl apply -f" in printed
    assert f"job-name={job['metadata']['name']}\n" in printed


def decide(job: dict, code: int) -> str:
    """Returns the action of the Job when a worker ends with an exit code."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        if code in rule.get("onExitCodes", {}).get("values", []):
            assert rule["onExitCodes"]["containerName"] == container(job)["name"]
            return rule["action"]
    return "Count"


def test_interruptions_do_not_count_as_retries_and_errors_end_the_job(compiled):
    _, job, _ = compiled("--set", "cluster.retries=7")
    assert job["spec"]["backoffLimit"] == 7
    assert pod(job)["restartPolicy"] == "Never"  # Kubernetes requires it together with rules.
    for code in (train.WORKER_LOST, train.TERMINATED, train.INTERRUPTED):
        assert decide(job, code) == "Ignore"
    assert [decide(job, code) for code in (1, 2, 137)] == ["FailJob", "FailJob", "Count"]
    assert job["spec"]["podFailurePolicy"]["rules"][0] == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }


def test_workers_get_the_resources_of_the_trainer(compiled):
    _, job, _ = compiled(*[part for setting in EVERYTHING for part in ("--set", setting)])
    assert job["metadata"]["name"] == "blocks-train"
    assert container(job)["resources"] == {
        "requests": {"cpu": "2", "memory": "32Gi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "32Gi", "nvidia.com/gpu": "2"},
    }
    assert pod(job)["nodeSelector"] == {"pool": "gpu"}
    assert pod(job)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod(job)["serviceAccountName"] == "trainer"
    secret = {"secretKeyRef": {"name": "s3", "key": "id"}}
    assert {"name": "AWS_ACCESS_KEY_ID", "valueFrom": secret} in container(job)["env"]


def test_every_volume_is_mounted_and_gpus_of_a_pod_share_memory(compiled):
    _, job, _ = compiled(*[part for setting in EVERYTHING for part in ("--set", setting)])
    sources = {volume.pop("name"): volume for volume in pod(job)["volumes"]}
    mounts = {mount["mountPath"]: sources.pop(mount["name"]) for mount in container(job)["volumeMounts"]}
    assert sources == {}
    assert mounts == {
        "/tmp": {"emptyDir": {}},
        "/dev/shm": {"emptyDir": {"medium": "Memory"}},
        "/mnt/stories": {"persistentVolumeClaim": {"claimName": "stories"}},
        "/mnt/runs": {"persistentVolumeClaim": {"claimName": "runs"}},
        "/etc/ca": {"secret": {"secretName": "ca"}},
    }


def test_nothing_runs_as_root_or_requests_what_is_not_set(compiled):
    _, job, _ = compiled()
    assert pod(job)["securityContext"]["runAsNonRoot"] is True
    assert pod(job)["automountServiceAccountToken"] is False
    assert "resources" not in container(job)
    assert not {"nodeSelector", "tolerations", "serviceAccountName"} & set(pod(job))


@pytest.mark.parametrize(
    ("extra", "changes", "error", "words"),
    [
        ([], {"workers": None}, ConfigError, "--workers: expected with --target k8s-job"),
        ([], {"target": "kubeflow"}, ConfigError, "--workers: expected with --target k8s-job"),
        ([], {"workers": "0"}, ConfigError, "--workers 0: expected 1 or more"),
        ([], {"workers": "7"}, TrainingError, "expected a multiple of 7, the number of replicas"),
        (["--set", "cluster.accelerators=3"], {}, TrainingError, "expected a multiple of 9"),
        (["--set", "cluster.accelerators=1", "--set", "cluster.accelerator=google.com/tpu"], {}, ConfigError, "GPU"),
        (["--set", "cluster.accelerators=1", "--set", "cluster.accelerator=NVIDIA_T4"], {}, ConfigError, "GPU"),
        ([], {"root": "s3://bucket/blocks"}, ConfigError, "--root s3://bucket/blocks: expected a folder in a volume"),
        ([], {"data": "/mnt/other/prepared"}, ConfigError, r"every worker mounts \(/mnt/stories, /mnt/runs\)"),
        ([], {"data": "/mnt/stories2"}, ConfigError, "--data /mnt/stories2: expected a folder in a volume"),
        ([], {"image": " "}, ConfigError, "--image ' ': expected a name"),
        (["--set", "cluster.volumes=[]"], {}, ConfigError, r"every worker mounts \(none is\)"),
        (["--set", "training.sed=1"], {}, ConfigError, "training.sed"),
        (["--set", "cluster.cpus=1"], {}, ConfigError, "cpus"),
        (["--encoder", "embedded"], {}, ConfigError, "`storygan prepare` takes them"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(compiled, extra, changes, error, words):
    with pytest.raises(error, match=words):
        compiled(*extra, **changes)
