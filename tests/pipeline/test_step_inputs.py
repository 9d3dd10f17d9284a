"""The arguments of each step."""

from __future__ import annotations

import json

import pytest

from pipeline.step_inputs import StepArguments, trainer_arguments, transform_arguments
from storygan_tf.common.errors import ConfigError
from storygan_tf.config import presets

QUICK = presets.load("quick")


def test_arguments_come_back_from_a_custom_config():
    arguments = trainer_arguments(QUICK, "work", "abc", ["red", "blue"])
    found, settings = StepArguments.from_custom_config(arguments.to_custom_config())
    assert found == arguments
    assert found.label_names == ("red", "blue")
    assert transform_arguments(QUICK).label_names == ()
    assert settings.training == QUICK.training
    assert settings.model == QUICK.model


def test_the_settings_of_a_step_are_one_string():
    assert all(isinstance(value, str) for value in trainer_arguments(QUICK, "work").to_custom_config().values())


@pytest.mark.parametrize("key", ["setings", "work"])
def test_an_unknown_key_of_a_custom_config_is_named(key):
    with pytest.raises(ConfigError, match=f"custom_config.{key}"):
        StepArguments.from_custom_config(transform_arguments(QUICK).to_custom_config() | {key: "x"})


def test_an_unknown_setting_is_named():
    settings = json.dumps({"training": {"sead": 1}})
    with pytest.raises(ConfigError, match=r"training.sead.*did you mean 'seed'"):
        StepArguments.from_custom_config({"settings": settings})


def test_a_setting_of_the_training_does_not_touch_the_steps_before_it():
    other = QUICK.override(["training.seed=7", "model.generator_width=16", "evaluation.seed=3"])
    assert transform_arguments(other) == transform_arguments(QUICK)
    assert trainer_arguments(other, "work") != trainer_arguments(QUICK, "work")
    assert transform_arguments(QUICK.override(["data.encoder=other"])) != transform_arguments(QUICK)
