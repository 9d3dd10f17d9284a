"""Short declarations of specs, and that the names and types of our components' specs never change."""

from __future__ import annotations

import pytest
from tfx.types import standard_artifacts

from components.judge_trainer.component import JudgeTrainerSpec
from components.serving_check.component import ServingCheckSpec
from components.spec_parameters import channels, output_channels, parameters
from components.story_evaluator.component import StoryEvaluatorSpec
from components.story_example_gen.component import StoryExampleGenSpec
from components.story_validator.component import StoryValidatorSpec

SPECS = {
    StoryExampleGenSpec: (
        "data_dir: str, settings: str, data_fingerprint: str, code_fingerprint: str, [rejects_path: str]",
        "",
        "examples: Examples",
    ),
    StoryValidatorSpec: (
        "settings: str, [code_fingerprint: str]",
        "examples: Examples, statistics: ExampleStatistics, schema: Schema",
        "expected_schema: Schema, anomalies: ExampleAnomalies",
    ),
    JudgeTrainerSpec: ("settings: str, [code_fingerprint: str]", "examples: Examples", "judge: Model"),
    StoryEvaluatorSpec: (
        "settings: str, [serving_dir: str], [code_fingerprint: str], [data_fingerprint: str], "
        "[inputs_fingerprint: str], [run_info: str], [training: str]",
        "examples: Examples, model: Model, judge: Model, [model_run: ModelRun], [anomalies: ExampleAnomalies]",
        "evaluation: ModelEvaluation, blessing: ModelBlessing",
    ),
    ServingCheckSpec: (
        "timeout_seconds: int, [code_fingerprint: str]",
        "model: Model, examples: Examples, [evaluation: ModelEvaluation]",
        "blessing: InfraBlessing",
    ),
}


def described(declarations) -> str:
    """Returns names and types of a spec's parameters or channels, optional ones in brackets."""
    texts = ((f"{name}: {declared.type.__name__}", declared.optional) for name, declared in declarations.items())
    return ", ".join(f"[{text}]" if optional else text for text, optional in texts)


@pytest.mark.parametrize("spec", SPECS)
def test_names_and_types_are_those_that_metadata_of_old_runs_has(spec):
    assert (described(spec.PARAMETERS), described(spec.INPUTS), described(spec.OUTPUTS)) == SPECS[spec]


def test_required_and_optional_declarations():
    assert described(parameters({"a": str, "b": int}, optional={"c": str})) == "a: str, b: int, [c: str]"
    model, schema = standard_artifacts.Model, standard_artifacts.Schema
    assert described(channels({"m": model}, optional={"s": schema})) == "m: Model, [s: Schema]"


def test_output_channels_are_new_for_each_component():
    first, second = output_channels(JudgeTrainerSpec), output_channels(JudgeTrainerSpec)
    assert first.keys() == {"judge"}
    assert first["judge"].type is standard_artifacts.Model
    assert first["judge"] is not second["judge"]
