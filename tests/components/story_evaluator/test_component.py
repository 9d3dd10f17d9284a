"""The interface of StoryEvaluator."""

from __future__ import annotations

import pytest
from tfx import types
from tfx.types import standard_artifacts

from components.story_evaluator.component import StoryEvaluator
from components.story_evaluator.executor import Executor


def channel(kind):
    return types.Channel(type=kind)


def test_the_types_of_its_outputs():
    component = StoryEvaluator(
        examples=channel(standard_artifacts.Examples),
        model=channel(standard_artifacts.Model),
        judge=channel(standard_artifacts.Model),
        model_run=channel(standard_artifacts.ModelRun),
        settings="{}",
        code_fingerprint="c0de",
        data_fingerprint="da7a",
        run_info="{}",
    )
    outputs = {name: output.type for name, output in component.outputs.items()}
    assert outputs == {
        "evaluation": standard_artifacts.ModelEvaluation,
        "blessing": standard_artifacts.ModelBlessing,
    }
    assert component.executor_spec.executor_class is Executor
    assert component.exec_properties["code_fingerprint"] == "c0de"


def test_the_model_run_and_reported_values_are_optional():
    component = StoryEvaluator(
        examples=channel(standard_artifacts.Examples),
        model=channel(standard_artifacts.Model),
        judge=channel(standard_artifacts.Model),
        settings="{}",
    )
    assert "model_run" not in component.inputs


def test_an_input_of_another_type_is_refused():
    with pytest.raises(TypeError, match="model"):
        StoryEvaluator(
            examples=channel(standard_artifacts.Examples),
            model=channel(standard_artifacts.Schema),
            judge=channel(standard_artifacts.Model),
            settings="{}",
        )
