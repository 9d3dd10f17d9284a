"""The entry point reads the messages of launchers, restores types, and reports the failure of a step in one line."""

from __future__ import annotations

import json

import pytest
from tfx import types
from tfx.types import standard_artifacts

from components.judge_trainer.component import JudgeTrainer
from components.serving_check.component import ServingCheck
from pipeline.cluster import step
from pipeline.cluster.launcher_paths import local_artifact_paths
from pipeline.cluster.step import StepInvocation, StepTypes
from storygan_tf.common.errors import ConfigError

TYPES = StepTypes(
    inputs={"examples": "tfx.types.standard_artifacts.Examples"},
    outputs={"judge": "tfx.types.standard_artifacts.Model"},
    integers=["timeout_seconds"],
)


def given(kind, uri="/mnt/examples", **metadata):
    artifact = {"name": "artifacts/17", "uri": uri, "metadata": metadata}
    return {"artifacts": [artifact | ({"type": kind} if kind is not None else {})]}


def message(kind=None, parameters=None, uri="/mnt"):
    return json.dumps(
        {
            "inputs": {
                "artifacts": {"examples": given(kind, f"{uri}/examples", split_names='["train"]', span=3, note="text")},
                **(parameters or {"parameterValues": {"timeout_seconds": 300.0, "settings": "{}"}}),
            },
            "outputs": {
                "artifacts": {"judge": given(kind, f"{uri}/judge")},
                "outputFile": f"{uri}/result/output.json",
            },
            "somethingNew": 1,
        }
    )


@pytest.mark.parametrize(
    "kind",
    [
        None,
        {"instanceSchema": ""},
        {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"},
        {"instanceSchema": "title: tfx.Examples\ntype: object\n"},
    ],
)
def test_artifacts_have_the_steps_types_of_any_message(kind):
    invocation = StepInvocation.from_json(message(kind), TYPES)
    (examples,), (judge,) = invocation.inputs["examples"], invocation.outputs["judge"]
    assert type(examples) is standard_artifacts.Examples
    assert type(judge) is standard_artifacts.Model
    assert (examples.uri, examples.split_names, examples.span) == ("/mnt/examples", '["train"]', 3)
    assert examples.get_string_custom_property("note") == "text"


@pytest.mark.parametrize(
    "parameters",
    [
        {"parameterValues": {"timeout_seconds": 300.0, "settings": "{}"}},
        {"parameters": {"timeout_seconds": {"intValue": "300"}, "settings": {"stringValue": "{}"}}},
    ],
)
def test_parameters_of_both_schemas_are_the_same(parameters):
    properties = StepInvocation.from_json(message(parameters=parameters), TYPES).properties
    assert properties == {"timeout_seconds": 300, "settings": "{}"}
    assert type(properties["timeout_seconds"]) is int


def test_types_come_from_the_component():
    examples = types.Channel(type=standard_artifacts.Examples)
    judge = StepTypes.from_component(JudgeTrainer(examples=examples, settings="{}"))
    assert judge == StepTypes(TYPES.inputs, TYPES.outputs, [])
    check = StepTypes.from_component(
        ServingCheck(model=types.Channel(type=standard_artifacts.Model), examples=examples)
    )
    assert check.integers == ["timeout_seconds"]
    assert StepTypes.from_json(check.to_json()) == check


def test_outputs_are_written_with_their_properties(tmp_path):
    invocation = StepInvocation.from_json(message(uri=str(tmp_path)), TYPES)
    invocation.outputs["judge"][0].set_string_custom_property("description", "a judge")
    invocation.outputs["judge"][0].set_int_custom_property("number", 7)
    invocation.write_output()
    (written,) = json.loads((tmp_path / "result/output.json").read_text())["artifacts"]["judge"]["artifacts"]
    assert (written["uri"], written["name"]) == (f"{tmp_path}/judge", "artifacts/17")
    assert (written["metadata"]["description"], written["metadata"]["number"]) == ("a judge", 7)


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda: StepInvocation.from_json("{", TYPES), "--input"),
        (
            lambda: StepInvocation.from_json(message(), StepTypes({}, {})),
            "found artifacts 'examples', expected only none",
        ),
        (lambda: StepTypes.from_json("{}"), "--types"),
        (lambda: StepTypes.from_json("["), "--types"),
    ],
)
def test_invalid_arguments_are_reported(read, words):
    with pytest.raises(ConfigError, match=words):
        read()


def test_within_a_step_artifacts_have_the_paths_of_the_launchers_copies(tmp_path):
    invocation = StepInvocation.from_json(message(uri="minio://bucket/run"), TYPES)
    with local_artifact_paths(
        invocation.inputs, invocation.outputs, mirrored=True, mirrors={"minio://": f"{tmp_path}/"}
    ):
        assert invocation.inputs["examples"][0].uri == f"{tmp_path}/bucket/run/examples"
        assert (tmp_path / "bucket/run/judge").is_dir()
    assert invocation.outputs["judge"][0].uri == "minio://bucket/run/judge"
    with local_artifact_paths(invocation.inputs, invocation.outputs, mirrored=False):
        assert invocation.inputs["examples"][0].uri == "minio://bucket/run/examples"


def test_local_folders_of_outputs_are_created(tmp_path):
    invocation = StepInvocation.from_json(message(uri=str(tmp_path / "run")), TYPES)
    with local_artifact_paths(invocation.inputs, invocation.outputs, mirrored=False):
        assert (tmp_path / "run/judge").is_dir()
        assert not (tmp_path / "run/examples").exists()


def test_a_failed_step_reports_the_reason_in_one_line_and_an_exit_code(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["step"])
    monkeypatch.setattr("absl.logging.use_absl_handler", lambda: None)
    wrong = {"parameterValues": {"settings": '{"model": {"frame": 5}}'}}
    code = step.main(
        [
            *("--step", "JudgeTrainer", "--executor", "components.judge_trainer.executor.Executor"),
            *("--types", TYPES.to_json(), "--input", message(parameters=wrong, uri=str(tmp_path))),
        ]
    )
    assert code == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("storygan: step JudgeTrainer failed. JudgeTrainer: unknown key 'model.frame'")
    assert not (tmp_path / "result").exists()
