"""The clients of the clusters read the compiled files.

The client of Kubeflow Pipelines 2 is installed in a separate environment, because TFX 1.15 needs kfp 1.8.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pipeline.cluster import kubeflow, vertex
from pipeline.cluster.cluster_settings import CompileRequest, split_assignments
from storygan_tf.config import presets

pytestmark = pytest.mark.slow

CLUSTER = (
    "cluster.cpu=2",
    "cluster.memory=8Gi",
    "cluster.steps.Trainer.accelerators=2",
    'cluster.steps.Trainer.node_selector=["pool=gpu"]',
    'cluster.steps.Trainer.tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]',
    'cluster.volumes=[{"claim": "stories", "path": "/mnt"}]',
    'cluster.secrets=[{"name": "s3", "key": "id", "env": "AWS_ID"}, {"name": "gcp", "path": "/secrets"}]',
)

READ = """
import json, sys, yaml
import kfp
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

spec, platform = yaml.safe_load_all(open(sys.argv[1]))
parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
deployment = json_format.MessageToDict(parsed.deployment_spec)
json_format.ParseDict(deployment, pipeline_spec_pb2.PipelineDeploymentConfig())
json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
for executor in executors.values():
    json_format.ParseDict(executor, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
pipeline = components.load_component_from_file(sys.argv[1])
print(json.dumps({
    "kfp": kfp.__version__,
    "name": pipeline.name,
    "parameters": sorted(pipeline.component_spec.inputs),
    "required": [name for name, given in pipeline.component_spec.inputs.items() if not given.optional],
    "tasks": len(parsed.root.dag.tasks),
    "executors": len(executors),
}))
"""


def uv(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def kfp2_python(tmp_path_factory):
    """Returns a Python with the newest kfp and kfp-kubernetes of the package index."""
    environment = tmp_path_factory.mktemp("kfp2") / "venv"
    python = environment / "bin" / "python"
    uv("venv", "--no-python-downloads", "--python", sys.executable, str(environment))
    uv("pip", "install", "--python", str(python), "kfp>=2", "kfp-kubernetes")
    return str(python)


def test_kfp_2_reads_every_field_and_loads_the_pipeline(kfp2_python, story_folder, tmp_path):
    data = story_folder(tmp_path / "data", train=2, test=1)
    cluster, _ = split_assignments(CLUSTER)
    out = tmp_path / "pipeline.yaml"
    kubeflow.compile(CompileRequest("example/storygan:1", str(data), "/mnt", presets.load("quick"), cluster), out)
    done = subprocess.run([kfp2_python, "-W", "ignore", "-c", READ, str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    read = json.loads(done.stdout)
    assert read["kfp"].startswith("2.")
    assert read["name"] == "storygan"
    assert read["parameters"] == ["data", "data_fingerprint", "label_names", "settings_json", "training_json"]
    assert read["required"] == []
    assert (read["tasks"], read["executors"]) == (10, 10)


VERTEX = """
import json, sys
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform

aiplatform.init(project="project", location="europe-west4", credentials=AnonymousCredentials())
given = {"training_json": "{}", "data": "gs://bucket/others"}
job = aiplatform.PipelineJob(display_name="storygan", template_path=sys.argv[1], job_id="s1", parameter_values=given)
config = job._gca_resource.runtime_config
values = {**config.parameter_values, **{key: value.string_value for key, value in config.parameters.items()}}
print(json.dumps([config.gcs_output_directory, values["data"], sorted(values)]))
"""


@pytest.mark.parametrize("version", ["2.0.0", "2.1.0"])
def test_vertex_client_takes_the_job_and_changes_its_parameters(version, tmp_path):
    cluster, _ = split_assignments([f"cluster.schema={version}"])
    out = tmp_path / "job.json"
    root = "gs://bucket/storygan"
    vertex.compile(
        CompileRequest("example/storygan:1", "gs://bucket/stories", root, presets.load("quick"), cluster), out
    )
    command = [sys.executable, "-W", "ignore", "-c", VERTEX, str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    parameters = ["data", "data_fingerprint", "label_names", "settings_json", "training_json"]
    assert json.loads(done.stdout) == [f"{root}/pipeline_root", "gs://bucket/others", parameters]
