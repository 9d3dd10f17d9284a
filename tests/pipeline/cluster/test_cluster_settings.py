"""Settings of the cluster are read strictly, and those of a step override those of all steps."""

from __future__ import annotations

import pytest

from pipeline.cluster.cluster_paths import ClusterPaths
from pipeline.cluster.cluster_settings import ClusterSettings, CompileRequest, Secret, split_assignments
from storygan_tf.common.errors import ConfigError
from storygan_tf.config import presets


def cluster(*assignments):
    return split_assignments([f"cluster.{assignment}" for assignment in assignments])[0]


def request(root="/mnt/storygan", data="/mnt/data", **cluster):
    return CompileRequest("example/storygan:1", data, root, presets.load("quick"), ClusterSettings(**cluster))


def test_assignments_of_the_cluster_are_separated_from_those_of_the_run():
    settings, others = split_assignments(["training.seed=3", "cluster.retries=5", "model.frames=5"])
    assert settings.retries == 5
    assert others == ["training.seed=3", "model.frames=5"]


def test_settings_of_a_step_override_those_of_all_steps():
    settings = cluster("memory=8Gi", "cpu=2", "steps.Trainer.memory=32Gi", "steps.Trainer.accelerators=1")
    assert (settings.for_step("Trainer").memory, settings.for_step("Trainer").cpu) == ("32Gi", 2.0)
    assert (settings.for_step("Pusher").memory, settings.for_step("Pusher").accelerators) == ("8Gi", None)
    assert settings.for_step("Trainer").accelerator_name == "nvidia.com/gpu"
    assert settings.for_step("Pusher").accelerator_name == ""


@pytest.mark.parametrize(("text", "count"), [("16Gi", 16 * 2**30), ("1.5G", 1.5e9), ("512Mi", 2**29), ("1000", 1000)])
def test_memory_is_read_as_kubernetes_writes_it(text, count):
    assert cluster(f'memory="{text}"').memory_bytes == count


def test_secrets_and_volumes_are_read_from_json():
    settings = cluster(
        'secrets=[{"name": "s3", "key": "id", "env": "AWS_ACCESS_KEY_ID"}, {"name": "gcp", "path": "/secrets"}]',
        'volumes=[{"claim": "stories", "path": "/mnt/stories"}]',
        'tolerations=[{"key": "gpu", "operator": "Exists"}]',
        'node_selector=["pool=gpu"]',
    )
    assert settings.secrets == (Secret("s3", "id", "AWS_ACCESS_KEY_ID"), Secret("gcp", path="/secrets"))
    assert settings.volumes[0].path == "/mnt/stories"
    assert settings.for_step("Pusher").node_labels == {"pool": "gpu"}


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("retires=3", "did you mean 'retries'"),
        ("steps.Trianer.cpu=1", "did you mean 'Trainer'"),
        ("retries=11", "from 0 to 10"),
        ("cpu=0", "above 0"),
        ("memory=lots", "such as '16Gi'"),
        ("accelerators=-1", "0 or more"),
        ("schema=2.2.0", "one of 2.0.0, 2.1.0"),
        ("name=Story GAN", "lower-case"),
        ('node_selector=["pool"]', "'key=value'"),
        ('steps.Transform.beam=["FlinkRunner"]', "an option of Beam"),
        ('beam=["--environment_type=LOOPBACK"]', "expected EXTERNAL"),
        ('volumes=[{"claim": "a", "path": "b"}]', "an absolute path"),
        ('secrets=[{"name": "s3", "value": "hush"}]', "unknown key 'cluster.secrets.0.value'"),
        ('secrets=[{"name": "s3", "key": "id"}]', "`key` and `env`, or `path`"),
    ],
)
def test_invalid_settings_are_refused_by_name(assignment, words):
    with pytest.raises(ConfigError, match=r".*") as raised:
        cluster(assignment)
    assert words in str(raised.value)


def test_all_folders_are_below_the_root():
    assert ClusterPaths.from_request(request()) == ClusterPaths(
        "/mnt/storygan/pipeline_root", "/mnt/storygan/serving", "/mnt/storygan/work"
    )


def test_a_root_that_only_the_launcher_can_read_has_only_artifacts():
    assert ClusterPaths.from_request(request("s3://bucket/storygan/")).work == "s3://bucket/storygan/work"
    assert ClusterPaths.from_request(request("minio://bucket/storygan", serving="/mnt/serving")).work == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"root": "runs/cluster"}, "--root runs/cluster: expected a URI"),
        ({"data": "runs/data"}, "--data runs/data: expected a URI"),
        ({"root": "minio://mlpipeline/storygan"}, "cluster.serving"),
        ({"work": "minio://bucket/work"}, "cluster.work"),
        ({"data": "minio://bucket/data"}, "--data"),
        ({"serving": "serving"}, "cluster.serving"),
        ({"data": ""}, "--data"),
    ],
)
def test_invalid_paths_are_refused(options, words):
    with pytest.raises(ConfigError, match=r".*") as raised:
        ClusterPaths.from_request(request(**options))
    assert words in str(raised.value)
