"""The interface of StoryValidator."""

from __future__ import annotations

import pytest
from tfx import types
from tfx.types import standard_artifacts

from components.story_validator.component import StoryValidator
from components.story_validator.executor import Executor

INPUTS = {
    "examples": standard_artifacts.Examples,
    "statistics": standard_artifacts.ExampleStatistics,
    "schema": standard_artifacts.Schema,
}


def channels(**others):
    return {name: types.Channel(type=kind) for name, kind in (INPUTS | others).items()}


def test_its_outputs_are_a_schema_and_anomalies():
    component = StoryValidator(**channels(), settings="{}", code_fingerprint="c0de")
    assert {name: output.type for name, output in component.outputs.items()} == {
        "expected_schema": standard_artifacts.Schema,
        "anomalies": standard_artifacts.ExampleAnomalies,
    }
    assert component.executor_spec.executor_class is Executor
    assert component.exec_properties == {"settings": "{}", "code_fingerprint": "c0de"}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_of_another_type_is_refused(name):
    with pytest.raises(TypeError, match=name):
        StoryValidator(**channels(**{name: standard_artifacts.Model}), settings="{}")
