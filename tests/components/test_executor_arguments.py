"""Access to the arguments of an executor's `Do`."""

from __future__ import annotations

import pytest
from tfx.types import standard_artifacts

from components.executor_arguments import ExecutorArguments
from storygan_tf.common.errors import ConfigError


def artifact(kind, uri):
    new = kind()
    new.uri = uri
    return new


EXAMPLES, MODEL = artifact(standard_artifacts.Examples, "/examples"), artifact(standard_artifacts.Model, "/model")


def test_single_artifacts_and_their_uris():
    arguments = ExecutorArguments({"examples": [EXAMPLES]}, {"model": [MODEL]}, {})
    assert arguments.input("examples") is EXAMPLES
    assert arguments.output("model") is MODEL
    assert (arguments.input_uri("examples"), arguments.output_uri("model")) == ("/examples", "/model")


def test_several_artifacts_are_an_error():
    with pytest.raises(ValueError, match="length of one"):
        ExecutorArguments({"examples": [EXAMPLES, EXAMPLES]}, {}, {}).input("examples")


def test_an_optional_input_that_is_left_out_has_no_uri():
    arguments = ExecutorArguments({"examples": [EXAMPLES], "anomalies": []}, {}, {})
    assert arguments.optional_input_uri("examples") == "/examples"
    assert arguments.optional_input_uri("anomalies") is None
    assert arguments.optional_input_uri("model_run") is None


def test_an_optional_property_that_is_left_out_is_empty():
    arguments = ExecutorArguments({}, {}, {"run_info": "{}", "training": None})
    assert (arguments.text("run_info"), arguments.text("training"), arguments.text("serving_dir")) == ("{}", "", "")


def test_settings():
    assert ExecutorArguments({}, {}, {"settings": '{"model": {"frames": 7}}'}).settings().model.frames == 7
    with pytest.raises(ConfigError, match="did you mean 'model'"):
        ExecutorArguments({}, {}, {"settings": '{"modle": {}}'}).settings()
