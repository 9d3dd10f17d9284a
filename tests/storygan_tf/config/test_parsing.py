"""Reading settings from JSON and from assignments, and writing the assignments that lead to them."""

from __future__ import annotations

import pytest

from storygan_tf.common.errors import ConfigError
from storygan_tf.config import presets
from storygan_tf.config.schema import PhaseConfig, Settings, StoryGANConfig, TrainConfig


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"modle": {}}', r"unknown key 'modle'; did you mean 'model'\?"),
        ('{"model": {"generator_widht": 8}}', r"'model.generator_widht'; did you mean 'generator_width'\?"),
        ('{"training": {"phases": [{"epoch": 1}]}}', r"'training.phases.0.epoch'; did you mean 'epochs'\?"),
        ('{"model": {"xyzzy": 8}}', r"unknown key 'model.xyzzy' \(expected one of frames, sentence_size"),
        ('{"model": {"frames": "4"}}', "model.frames: found '4', expected a whole number"),
        ('{"model": {"frames": 4.0}}', "model.frames: found 4.0, expected a whole number"),
        ('{"model": {"frames": true}}', "model.frames: found True, expected a whole number"),
        ('{"model": {"frames": null}}', "model.frames: found None, expected a whole number"),
        ('{"model": {"spectral_norm": 1}}', "model.spectral_norm: found 1, expected true or false"),
        ('{"data": {"test_fraction": "0.1"}}', "data.test_fraction: found '0.1', expected a number"),
        ('{"data": {"encoder": 3}}', "data.encoder: found 3, expected a string"),
        (
            '{"data": {"format": "clevr_sv"}}',
            r"data.format: .* one of auto, story-folder, clevr-sv, .*; did you mean 'clevr-sv'",
        ),
        ('{"data": {"pororo_split": "v2"}}', "data.pororo_split: found 'v2', expected one of seen-unseen, train-test"),
        ('{"training": {"phases": {}}}', "training.phases: found {}, expected a list"),
        ('{"training": {"phases": [3]}}', "training.phases.0: found 3, expected a mapping"),
        ('{"model": 4}', "model: found 4, expected a mapping"),
        ("[]", r"settings: found \[\], expected a mapping"),
        ("not json", "settings: not JSON"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        Settings.from_json(text)


# Overrides

TWO = Settings(training=TrainConfig(phases=(PhaseConfig(name="warm_up"), PhaseConfig(name="adversarial"))))


def test_overrides_by_name_and_by_index():
    changed = TWO.override(
        [
            "model.frames=5",
            "training.phases.warm_up.epochs=3",
            "training.phases.1.epochs=4",
            "training.phases.1.schedule=algorithm1",
            "data.encoder=embedded",
            "model.spectral_norm=true",
            "data.test_fraction=1",
        ]
    )
    assert changed.model == StoryGANConfig(frames=5, spectral_norm=True)
    assert [phase.epochs for phase in changed.training.phases] == [3, 4]
    assert (changed.data.encoder, changed.data.test_fraction) == ("embedded", 1.0)
    assert TWO.training.phases[0].epochs == 1


def test_a_whole_list_can_be_replaced():
    changed = TWO.override(['training.phases=[{"name": "one", "epochs": 7}]'])
    assert changed.training.phases == (PhaseConfig(name="one", epochs=7),)


def test_the_last_override_counts_and_values_may_contain_equals_signs():
    assert TWO.override(["training.seed=3", "training.seed=4"]).training.seed == 4
    assert TWO.override(["data.encoder=https://host/model?format=a"]).data.encoder == "https://host/model?format=a"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("model.frames", "--set 'model.frames': expected key=value"),
        ("modle.frames=4", r"--set modle.frames: unknown key 'modle'; did you mean 'model'\?"),
        ("model.frame=4", r"--set model.frame: unknown key 'frame'; did you mean 'frames'\?"),
        ("model.frames=four", "model.frames: found 'four', expected a whole number"),
        ("model.frames.x=4", r"unknown key 'x' \(it has no parts\)"),
        ("data.encoder.x=4", r"unknown key 'x' \(it has no parts\)"),
        (
            "training.phases.warmup.epochs=3",
            r"training.phases.warmup.epochs: unknown key 'warmup'; did you mean 'warm_up'\?",
        ),
        ("training.phases.2.epochs=3", r"unknown key '2' \(expected one of warm_up, adversarial\)"),
        ("training.phases.0.epoch=3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("training.phases.0.name=adversarial", "training.phases: .* different names"),
        ("=3", "unknown key ''"),
    ],
)
def test_wrong_overrides_are_refused(assignment, words):
    with pytest.raises(ConfigError, match=words):
        TWO.override([assignment])


@pytest.mark.parametrize(
    "assignments",
    [
        [],
        ["training.seed=3", "training.phases.warm_up.epochs=7", "evaluation.min_placed_over_random=null"],
        ['training.phases=[{"name": "one", "epochs": 7}]', 'data.encoder="a b"'],
    ],
)
def test_the_changes_of_settings_lead_to_them(assignments):
    quick = presets.load("quick")
    changed = quick.override(assignments)
    changes = changed.changes(quick)
    assert len(changes) == len(assignments)
    assert quick.override(changes) == changed


def test_a_whole_phase_can_be_replaced_by_number_or_name():
    phase = '{"name": "other", "epochs": 3}'
    for key in ("training.phases.0", "training.phases.warm_up"):
        changed = presets.load("quick").override([f"{key}={phase}"])
        assert (changed.training.phases[0].name, changed.training.phases[0].epochs) == ("other", 3)
