"""The configuration: a JSON round trip, strictness about names and types, overrides."""

from __future__ import annotations

import dataclasses
import json
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storygan_tf.common.errors import ConfigError
from storygan_tf.config import presets
from storygan_tf.config.schema import (
    DataConfig,
    EvaluationConfig,
    PhaseConfig,
    Settings,
    StoryGANConfig,
    TrainConfig,
    from_dict,
)

counts = st.integers(1, 10_000)
batches = st.integers(2, 10_000)
positive = st.floats(0, 1e6, allow_subnormal=False)
words = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
choices: dict[str, st.SearchStrategy] = {
    field: st.sampled_from(typing.get_args(hint))
    for cls in (StoryGANConfig, PhaseConfig, TrainConfig, DataConfig)
    for field, hint in typing.get_type_hints(cls).items()
    if typing.get_origin(hint) is typing.Literal
}


@st.composite
def models(draw: st.DrawFn) -> StoryGANConfig:
    filters = draw(st.sampled_from([1, 2, 4, 8, 16]))
    return StoryGANConfig(
        frames=draw(counts),
        sentence_size=draw(counts),
        noise_size=draw(counts),
        context_size=16 * draw(st.integers(1, 20)),
        filter_count=filters,
        filter_length=filters + 2 * draw(st.integers(0, 30)),
        generator_width=8 * draw(st.integers(1, 100)),
        discriminator_width=draw(counts),
        spectral_norm=draw(st.booleans()),
        gist=draw(choices["gist"]),
        story_noise=draw(st.booleans()),
        labels=draw(st.integers(0, 40)),
    )


def phases(name: str) -> st.SearchStrategy[PhaseConfig]:
    numbers = [field.name for field in dataclasses.fields(PhaseConfig) if field.type == "float"]
    return st.builds(
        PhaseConfig,
        name=st.just(name),
        epochs=counts,
        image_batch=batches,
        story_batch=counts,
        image_steps=counts,
        story_steps=counts,
        generator_steps=counts,
        mismatched=st.booleans(),
        **{field: choices[field] for field in ("schedule", "decay", "generator_loss")},
        **dict.fromkeys(numbers, positive)
        | {"l1_weight": st.floats(0.1, 100)}
        | dict.fromkeys(("beta_1", "beta_2", "average"), st.floats(0, 1, exclude_max=True)),
    )


trainings = st.builds(
    TrainConfig,
    seed=st.integers(0, 2**32 - 1),
    steps_per_epoch=st.integers(0, 10_000),
    phases=st.lists(words, min_size=1, max_size=3, unique=True).flatmap(
        lambda names: st.tuples(*[phases(name) for name in names])
    ),
    strategy=choices["strategy"],
    xla=st.booleans(),
    mixed_precision=st.booleans(),
    init_from=words,
    rollbacks=st.integers(0, 9),
    storyboard_stories=counts,
)
data = st.builds(
    DataConfig,
    encoder=st.text(min_size=1),
    format=choices["format"],
    max_reject_fraction=st.floats(0, 1),
    test_fraction=st.floats(0, 1),
    max_sentence_length=counts,
    frame_seed=counts,
    pororo_split=choices["pororo_split"],
    drop_leaks=st.booleans(),
)
evaluations = st.builds(
    EvaluationConfig,
    seed=counts,
    min_ssim_over_random=st.floats(-1, 1),
    min_f1_over_floor=st.floats(-1, 1),
    classifier_epochs=counts,
)
all_settings = st.builds(Settings, preset=words, model=models(), training=trainings, data=data, evaluation=evaluations)


@settings(max_examples=60, deadline=None)
@given(all_settings)
def test_json_round_trip(value):
    text = value.to_json()
    assert Settings.from_json(text) == value
    assert "\n" not in text
    assert text == json.dumps(json.loads(text), sort_keys=True)


def test_parts_as_json():
    text = Settings().to_json("training", "model.frames")
    assert json.loads(text).keys() == {"training", "model"}
    assert json.loads(text)["model"] == {"frames": 4}
    assert Settings.from_json(text) == Settings()


