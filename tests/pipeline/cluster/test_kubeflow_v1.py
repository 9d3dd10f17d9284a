"""What `--target kubeflow-v1` writes: a workflow that Argo takes, with what settings ask for, and no more."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.cluster import kubeflow_v1, submission
from pipeline.cluster.cluster_settings import CompileRequest, split_assignments
from storygan_tf.common.errors import ConfigError
from storygan_tf.config import presets

SCHEMA = Path(__file__).parent / "argo_workflow.schema.json"
"""Argo's own; it names its origin."""

CLUSTER = (
    "cluster.retries=3",
    "cluster.cpu=2",
    "cluster.memory=4Gi",
    "cluster.name=drawn",
    "cluster.service_account=painter",
    "cluster.steps.Trainer.memory=16Gi",
    "cluster.steps.Trainer.accelerators=2",
    'cluster.steps.Trainer.node_selector=["pool=gpu"]',
    'cluster.steps.Trainer.tolerations=[{"key":"nvidia.com/gpu","operator":"Exists","effect":"NoSchedule"}]',
    "cluster.steps.JudgeTrainer.accelerators=4",
    "cluster.steps.JudgeTrainer.accelerator=google.com/tpu",
    'cluster.steps.Transform.beam=["--runner=FlinkRunner","--flink_master=flink:8081","--environment_type=EXTERNAL",'
    '"--environment_config=localhost:50000"]',
    'cluster.secrets=[{"name":"store","key":"id","env":"AWS_ACCESS_KEY_ID"},{"name":"key","path":"/etc/key"}]',
)


VOLUMES = 'cluster.volumes=[{"claim":"stories","path":"/mnt"}]'
"""Given always: without a volume there is no workflow."""


def request(*assignments: str, **changes: str) -> CompileRequest:
    cluster, _ = split_assignments([VOLUMES, *assignments])
    values = {"image": "registry.example/storygan:1", "data": "/mnt/stories", "root": "/mnt/runs"} | changes
    return CompileRequest(settings=presets.load("quick"), cluster=cluster, **values)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compiles requests, each once."""
    folder, known = tmp_path_factory.mktemp("compiled"), {}

    def compiled_as(*assignments: str) -> dict:
        if assignments not in known:
            out = folder / f"{len(known)}.yaml"
            kubeflow_v1.compile(request(*assignments), out)
            known[assignments] = yaml.safe_load(out.read_text())
        return copy.deepcopy(known[assignments])

    return compiled_as


def template(workflow: dict, step: str) -> dict:
    return next(one for one in workflow["spec"]["templates"] if one["name"] == step.lower())


def node(workflow: dict, step: str) -> tuple[dict, dict]:
    """Returns a step in TFX's own words: the node, and its executor."""
    arguments = template(workflow, step)["container"]["args"]
    pipeline = json.loads(arguments[arguments.index("--tfx_ir") + 1])
    (found,) = pipeline["nodes"]
    return found["pipelineNode"], pipeline["deploymentConfig"]["executorSpecs"][step]


def parameters(workflow: dict) -> dict[str, str]:
    return {given["name"]: given["value"] for given in workflow["spec"]["arguments"]["parameters"]}


# Argo


