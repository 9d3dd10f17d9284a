"""Layers in 16 bits under a policy of `keras.mixed_precision`: what stays in float32, and how far losses are off."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.data.training_input import training_dataset
from storygan_tf.training.storygan import StoryGAN


@pytest.fixture(autouse=True)
def policy_as_before() -> Iterator[None]:
    before = keras.mixed_precision.global_policy()
    yield
    keras.mixed_precision.set_global_policy(before)


@pytest.fixture(scope="module")
def make(labelling) -> Callable[[str], StoryGAN]:
    """Returns a function that gives a model of a policy with its initial weights; it is built once a module.

    The policy is global only while the model is built.
    """
    built: dict[str, tuple[StoryGAN, list[tuple[tf.Variable, np.ndarray]]]] = {}

    def get(policy: str) -> StoryGAN:
        if policy not in built:
            keras.utils.set_random_seed(7)
            keras.mixed_precision.set_global_policy(policy)
            gan = StoryGAN(labelling)
            keras.mixed_precision.set_global_policy("float32")
            built[policy] = gan, [(variable, variable.numpy()) for variable in gan.variables]
        gan, values = built[policy]
        for variable, value in values:
            variable.assign(value)
        return gan

    return get


@pytest.mark.parametrize(("policy", "half"), [("mixed_bfloat16", "bfloat16"), ("mixed_float16", "float16")])
def test_convolutions_compute_in_16_bits_and_the_rest_in_float32(make, policy, half):
    gan = make(policy)
    assert {weight.dtype.base_dtype for weight in gan.weights} == {tf.float32}
    layers = [layer for network in gan.networks for layer in layers_of(network)]
    computing = {layer.name: layer.compute_dtype for layer in layers if not layers_of(layer)}
    assert computing["block_4"] == computing["block_8"] == computing["rgb"] == half
    assert computing["conv_1"] == computing["joint"] == computing["image_conv"] == half
    assert {dtype for name, dtype in computing.items() if "norm" in name} == {"float32"}
    logits = ("score", "labels", "text_dense")
    recurrent = ("dense", "mu", "log_var", "gru", "filter_dense")
    assert {computing[name] for name in (*logits, *recurrent)} == {"float32"}
    assert {layer.compute_dtype for layer in (gan.averaged, *layers_of(gan.averaged))} == {"float32"}


def layers_of(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    return [each for each in layer.submodules if isinstance(each, keras.layers.Layer)]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_outputs_are_float32_and_near_those_of_float32(make, labelled, policy):
    """Pictures to 0.02, two to three grey levels."""
    drawn = []
    for each in ("float32", policy):
        gan = make(each)
        output = gan(tf.constant(labelled.vectors[:4]), seed=tf.range(4, dtype=tf.int64))
        images = gan.image_discriminator(output.images[:, 0], labelled.vectors[:4, 0], output.h0)
        whole = gan.story_discriminator(output.images, labelled.vectors[:4])
        labels = gan.image_discriminator.classify(gan.image_discriminator.trunk(output.images[:, 0])[-1])
        assert {value.dtype for value in (*output[:-1], images, whole, labels)} == {tf.float32}
        drawn.append(output)
    np.testing.assert_allclose(drawn[1].images, drawn[0].images, atol=0.02)
    for name in ("mu", "log_var", "h0"):
        np.testing.assert_array_equal(getattr(drawn[1], name), getattr(drawn[0], name))


@pytest.mark.parametrize("schedule", ["pixel", "joint"])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_losses_of_a_step_are_those_of_float32(make, labelled, every_option, schedule, policy):
    """Allows a difference of 3% with learning rates of 0."""
    phase = PhaseConfig(
        schedule=schedule,
        image_batch=4,
        story_batch=4,
        generator_learning_rate=0.0,
        discriminator_learning_rate=0.0,
        **every_option,
    )
    data = next(iter(training_dataset(labelled, phase, (1, 0), 0, 1)))
    found = []
    for each in ("float32", policy):
        gan = make(each)
        gan.compile(phase, steps=10)
        found.append({name: float(value) for name, value in gan.train_step(data).items()})
    for name, expected in found[0].items():
        if "accuracy" in name:
            assert found[1][name] == pytest.approx(expected, abs=0.25)
        else:
            assert found[1][name] == pytest.approx(expected, rel=0.03), name


@pytest.mark.slow
def test_float16_scales_the_losses_and_the_gradients_back(make, labelled):
    """Adam's first moments are those of float32 to 5 % of their length; unscaled they would be 32768 times as long."""
    phase = PhaseConfig(schedule="joint", image_batch=4, story_batch=4)
    data = next(iter(training_dataset(labelled, phase, (1, 0), 0, 1)))
    moments = []
    for policy in ("float32", "mixed_float16"):
        gan = make(policy)
        gan.compile(phase, steps=10)
        scaled = [isinstance(each, keras.mixed_precision.LossScaleOptimizer) for each in gan.optimizers]
        assert scaled == [policy == "mixed_float16"] * 3
        gan.train_step(data)
        slots = [each.variables for each in (gan.optimizers.image_discriminator, gan.optimizers.story_discriminator)]
        moments.append(np.concatenate([slot.numpy().ravel() for each in slots for slot in each if "m/" in slot.name]))
    assert np.linalg.norm(moments[1] - moments[0]) < 0.05 * np.linalg.norm(moments[0])


def test_bfloat16_needs_no_scale(make):
    gan = make("mixed_bfloat16")
    gan.compile(PhaseConfig(), steps=1)
    assert {type(optimizer) for optimizer in gan.optimizers} == {keras.optimizers.Adam}