def test_fields_that_are_left_out_keep_their_defaults():
    assert Settings.from_json("{}") == Settings()
    assert Settings.from_json('{"model": {"frames": 5}}').model == StoryGANConfig(frames=5)


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
def test_what_is_not_understood_is_told(text, words):
    with pytest.raises(ConfigError, match=words):
        Settings.from_json(text)


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    [
        (StoryGANConfig, {"frames": 0}, "model.frames: found 0"),
        (StoryGANConfig, {"generator_width": 12}, "model.generator_width: found 12, expected a multiple of 8"),
        (StoryGANConfig, {"context_size": 40}, "model.context_size: found 40, expected a multiple of 16"),
        (StoryGANConfig, {"filter_count": 3}, "model.context_size: found 128, expected .* model.filter_count"),
        (StoryGANConfig, {"filter_length": 8}, "model.filter_length: found 8, expected at least the stride 16"),
        (StoryGANConfig, {"filter_length": 65}, "model.filter_length: found 65, .* same parity"),
        (PhaseConfig, {"name": "3"}, "training.phases: name: found '3', expected a word"),
        (PhaseConfig, {"epochs": -1}, "training.phases.adversarial.epochs: found -1, expected at least 0"),
        (TrainConfig, {"phases": [{"epochs": 0}]}, r"training.phases: epochs: found \[0\], expected at least one"),
        (PhaseConfig, {"l1_weight": -1.0}, "training.phases.adversarial.l1_weight: found -1.0"),
        (PhaseConfig, {"l1_weight": float("nan")}, "training.phases.adversarial.l1_weight: found nan"),
        (PhaseConfig, {"image_steps": 0, "story_steps": 0}, "expected an update of either kind"),
        (PhaseConfig, {"schedule": "pixel"}, "l1_weight: found 0.0, expected a pixel loss"),
        (TrainConfig, {"phases": []}, "training.phases: .* at least one phase"),
        (TrainConfig, {"phases": [{}, {}]}, "training.phases: .* different names"),
        (TrainConfig, {"steps_per_epoch": -1}, "training.steps_per_epoch: found -1"),
        (DataConfig, {"encoder": ""}, "data.encoder: found ''"),
        (DataConfig, {"max_reject_fraction": 1.5}, "data.max_reject_fraction: found 1.5, expected a fraction"),
        (DataConfig, {"max_sentence_length": 0}, "data.max_sentence_length: found 0"),
        (DataConfig, {"frame_seed": -1}, "data.frame_seed: found -1, expected a whole number from 0"),
    ],
)
def test_values_out_of_range_are_told(cls, values, words):
    with pytest.raises(ConfigError, match=words):
        from_dict(cls, values)


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


def test_a_whole_list_can_be_given():
    changed = TWO.override(['training.phases=[{"name": "one", "epochs": 7}]'])
    assert changed.training.phases == (PhaseConfig(name="one", epochs=7),)


def test_the_last_of_two_overrides_counts_and_values_may_hold_equals_signs():
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
def test_overrides_that_are_not_understood_are_told(assignment, words):
    with pytest.raises(ConfigError, match=words):
        TWO.override([assignment])


def test_the_configuration_is_frozen_and_can_be_a_key():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TWO.model.frames = 5  # type: ignore[misc]
    assert len({TWO, Settings.from_json(TWO.to_json()), Settings()}) == 2


@pytest.mark.parametrize(
    "assignments",
    [
        [],
        ["training.seed=3", "training.phases.warm_up.epochs=7", "evaluation.min_placed_over_random=null"],
        ['training.phases=[{"name": "one", "epochs": 7}]', 'data.encoder="a b"'],
    ],
)
def test_the_changes_of_settings_give_them_again(assignments):
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


@pytest.mark.parametrize(
    "assignment",
    [
        "training.seed=-1",
        "training.phases.0.generator_learning_rate=-0.1",
        "training.phases.0.generator_learning_rate=NaN",
        "training.phases.0.beta_1=1",
        "training.phases.1.image_weight=-1",
        "training.phases.1.l1_weight=Infinity",
    ],
)
def test_numbers_out_of_range_are_named(assignment):
    with pytest.raises(ConfigError, match="expected"):
        presets.load("quick").override([assignment])
