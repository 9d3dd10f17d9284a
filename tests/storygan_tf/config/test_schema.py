"""The configuration: a JSON round trip, defaults, and the ranges of values."""

from __future__ import annotations

import dataclasses
import json
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storygan_tf.common.errors import ConfigError
from storygan_tf.config import presets
from storygan_tf.config.parsing import from_dict
from storygan_tf.config.schema import (
    DataConfig,
    EvaluationConfig,
    PhaseConfig,
    Settings,
    StoryGANConfig,
    TrainConfig,
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
    ("cls", "values", "words"),
    [
        (StoryGANConfig, {"frames": 0}, "model.frames: found 0"),
        (StoryGANConfig, {"generator_width": 12}, "model.generator_width: found 12, expected a multiple of 8"),
        (StoryGANConfig, {"context_size": 40}, "model.context_size: found 40, expected a multiple of 16"),
        (StoryGANConfig, {"filter_count": 3}, "model.context_size: found 128, expected .* model.filter_count"),
        (StoryGANConfig, {"filter_length": 8}, "model.filter_length: found 8, expected at least .*16"),
        (StoryGANConfig, {"filter_length": 65}, "model.filter_length: found 65, .* both even or both odd"),
        (PhaseConfig, {"name": "3"}, "training.phases: name: found '3', expected a name"),
        (PhaseConfig, {"epochs": -1}, "training.phases.adversarial.epochs: found -1, expected at least 0"),
        (TrainConfig, {"phases": [{"epochs": 0}]}, r"training.phases: epochs: found \[0\], expected at least one"),
        (PhaseConfig, {"l1_weight": -1.0}, "training.phases.adversarial.l1_weight: found -1.0"),
        (PhaseConfig, {"l1_weight": float("nan")}, "training.phases.adversarial.l1_weight: found nan"),
        (
            PhaseConfig,
            {"image_steps": 0, "story_steps": 0},
            "story_steps: found 0, expected at least 1 if image_steps is 0",
        ),
        (PhaseConfig, {"schedule": "pixel"}, "l1_weight: found 0.0, expected above 0"),
        (TrainConfig, {"phases": []}, "training.phases: .* at least one phase"),
        (TrainConfig, {"phases": [{}, {}]}, "training.phases: .* different names"),
        (TrainConfig, {"steps_per_epoch": -1}, "training.steps_per_epoch: found -1"),
        (DataConfig, {"encoder": ""}, "data.encoder: found ''"),
        (DataConfig, {"max_reject_fraction": 1.5}, "data.max_reject_fraction: found 1.5, expected a fraction"),
        (DataConfig, {"max_sentence_length": 0}, "data.max_sentence_length: found 0"),
        (DataConfig, {"frame_seed": -1}, "data.frame_seed: found -1, expected a whole number from 0"),
    ],
)
def test_values_out_of_range_are_refused(cls, values, words):
    with pytest.raises(ConfigError, match=words):
        from_dict(cls, values)


def test_the_configuration_is_frozen_and_can_be_a_key():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().model.frames = 5  # type: ignore[misc]
    other = Settings().override(["model.frames=5"])
    assert len({other, Settings.from_json(other.to_json()), Settings()}) == 2


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
