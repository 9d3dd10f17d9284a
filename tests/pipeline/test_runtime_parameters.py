"""Submitted values reach Transform and Trainer in `custom_config`."""

from __future__ import annotations

import json

import pytest
from tfx.utils import json_utils

from pipeline.runtime_parameters import with_runtime_parameters
from pipeline.step_inputs import TRAINER_SETTINGS, StepArguments, trainer_arguments
from storygan_tf.common.errors import ConfigError
from storygan_tf.config import presets

QUICK = presets.load("quick")
COMPILED = {
    "custom_config": json_utils.dumps(trainer_arguments(QUICK, "work", label_names=["red"]).to_custom_config()),
    "run_fn": "pipeline.trainer_module.run_fn",
}


def submitted(**given):
    properties = with_runtime_parameters(COMPILED | given, TRAINER_SETTINGS)
    assert set(properties) == set(COMPILED)
    return StepArguments.from_custom_config(json_utils.loads(properties["custom_config"]))


def test_without_a_submission_nothing_changes():
    assert with_runtime_parameters(COMPILED, TRAINER_SETTINGS) == COMPILED


def test_the_submitted_settings_replace_the_compiled_ones_and_the_rest_stays():
    arguments, settings = submitted(settings=QUICK.override(["model.frames=5"]).to_json())
    assert settings.model.frames == 5
    assert (arguments.work_dir, arguments.label_names) == ("work", ("red",))
    assert arguments.code == json_utils.loads(COMPILED["custom_config"])["code"]


def test_training_settings_override_all_settings():
    text = QUICK.override(["training.seed=3"]).to_json()
    _, settings = submitted(settings=text, training='{"seed": 4, "phases.warm_up.epochs": 2}', labels='["blue"]')
    assert settings.training.seed == 4
    assert settings.training.phases[0].epochs == 2


def test_settings_that_a_training_does_not_use_do_not_change_its_checkpoints():
    before, _ = submitted(settings=QUICK.to_json())
    after, _ = submitted(settings=QUICK.override(["evaluation.seed=9", "serving.bulk_infer=test"]).to_json())
    assert after == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"settings": "{"}, "settings: not JSON"),
        ({"settings": '{"model": {"frame": 5}}'}, "did you mean 'frames'"),
        ({"settings": "{}", "training": "{"}, "training: not JSON"),
        ({"settings": "{}", "training": "[]"}, "training: found"),
        ({"settings": "{}", "training": '{"sead": 1}'}, "did you mean 'seed'"),
        ({"settings": "{}", "labels": "red"}, "label_names: not JSON"),
        ({"settings": "{}", "labels": '{"red": 1}'}, "label_names: found"),
        ({"settings": json.dumps({"training": {"init_from": "blocks"}})}, "was compiled with ''"),
    ],
)
def test_invalid_values_are_refused(given, words):
    with pytest.raises(ConfigError, match=r".*") as raised:
        submitted(**given)
    assert words in str(raised.value)
