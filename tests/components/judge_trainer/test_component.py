"""The interface of JudgeTrainer."""

from __future__ import annotations

import pytest
from tfx import types
from tfx.types import standard_artifacts

from components.judge_trainer.component import JudgeTrainer
from components.judge_trainer.executor import Executor


def test_its_output_is_a_model():
    component = JudgeTrainer(
        examples=types.Channel(type=standard_artifacts.Examples), settings="{}", code_fingerprint="c0de"
    )
    assert {name: output.type for name, output in component.outputs.items()} == {"judge": standard_artifacts.Model}
    assert component.executor_spec.executor_class is Executor
    assert component.exec_properties == {"settings": "{}", "code_fingerprint": "c0de"}


def test_an_input_of_another_type_is_refused():
    with pytest.raises(TypeError, match="examples"):
        JudgeTrainer(examples=types.Channel(type=standard_artifacts.Schema), settings="{}")
