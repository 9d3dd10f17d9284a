"""Training by phases: the history and logs that it writes, how it uses its settings, which settings it refuses."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from storygan_tf.common.errors import ConfigError
from storygan_tf.config.schema import PhaseConfig, Settings, TrainConfig
from storygan_tf.data.training_input import validation_dataset
from storygan_tf.training.callbacks import step_monitor
from storygan_tf.training.callbacks.divergence import picture_variety
from storygan_tf.training.session import steps_per_epoch
from storygan_tf.training.trainer import check_label_weights, draw_stories
from storygan_tf.training.training_state import read_history

# TensorFlow warns that the input pipeline is a graph nevertheless.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Even though the .tf.config.experimental_run_functions_eagerly:UserWarning"
)


@pytest.mark.slow
def test_the_seed_decides(training, tmp_path):
    one = training.make(tmp_path / "one", "training.phases.warm_up.epochs=1").run()
    other = training.make(tmp_path / "two", "training.phases.warm_up.epochs=1", "training.seed=2").run()
    assert np.abs(one.weights[0] - other.weights[0]).max() > 1e-3


@pytest.fixture
def clock(monkeypatch) -> Iterator[int]:
    """Replaces the clock of steps by one that advances by a second each time it is read."""
    seconds = itertools.count()
    monkeypatch.setattr(step_monitor, "time", types.SimpleNamespace(perf_counter=lambda: float(next(seconds))))
    return seconds


@pytest.mark.usefixtures("clock")
def test_the_history_and_tensorboard_describe_each_epoch(training, tmp_path):
    held_out = training.stories.first(3)
    trainer = training.make(tmp_path, "training.phases.warm_up.epochs=1", validation=held_out)
    trainer.run()
    first, last = read_history(tmp_path)
    assert [first, last] == trainer.state.history
    assert [(entry["phase"], entry["epoch"], entry["step"]) for entry in (first, last)] == [
        ("warm_up", 1, 2),
        ("adversarial", 1, 2),
    ]
    assert {"l1", "kl"} <= set(first["losses"])
    assert {"image_discriminator", "story_accuracy"} <= set(last["losses"])
    assert all(np.isfinite(list(entry["losses"].values())).all() for entry in (first, last))
    assert list(first["validation"]) == ["kl", "l1", "l2", "ssim", "sharpness"]
    with trainer.strategy.scope():
        again = trainer.gan.evaluate(validation_dataset(held_out, 4), verbose=0, return_dict=True)
    assert last["validation"] == pytest.approx(again, rel=1e-5)
    assert first["learning_rates"] == last["learning_rates"] == {"generator": 2e-4, "discriminator": 2e-4}
    assert not any("rollbacks" in entry for entry in (first, last))
    drawn = draw_stories(trainer.gan, training.stories.vectors[:2])
    assert last["variety"] == pytest.approx(picture_variety(drawn, training.stories.images[:2]))
    # Each step takes a second. The first one, which builds the graph, does not count for the speed.
    assert [(entry["seconds"], entry["stories_per_second"]) for entry in (first, last)] == [(2.0, 4.0), (2.0, 4.0)]
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"warm_up/l1", "adversarial/image_discriminator", "adversarial/kl", "storyboard", "variety"} <= set(tags)
    assert {"warm_up/validation_ssim", "adversarial/validation_story_accuracy"} <= set(tags)
    assert [event.step for event in events.Tensors("storyboard")] == [1, 2]


@pytest.mark.slow
def test_an_epoch_of_one_step_which_builds_the_graph_has_no_speed(training, tmp_path):
    training.phases(PhaseConfig(name="short", schedule="pixel", story_batch=4, l1_weight=1.0), steps_per_epoch=1)
    training.make(tmp_path).run()
    assert "stories_per_second" not in read_history(tmp_path)[0]


@pytest.mark.slow
def test_without_boards_nothing_is_drawn(training, tmp_path):
    training.phases(PhaseConfig(name="short", schedule="pixel", story_batch=4, l1_weight=1.0))
    trainer = training.make(tmp_path)
    trainer.boards = trainer.log.boards = training.stories.first(0)
    trainer.run()
    assert read_history(tmp_path)[0]["variety"] is None


def test_boards_are_drawn_with_averaged_weights(training, tmp_path):
    trainer = training.make(tmp_path)
    gan, vectors = trainer.gan, training.stories.vectors[:2]
    averaged, plain = training.settings.training.phases
    with trainer.strategy.scope():
        gan.compile(averaged, steps=2)
    before = draw_stories(gan, vectors)
    assert before.shape == (2, 2, 64, 64, 3)
    assert before.dtype == np.uint8
    for weight in gan.generator.trainable_variables:
        weight.assign(weight + 1.0)
    np.testing.assert_array_equal(draw_stories(gan, vectors), before)
    with trainer.strategy.scope():
        gan.compile(plain, steps=2)
    assert np.abs(draw_stories(gan, vectors).astype(int) - before).max() > 9


@pytest.mark.slow
def test_initial_weights_are_set_once(training, tmp_path):
    training.phases(PhaseConfig(name="still", schedule="pixel", story_batch=4, l1_weight=1.0), steps_per_epoch=1)
    rates = "training.phases.still.generator_learning_rate=0"
    strategies = []

    def initial(gan):
        strategies.append(tf.distribute.get_strategy())
        gan.generator.weights[0].assign(tf.ones_like(gan.generator.weights[0]))

    first = training.make(tmp_path, rates, initial=initial)
    assert np.all(first.run().generator.weights[0] == 1.0)
    assert np.all(training.make(tmp_path, rates, initial=initial).run().generator.weights[0] == 1.0)
    assert strategies == [first.strategy]


def test_steps_of_an_epoch_are_as_configured_or_one_pass():
    phase = PhaseConfig(story_batch=24)
    assert steps_per_epoch(TrainConfig(), phase, 100) == 5
    assert steps_per_epoch(TrainConfig(), phase, 3) == 1
    assert steps_per_epoch(TrainConfig(steps_per_epoch=7), phase, 100) == 7


@pytest.mark.parametrize("field", ["label_weight", "generator_label_weight"])
def test_label_losses_of_a_model_without_labels_are_refused(field):
    settings = Settings().override([f"training.phases.adversarial.{field}=0.5"])
    with pytest.raises(ConfigError, match=rf"training\.phases\.adversarial\.{field}: found 0\.5 with model\.labels=0"):
        check_label_weights(settings)
    check_label_weights(settings.override(["model.labels=3"]))


def test_a_phase_of_no_epochs_is_left_out(training, tmp_path):
    short = ("training.phases.warm_up.epochs=1", "training.steps_per_epoch=1")
    left_out = training.make(tmp_path / "a", *short, "training.phases.adversarial.epochs=0").run()
    training.phases(training.settings.training.phases[0])
    alone = training.make(tmp_path / "b", *short).run()
    assert [entry["phase"] for entry in read_history(tmp_path / "a")] == ["warm_up"]
    for one, other in zip(left_out.averaged.weights, alone.averaged.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_mixed_precision_computes_in_16_bits_and_keeps_weights_in_32(training, tmp_path):
    training.phases(PhaseConfig(schedule="joint", image_batch=2, story_batch=2), steps_per_epoch=1)
    gan = training.make(tmp_path, "training.mixed_precision=true").run()
    layers = [layer for layer in gan.submodules if isinstance(layer, keras.layers.Conv2D)]
    assert "bfloat16" in {layer.compute_dtype for layer in layers}
    assert {weight.dtype for weight in gan.trainable_weights} == {tf.float32}
    assert keras.mixed_precision.global_policy().name == "float32"
    assert keras.layers.Dense(3).compute_dtype == "float32"


@pytest.mark.slow
def test_xla_trains_to_the_same_losses(training, tmp_path):
    tf.config.run_functions_eagerly(False)
    training.phases(PhaseConfig(name="warm_up", schedule="pixel", story_batch=4, l1_weight=1.0))
    histories = []
    for xla in ("false", "true"):
        trainer = training.make(tmp_path / xla, f"training.xla={xla}")
        assert trainer.run().jit_compile is (xla == "true")
        histories.append(read_history(tmp_path / xla))
    plain, compiled = histories
    assert compiled[0]["losses"] == pytest.approx(plain[0]["losses"], rel=1e-4)