def strict(schema: dict) -> dict:
    """Returns the schema with unknown fields refused, as the cluster refuses them."""
    for definition in schema["definitions"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    return schema


@pytest.mark.parametrize("assignments", [(), CLUSTER])
def test_argo_takes_it(compiled, assignments):
    validator = jsonschema.Draft7Validator(strict(json.loads(SCHEMA.read_text())))
    assert list(validator.iter_errors(compiled(*assignments))) == []


def test_argo_would_not_take_a_mistake(compiled):
    validator = jsonschema.Draft7Validator(strict(json.loads(SCHEMA.read_text())))
    workflow = compiled()
    workflow["spec"]["templates"][0]["retryStrategie"] = {}
    assert [list(error.path) for error in validator.iter_errors(workflow)] == [["spec", "templates", 0]]


def test_the_steps_and_their_order(compiled):
    workflow = compiled()
    tasks = {task["name"]: task.get("dependencies", []) for task in template(workflow, "storygan")["dag"]["tasks"]}
    assert len(tasks) == 10
    assert tasks["storyexamplegen"] == []
    assert tasks["pusher"] == ["servingcheck", "storyevaluator"]
    assert "examplevalidator" in tasks["judgetrainer"]


def test_the_same_request_gives_the_same_file_and_it_is_said_what_that_needs(compiled, tmp_path, capsys):
    told = kubeflow_v1.compile(request(), tmp_path / "again.yaml")
    assert yaml.safe_load((tmp_path / "again.yaml").read_text()) == compiled()
    assert "V1 API and an ML Metadata gRPC service" in capsys.readouterr().err
    assert any("training_json" in line for line in told)


# What a container is given


def test_containers_run_our_entry_point_in_our_image_and_write_where_they_may(compiled):
    for one in compiled()["spec"]["templates"]:
        if "container" in one:
            assert one["container"]["image"] == "registry.example/storygan:1"
            assert one["container"]["command"] == ["python", "-m", "pipeline.cluster.step_v1"]
            assert [artifact["path"] for artifact in one["outputs"]["artifacts"]] == [kubeflow_v1.UI_METADATA]
            assert kubeflow_v1.UI_METADATA in one["container"]["args"]
            assert kubeflow_v1.UI_METADATA.startswith("/tmp/")


def test_by_default_nothing_is_asked_of_the_cluster_but_two_retries(compiled):
    trainer = template(compiled(), "Trainer")
    assert not {"nodeSelector", "tolerations"} & set(trainer)
    assert "resources" not in trainer["container"]
    assert trainer["retryStrategy"] == {
        "limit": "2",
        "retryPolicy": "Always",
        "backoff": {"duration": "30s", "factor": "2"},
    }
    assert compiled()["spec"]["serviceAccountName"] == "pipeline-runner"


def test_resources_and_nodes(compiled):
    workflow = compiled(*CLUSTER)
    trainer, judge = template(workflow, "Trainer"), template(workflow, "JudgeTrainer")
    assert trainer["container"]["resources"] == {
        "requests": {"cpu": "2", "memory": "16Gi"},
        "limits": {"memory": "16Gi", "nvidia.com/gpu": "2"},
    }
    assert judge["container"]["resources"]["limits"] == {"memory": "4Gi", "google.com/tpu": "4"}
    assert trainer["nodeSelector"] == {"pool": "gpu"}
    assert trainer["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert "tolerations" not in judge
    assert trainer["retryStrategy"]["limit"] == "3"
    assert workflow["spec"]["serviceAccountName"] == "painter"
    assert workflow["metadata"]["generateName"] == "drawn-"


def test_every_step_has_the_volumes_and_the_secrets_by_name(compiled):
    for one in compiled(*CLUSTER)["spec"]["templates"]:
        if "container" in one:
            volumes = {volume["name"]: volume for volume in one["volumes"]}
            mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in one["container"]["volumeMounts"]}
            assert mounts["/mnt"]["persistentVolumeClaim"] == {"claimName": "stories"}
            assert mounts["/etc/key"]["secret"] == {"secretName": "key"}
            (variable,) = [given for given in one["container"]["env"] if given["name"] == "AWS_ACCESS_KEY_ID"]
            assert variable["valueFrom"] == {"secretKeyRef": {"name": "store", "key": "id"}}


def test_a_step_has_its_own_beam_options(compiled):
    assert node(compiled(*CLUSTER), "Transform")[1]["beamPipelineArgs"] == [
        "--sdk_container_image=none",
        "--runner=FlinkRunner",
        "--flink_master=flink:8081",
        "--environment_type=EXTERNAL",
        "--environment_config=localhost:50000",
    ]
    (runner,) = [arg for arg in node(compiled(*CLUSTER), "StatisticsGen")[1]["beamPipelineArgs"] if "runner" in arg]
    assert runner.endswith("FnApiRunner")


def test_metadata_is_found_by_the_clusters_config_map_or_by_its_address(compiled):
    def where(workflow):
        arguments = template(workflow, "Pusher")["container"]["args"]
        return json.loads(arguments[arguments.index("--kubeflow_metadata_config") + 1])["grpc_config"]

    assert where(compiled())["grpc_service_host"] == {"environment_variable": "METADATA_GRPC_SERVICE_HOST"}
    assert template(compiled(), "Pusher")["container"]["envFrom"] == [
        {"configMapRef": {"name": "metadata-grpc-configmap", "optional": True}}
    ]
    named = compiled("cluster.metadata_host=mlmd.kubeflow", "cluster.metadata_port=9090", "cluster.retries=0")
    assert where(named) == {"grpc_service_host": {"value": "mlmd.kubeflow"}, "grpc_service_port": {"value": "9090"}}
    assert not {"envFrom", "retryStrategy"} & {*template(named, "Pusher"), *template(named, "Pusher")["container"]}


# Cache and parameters


def test_the_judge_alone_always_runs(compiled):
    workflow = compiled()
    cached = {
        step: node(workflow, step)[0]["executionOptions"]["cachingOptions"].get("enableCache", False)
        for step in ("StoryExampleGen", "Transform", "Trainer", "StoryEvaluator", "ServingCheck", "Pusher")
    }
    assert [step for step, enabled in cached.items() if not enabled] == ["StoryEvaluator"]


def test_a_submission_can_change_data_and_settings(compiled):
    workflow = compiled()
    given = parameters(workflow)
    assert given["data"] == "/mnt/stories"
    assert given["pipeline-root"] == "/mnt/runs/pipeline_root"
    assert json.loads(given["settings_json"])["preset"] == "quick"
    assert given["training_json"] == "{}"
    assert (
        "settings_json=STRING:{{inputs.parameters.settings_json}}" in template(workflow, "Trainer")["container"]["args"]
    )
    read = node(workflow, "StoryExampleGen")[0]["parameters"]["parameters"]
    assert read["data_dir"]["runtimeParameter"]["name"] == "data"


def test_an_edit_of_code_changes_the_keys_of_the_steps_that_run_it(compiled, monkeypatch, tmp_path):
    from pipeline import pipeline, step_inputs

    def edited(function):
        return lambda *modules: function(*modules) + ("edited" if "pipeline.trainer_module" in modules else "")

    for module in (pipeline, step_inputs):
        monkeypatch.setattr(module, "code_fingerprint", edited(module.code_fingerprint))
    kubeflow_v1.compile(request(), tmp_path / "edited.yaml")
    after = yaml.safe_load((tmp_path / "edited.yaml").read_text())
    changed = [
        one["name"] for one in after["spec"]["templates"] if one != template(compiled(), one["name"])
    ]  # the evaluator tells of all code in its lineage
    assert sorted(changed) == ["storyevaluator", "trainer"]


# What is refused, and what is said


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (request(data="s3://bucket/stories"), "--data s3://bucket/stories"),
        (request(root="gs://bucket/root"), "--root gs://bucket/root"),
        (request("cluster.serving=s3://bucket/serving"), "cluster.serving s3://bucket/serving"),
        (request(data="/srv/stories"), "--data /srv/stories: .* below one that cluster.volumes mounts"),
        (request("cluster.work=/mnt2/work"), "cluster.work /mnt2/work"),
    ],
)
def test_what_the_target_cannot_do_is_refused_before_anything_is_compiled(asked, named, tmp_path, monkeypatch):
    monkeypatch.setattr(submission.Submission, "of", None)
    with pytest.raises(ConfigError, match=named):
        kubeflow_v1.compile(asked, tmp_path / "out.yaml")
