"""The compiled files: the message types of TFX's release parse them, and their content is as expected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline import code_fingerprint
from pipeline.cluster import kubeflow, vertex
from pipeline.cluster.cluster_settings import CompileRequest, Steps, split_assignments
from storygan_tf.common.errors import ConfigError
from storygan_tf.config import presets

REPOSITORY = Path(__file__).parents[3]
ROOMS = ("storygan_tf", "storygan_cli", "components", "pipeline", "serving")
PARAMETERS = {"data", "data_fingerprint", "label_names", "settings_json", "training_json"}
DATAFLOW = ["--runner=DataflowRunner", "--project=p", "--region=r", "--temp_location=gs://bucket/temp"]
FLINK = [
    "--runner=PortableRunner",
    "--job_endpoint=flink:8099",
    "--environment_type=EXTERNAL",
    "--environment_config=localhost:50000",
]
RICH = (
    "serving.bulk_infer=test",
    "cluster.retries=3",
    "cluster.cpu=2",
    "cluster.memory=8Gi",
    "cluster.steps.Trainer.memory=32G",
    "cluster.steps.Trainer.accelerators=2",
    'cluster.steps.Trainer.node_selector=["pool=gpu"]',
    'cluster.steps.Trainer.tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]',
    'cluster.volumes=[{"claim": "stories", "path": "/mnt"}]',
    'cluster.secrets=[{"name": "s3", "key": "id", "env": "AWS_ID"}, {"name": "gcp", "path": "/secrets"}]',
    f"cluster.steps.Transform.beam={json.dumps(DATAFLOW)}",
    f"cluster.steps.StatisticsGen.beam={json.dumps(FLINK)}",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory, story_folder):
    return story_folder(tmp_path_factory.mktemp("stories") / "data")


@pytest.fixture(scope="module")
def written(data, tmp_path_factory, cached_fingerprints):
    """Compiles for a target, once for the same arguments; returns the documents of the file and the lines of text."""
    results = {}
    folder = tmp_path_factory.mktemp("compiled")

    def compile_once(target, *assignments, root="/mnt/storygan", data=data, anew=False):
        arguments = (target, assignments, root, data)
        if arguments in results and not anew:
            return results[arguments]
        cluster, others = split_assignments(assignments)
        settings = presets.load("quick").override(others)
        out = folder / ("job.json" if target is vertex else "pipeline.yaml")
        lines = target.compile(CompileRequest("example/storygan:1", str(data), root, settings, cluster), out)
        result = list(yaml.safe_load_all(out.read_text())), lines
        return result if anew else results.setdefault(arguments, result)

    return compile_once


def container(spec, step):
    return spec["deploymentSpec"]["executors"][f"{step}_executor"]["container"]


def argument(spec, step, name):
    arguments = container(spec, step)["args"]
    return arguments[arguments.index(name) + 1]


def check_strictly(spec):
    """Parses a specification; unknown fields are errors."""
    spec = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    deployment = json_format.MessageToDict(spec.deployment_spec)
    json_format.ParseDict(deployment, pipeline_spec_pb2.PipelineDeploymentConfig())
    return spec


def test_kubeflow_gets_a_specification_with_our_entry_point_and_parameters(written, data):
    (spec,), _ = written(kubeflow)
    parsed = check_strictly(spec)
    assert parsed.schema_version == "2.1.0"
    assert parsed.default_pipeline_root == "/mnt/storygan/pipeline_root"
    assert set(spec["root"]["inputDefinitions"]["parameters"]) == PARAMETERS
    assert spec["root"]["inputDefinitions"]["parameters"]["data"]["defaultValue"] == str(data)
    tasks = spec["root"]["dag"]["tasks"]
    assert len(tasks) == 10
    for name in tasks:
        assert container(spec, name)["command"] == ["python", "-m", "pipeline.cluster.step"]
        assert argument(spec, name, "--step") == name
        assert "--mirrored" in container(spec, name)["args"]
    kinds = {
        artifact["artifactType"]["schemaTitle"]
        for component in spec["components"].values()
        for artifact in component["outputDefinitions"]["artifacts"].values()
    }
    assert kinds == {"system.Model", "system.Dataset", "system.Artifact"}


def test_every_step_of_the_project_gets_the_whole_settings_as_one_parameter(written):
    (spec,), _ = written(kubeflow)
    given = {
        (name, key): value["componentInputParameter"]
        for name, task in spec["root"]["dag"]["tasks"].items()
        for key, value in task["inputs"].get("parameters", {}).items()
        if "componentInputParameter" in value
    }
    ours = ("StoryExampleGen", "ExampleValidator", "Transform", "Trainer", "JudgeTrainer", "StoryEvaluator")
    assert {name for (name, key), value in given.items() if value == "settings_json"} == set(ours)
    assert given["Trainer", "training"] == given["StoryEvaluator", "training"] == "training_json"
    assert given["Trainer", "labels"] == "label_names"
    assert given["StoryExampleGen", "data_dir"] == "data"
    assert given["StoryExampleGen", "data_fingerprint"] == "data_fingerprint"


def test_only_the_evaluator_is_not_cached(written):
    (spec,), _ = written(kubeflow)
    uncached = {name for name, task in spec["root"]["dag"]["tasks"].items() if "cachingOptions" not in task}
    assert uncached == {"StoryEvaluator"}


def test_settings_of_kubernetes_alone_are_in_a_second_document(written):
    (spec, platform), _ = written(kubeflow, *RICH)
    check_strictly(spec)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(spec["deploymentSpec"]["executors"])
    assert set(executors) == {f"{step}_executor" for step in vars(Steps())}
    assert executors["Trainer_executor"]["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert executors["Trainer_executor"]["tolerations"] == [
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    pusher = executors["Pusher_executor"]
    assert set(pusher) == {"pvcMount", "secretAsEnv", "secretAsVolume"}
    assert pusher["pvcMount"][0]["constant"] == "stories"
    assert pusher["secretAsEnv"][0]["keyToEnv"] == [{"secretKey": "id", "envVar": "AWS_ID"}]


def test_steps_get_their_resources_retries_and_beam_options(written):
    (spec, _), _ = written(kubeflow, *RICH)
    assert container(spec, "Pusher")["resources"] == {"cpuLimit": 2.0, "memoryLimit": 8 * 2**30 / 1e9}
    assert container(spec, "Trainer")["resources"] == {
        "cpuLimit": 2.0,
        "memoryLimit": 32.0,
        "accelerator": {"count": "2", "type": "nvidia.com/gpu"},
    }
    policies = [task["retryPolicy"] for task in spec["root"]["dag"]["tasks"].values()]
    assert all((policy["maxRetryCount"], policy["backoffDuration"]) == (3, "30s") for policy in policies)
    for step, options in {
        "Transform": [*DATAFLOW, "--sdk_container_image=example/storygan:1"],
        "StatisticsGen": FLINK,
    }.items():
        assert container(spec, step)["args"][-len(options) :] == options
        assert "--mirrored" not in container(spec, step)["args"]
        assert not {*options} & {*container(spec, "Trainer")["args"]}


def test_a_step_whose_runner_lacks_an_option_is_not_compiled(written):
    with pytest.raises(ConfigError, match="no --region for DataflowRunner"):
        written(kubeflow, 'cluster.beam=["--runner=DataflowRunner", "--project=p", "--temp_location=gs://bucket/temp"]')


@pytest.mark.parametrize("version", ["2.0.0", "2.1.0"])
def test_vertex_gets_a_job_of_either_schema(written, version):
    (job,), _ = written(vertex, f"cluster.schema={version}", root="gs://bucket/storygan")
    parsed = json_format.ParseDict(job, pipeline_spec_pb2.PipelineJob())
    assert check_strictly(job["pipelineSpec"]).schema_version == version
    assert parsed.runtime_config.gcs_output_directory == "gs://bucket/storygan/pipeline_root"
    parameters = parsed.runtime_config.parameters if version == "2.0.0" else parsed.runtime_config.parameter_values
    assert set(parameters) == PARAMETERS
    artifact = job["pipelineSpec"]["components"]["Trainer"]["outputDefinitions"]["artifacts"]["model"]
    assert "title: tfx.Model" in artifact["artifactType"]["instanceSchema"]
    assert "--mirrored" not in container(job["pipelineSpec"], "Trainer")["args"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"root": "/mnt/storygan"}, "expected gs://"),
        ({"assignments": ['cluster.volumes=[{"claim": "a", "path": "/b"}]']}, "cluster.volumes"),
        ({"assignments": ['cluster.secrets=[{"name": "a", "path": "/b"}]']}, "cluster.secrets"),
        ({"assignments": ['cluster.node_selector=["a=b"]']}, "cluster.node_selector"),
        ({"assignments": ["cluster.steps.Trainer.accelerators=1"]}, "NVIDIA_TESLA_T4"),
    ],
)
def test_vertex_refuses_settings_that_it_does_not_have(written, options, words):
    with pytest.raises(ConfigError, match=words):
        written(vertex, *options.get("assignments", ()), root=options.get("root", "gs://bucket/storygan"))


def test_data_that_cannot_be_read_is_reported(written):
    (spec,), lines = written(kubeflow, data="s3://bucket/stories")
    assert "data_fingerprint" in lines[0]
    assert "cannot be read here" in lines[0]
    (readable,), _ = written(kubeflow)
    assert changed(readable, spec) == {"data", "data_fingerprint", "label_names", "Trainer"}


def test_changed_data_gets_another_fingerprint(written, data, tmp_path):
    (before,), _ = written(kubeflow)
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data/note.txt").write_text("one more file")
    (after,), _ = written(kubeflow, data=tmp_path / "data")
    assert changed(before, after) == {"data", "data_fingerprint"}


def changed(before, after):
    """Returns the names of the runtime parameters and of the tasks whose cache keys on a cluster differ."""
    roots = [spec["root"]["inputDefinitions"]["parameters"] for spec in (before, after)]
    names = {name for name in roots[0] if roots[0][name] != roots[1][name]}
    tasks = before["root"]["dag"]["tasks"]
    return names | {name for name in tasks if _key(before, name) != _key(after, name)}


def _key(spec, name):
    return json.dumps([spec["root"]["dag"]["tasks"][name]["inputs"], container(spec, name)], sort_keys=True)


def test_an_edit_of_code_changes_only_the_steps_that_run_it(written, tmp_path, monkeypatch):
    (before,), _ = written(kubeflow)
    for room in ROOMS:
        shutil.copytree(REPOSITORY / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "storygan_tf/models/losses.py").open("a") as file:
        file.write("\n# An edit.\n")
    # The fingerprints are computed from the copy; the code that runs is unchanged.
    monkeypatch.setattr(code_fingerprint, "__file__", str(tmp_path / "pipeline/code_fingerprint.py"))
    (after,), _ = written(kubeflow, anew=True)
    # StoryEvaluator has the fingerprint of the code of each step as a parameter.
    assert changed(before, after) == {"Trainer", "StoryEvaluator"}


def test_a_setting_changes_only_its_parameter(written):
    (before,), _ = written(kubeflow)
    (after,), _ = written(kubeflow, "evaluation.max_f1_drop=0.5")
    assert changed(before, after) == {"settings_json"}


@pytest.mark.parametrize(("target", "ending"), [(kubeflow, ".yaml"), (vertex, ".json")])
def test_another_ending_of_the_file_is_refused(target, ending, data, tmp_path):
    request = CompileRequest("image", str(data), "gs://bucket/root", presets.load("quick"))
    with pytest.raises(ConfigError, match=f"expected {ending}"):
        target.compile(request, tmp_path / "pipeline.txt")
