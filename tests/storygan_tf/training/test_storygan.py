"""StoryGAN as a Keras model: the scale of pictures, `fit`, reported losses, arguments."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import storygan_tf
from storygan_tf.common.errors import ConfigError
from storygan_tf.config.schema import PhaseConfig
from storygan_tf.data.stories import Stories
from storygan_tf.data.training_input import training_dataset
from storygan_tf.training.storygan import StoryGAN, make_optimizers, to_float, to_uint8
from storygan_tf.training.validation import validated_names


@pytest.fixture(scope="module")
def built(config) -> tuple[StoryGAN, list[tuple[tf.Variable, np.ndarray]]]:
    """Returns a model and its initial values; built once, because that takes longer than most tests."""
    keras.utils.set_random_seed(1)
    gan = StoryGAN(config)
    return gan, [(variable, variable.numpy()) for variable in gan.variables]


@pytest.fixture
def gan(built) -> StoryGAN:
    gan, values = built
    keras.utils.set_random_seed(1)
    for variable, value in values:
        variable.assign(value)
    return gan


def fit(gan: StoryGAN, stories: Stories, phase: PhaseConfig, steps: int = 1, **arguments) -> dict[str, float]:
    gan.compile(phase, steps=steps, run_eagerly=True, **arguments)
    data = training_dataset(stories, phase, (1, 0), 0, steps)
    return {name: values[0] for name, values in gan.fit(data, steps_per_epoch=steps, verbose=0).history.items()}


def test_the_public_names():
    assert storygan_tf.StoryGAN is StoryGAN
    assert set(storygan_tf.__all__) <= set(dir(storygan_tf))
    with pytest.raises(AttributeError, match="no attribute 'StoryGun'"):
        _ = storygan_tf.StoryGun


def test_every_grey_level_survives_the_way_to_float_and_back():
    levels = np.arange(256, dtype=np.uint8)
    scaled = to_float(tf.constant(levels))
    assert (float(scaled[0]), float(scaled[-1])) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_uint8(scaled), levels)


def test_pictures_are_rounded_and_kept_in_range():
    values = tf.constant([-1.5, -1.0, -1 + 0.6 / 127.5, 0.0, 1.0, 1.5])
    np.testing.assert_array_equal(to_uint8(values), [0, 0, 1, 128, 255, 255])


def test_a_call_is_the_generators(gan):
    vectors, seed = tf.random.normal([3, 2, 6]), tf.constant([4, 5, 6], tf.int64)
    for one, other in zip(gan(vectors, seed=seed), gan.generator(vectors, seed=seed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_a_seed_every_story_has_fresh_noise_that_its_seed_repeats(gan):
    vectors = tf.repeat(tf.random.normal([1, 2, 6]), 2, axis=0)
    first, second = gan(vectors), gan(vectors)
    assert len({*first.seed.numpy(), *second.seed.numpy()}) == 4
    assert not np.array_equal(first.images[0], first.images[1])
    np.testing.assert_array_equal(gan(vectors, seed=first.seed).images, first.images)
    tf.random.set_seed(5)
    third = gan(vectors)
    tf.random.set_seed(5)
    np.testing.assert_array_equal(gan(vectors).seed, third.seed)


def test_the_discriminators_are_called_as_documented(gan):
    output = gan(tf.zeros([3, 2, 6]))
    assert gan.image_discriminator(output.images[:, 0], tf.zeros([3, 6]), output.h0).shape == (3,)
    assert gan.story_discriminator(output.images, tf.zeros([3, 2, 6])).shape == (3,)


PIXEL = PhaseConfig(schedule="pixel", story_batch=4, l1_weight=2.0, l2_weight=3.0)
ALGORITHM1 = PhaseConfig(image_batch=4, story_batch=2, image_steps=2)
JOINT = PhaseConfig(schedule="joint", image_batch=4, story_batch=2, generator_steps=2)
ADVERSARIAL = (
    "image_discriminator",
    "image_generator",
    "image_accuracy",
    "story_discriminator",
    "story_generator",
    "story_accuracy",
)
REPORTED = {
    "pixel": ("kl", "l1", "l2"),
    "algorithm1": (*ADVERSARIAL, "kl", "l1", "l2"),
    "joint": (*ADVERSARIAL, "kl", "l1", "l2"),
}


@pytest.mark.parametrize("phase", [PIXEL, ALGORITHM1, JOINT], ids=lambda phase: phase.schedule)
def test_a_step_reports_finite_losses_by_name(gan, stories, phase):
    losses = fit(gan, stories, phase)
    assert tuple(losses) == REPORTED[phase.schedule]
    assert all(np.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("phase", [PIXEL, ALGORITHM1], ids=lambda phase: phase.schedule)
def test_the_same_seeds_give_the_same_training(config, stories, phase):
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        gan = StoryGAN(config)
        fit(gan, stories, phase, steps=2)
        weights.append(gan.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pixel_training_learns(gan, stories):
    """Trains on dark frames; the mean error, about 1 for random grey at the start, decreases."""
    phase = PhaseConfig(schedule="pixel", story_batch=8, l1_weight=1.0, generator_learning_rate=1e-2, kl_weight=0.0)
    dark = dataclasses.replace(stories, images=stories.images // 8)
    first = fit(gan, dark, phase, steps=1)
    last = fit(gan, dark, phase, steps=10)
    assert last["l1"] < 0.9 * first["l1"]


def test_reported_losses_are_means_over_the_steps(gan, stories):
    """With learning rates of 0 and batches of one story, two steps report the mean of the losses of both."""
    phase = PhaseConfig(schedule="pixel", story_batch=4, l1_weight=1.0, generator_learning_rate=0.0)
    gan.compile(phase, steps=2, run_eagerly=True)

    def report(start: int, steps: int) -> float:
        data = training_dataset(stories, phase, (1, 0), start, steps)
        return gan.fit(data, steps_per_epoch=steps, verbose=0).history["l1"][0]

    assert report(0, 2) == pytest.approx((report(0, 1) + report(1, 1)) / 2, rel=1e-5)


def test_object_weight_counts_against_the_background(gan, stories):
    """A background that is the true picture leaves no object; a distant one makes every pixel an object."""
    phase = PhaseConfig(
        schedule="pixel", story_batch=8, l1_weight=1.0, object_weight=5.0, generator_learning_rate=0.0, kl_weight=0.0
    )
    same = dataclasses.replace(stories, images=np.full_like(stories.images, 200))
    losses = [fit(gan, same, phase, background=np.full([64, 64, 3], grey, np.uint8))["l1"] for grey in (200, 100)]
    assert losses[1] == pytest.approx(5 * losses[0], rel=1e-5)


def test_an_object_weight_without_a_background_shows(gan, stories):
    """The loss is NaN, at which a training stops, instead of a number without meaning."""
    phase = PhaseConfig(schedule="pixel", story_batch=8, l1_weight=1.0, object_weight=5.0)
    weights = tf.reduce_mean(gan.background)
    assert np.isnan(weights)
    assert fit(gan, stories, phase, background=np.zeros([64, 64, 3], np.uint8))["l1"] > 0
    assert np.all(gan.background == -1.0)


def test_compile_starts_fresh_optimizers(gan, stories):
    fit(gan, stories, ALGORITHM1)
    old = gan.optimizers
    gan.compile(PIXEL, steps=3)
    assert [int(optimizer.iterations) for optimizer in gan.optimizers] == [0, 0, 0]
    assert not {id(optimizer) for optimizer in old} & {id(optimizer) for optimizer in gan.optimizers}
    assert [metric.name for metric in gan.metrics] == [*REPORTED["pixel"], *validated_names(PIXEL)]


@pytest.mark.parametrize(
    ("phase", "updates"),
    [
        (PhaseConfig(decay="linear", image_steps=2, story_steps=3), (50, 20, 30)),
        (PhaseConfig(decay="linear", schedule="pixel", l1_weight=1.0, story_steps=2), (20, 1, 1)),
        (PhaseConfig(decay="linear", schedule="joint", generator_steps=3, image_steps=5), (30, 10, 10)),
        (PhaseConfig(decay="linear", image_steps=0), (10, 1, 10)),
    ],
)
def test_learning_rates_fall_over_each_networks_own_updates(phase, updates):
    optimizers = make_optimizers(phase, steps=10)
    schedules = [optimizer.get_config()["learning_rate"] for optimizer in optimizers]
    assert {schedule["registered_name"] for schedule in schedules} == {"storygan>LinearTail"}
    assert tuple(schedule["config"]["updates"] for schedule in schedules) == updates


def test_label_losses_need_a_model_with_labels(gan):
    with pytest.raises(ConfigError, match=r"phases.adversarial.label_weight: found 0.5 .*model.labels is 0"):
        gan.compile(PhaseConfig(label_weight=0.5))


def test_adam_is_as_configured():
    phase = PhaseConfig(generator_learning_rate=1e-3, discriminator_learning_rate=4e-4, beta_1=0.3, beta_2=0.9)
    optimizers = make_optimizers(phase, steps=10)
    assert [float(optimizer.learning_rate) for optimizer in optimizers] == pytest.approx([1e-3, 4e-4, 4e-4])
    assert {(optimizer.beta_1, optimizer.beta_2) for optimizer in optimizers} == {(0.3, 0.9)}
