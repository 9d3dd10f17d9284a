"""Every preset loads, names its command in its docstring, and has a JSON round trip."""

from __future__ import annotations

import importlib

import pytest

from storygan_tf.common.errors import ConfigError
from storygan_tf.config import presets
from storygan_tf.config.schema import USE_V4, PhaseConfig, Settings, StoryGANConfig
from storygan_tf.data.datasets import flintstones, pororo


def test_names():
    assert {"paper", "quick"} <= set(presets.names())
    assert presets.names() == sorted(presets.names())


@pytest.mark.parametrize("name", presets.names())
def test_preset(name):
    loaded = presets.load(name)
    assert loaded.preset == name
    assert Settings.from_json(loaded.to_json()) == loaded
    docstring = importlib.import_module(f"storygan_tf.config.presets.{name}").__doc__ or ""
    assert f"`storygan run --data DIR --out RUN_DIR --preset {name}`" in docstring


def test_paper_has_the_papers_numbers():
    paper = presets.load("paper")
    assert paper.model == StoryGANConfig(
        frames=4,
        sentence_size=128,
        noise_size=100,
        context_size=128,
        filter_count=16,
        filter_length=64,
        generator_width=512,
        discriminator_width=64,
        spectral_norm=False,
    )
    (phase,) = paper.training.phases
    assert phase == PhaseConfig(
        name="adversarial",
        epochs=120,
        schedule="algorithm1",
        image_batch=24,
        image_frames="all",
        story_batch=24,
        image_steps=1,
        story_steps=1,
        generator_learning_rate=2e-4,
        discriminator_learning_rate=2e-4,
        beta_1=0.5,
        beta_2=0.999,
        decay="constant",
        image_weight=1.0,
        story_weight=1.0,
        kl_weight=1.0,
        generator_loss="minimax",
        l1_weight=0.0,
        l2_weight=0.0,
        object_weight=1.0,
    )
    assert paper.data.encoder == USE_V4


def test_quick_needs_no_download_and_warms_up():
    quick = presets.load("quick")
    assert quick.data.encoder == "embedded"
    assert [phase.schedule for phase in quick.training.phases] == ["pixel", "algorithm1"]
    assert quick.evaluation.min_ssim_over_random > 0


def test_released_follows_the_released_code():
    (phase,) = presets.load("released").training.phases
    assert phase == PhaseConfig(
        name="adversarial", epochs=120, schedule="joint", generator_steps=2, decay="halving", mismatched=True
    )
    assert (phase.generator_loss, phase.image_frames) == ("non_saturating", "one")
    assert presets.load("released").model == presets.load("paper").model


@pytest.mark.parametrize(("name", "labels"), [("pororo", pororo.LABELS), ("flintstones", flintstones.LABELS)])
def test_the_presets_of_cartoons_have_the_released_schedule(name, labels):
    preset = presets.load(name)
    assert (preset.model.frames, preset.model.labels) == (5, len(labels))
    (phase,) = preset.training.phases
    assert (phase.schedule, phase.generator_steps, phase.epochs) == ("joint", 2, 120)
    assert (phase.image_batch, phase.story_batch) == (24, 24)
    assert (phase.decay, phase.generator_learning_rate, phase.discriminator_learning_rate) == ("halving", 2e-4, 2e-4)
    docstring = importlib.import_module(f"storygan_tf.config.presets.{name}").__doc__ or ""
    assert "Exercised on fixtures only" in docstring


@pytest.mark.parametrize(("name", "words"), [("qick", "did you mean 'quick'"), ("zzz", r"there are: .*paper, .*quick")])
def test_an_unknown_preset_is_refused(name, words):
    with pytest.raises(ConfigError, match=f"no preset '{name}'.*{words}"):
        presets.load(name)
