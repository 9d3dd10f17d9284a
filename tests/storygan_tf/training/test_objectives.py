"""The objectives of the networks against NumPy, option by option."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.models import losses
from storygan_tf.models.image_discriminator import ImageDiscriminator
from storygan_tf.models.story_discriminator import StoryDiscriminator
from storygan_tf.models.story_generator import GeneratorOutput
from storygan_tf.training import objectives
from storygan_tf.training.objectives import Objective, SingleFrames, StoryFrames

N, T, LABELS = 5, 3, 4
random = np.random.default_rng(0)


def normal(*shape: int) -> tf.Tensor:
    return tf.constant(random.normal(size=shape), tf.float32)


def sigmoid(x: tf.Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


FRAMES = SingleFrames(
    real=normal(N, 64, 64, 3),
    fake=normal(N, 64, 64, 3),
    sentences=normal(N, 6),
    h0=normal(N, 8),
    labels=tf.constant(random.integers(0, 2, [N, LABELS], dtype=np.uint8)),
)
SEEDS = tf.range(N, dtype=tf.int64)
STORIES = StoryFrames(real=normal(N, 2, 64, 64, 3), fake=normal(N, 2, 64, 64, 3), sentences=normal(N, 2, 6))


@pytest.fixture(scope="module")
def image_network() -> ImageDiscriminator:
    keras.utils.set_random_seed(3)
    network = ImageDiscriminator(4, labels=LABELS)
    network(FRAMES.real, FRAMES.sentences, FRAMES.h0)
    return network


@pytest.fixture(scope="module")
def story_network() -> StoryDiscriminator:
    network = StoryDiscriminator(2, 4)
    network(STORIES.real, STORIES.sentences)
    return network


def image_discriminator(network: ImageDiscriminator, **options: float) -> Objective:
    phase = PhaseConfig(**options)
    return objectives.image_discriminator_objective(network, phase, T, FRAMES, loss=losses.discriminator_loss)


def image_generator(network: ImageDiscriminator, **options: float) -> Objective:
    phase, real_maps = PhaseConfig(**options), network.trunk(FRAMES.real, training=True)
    loss = objectives.generator_loss(phase)
    return objectives.image_generator_objective(network, phase, T, FRAMES, real_maps, loss=loss)


def story_discriminator(network: StoryDiscriminator) -> Objective:
    return objectives.story_discriminator_objective(network, STORIES, loss=losses.discriminator_loss)


def story_generator(network: StoryDiscriminator, phase: PhaseConfig) -> Objective:
    return objectives.story_generator_objective(network, phase, STORIES, loss=objectives.generator_loss(phase))


def real_and_fake(network: ImageDiscriminator) -> list[np.ndarray]:
    """Returns the image discriminator's probabilities of real and of generated frames."""
    images = (FRAMES.real, FRAMES.fake)
    return [sigmoid(network(each, FRAMES.sentences, FRAMES.h0, training=True)) for each in images]


# The image discriminator


def test_the_papers_image_discriminator(image_network):
    real, fake = real_and_fake(image_network)
    found = image_discriminator(image_network)
    expected = T * (-np.log(real) - np.log(1 - fake))
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4)
    np.testing.assert_allclose(found.reports["image_discriminator"], expected, rtol=1e-4)
    np.testing.assert_allclose(found.reports["image_accuracy"], ((real > 0.5) + 1.0 * (fake < 0.5)) / 2)
    assert len(found.reports) == 2


def test_mismatched_pairs_are_real_frames_with_the_next_storys_sentence_and_h0(image_network):
    real, fake = real_and_fake(image_network)
    order = [1, 2, 3, 4, 0]
    others = [tf.gather(values, order) for values in (FRAMES.sentences, FRAMES.h0)]
    wrong = sigmoid(image_network(FRAMES.real, *others, training=True))
    expected = T * (-np.log(real) - 0.5 * np.log(1 - fake) - 0.5 * np.log(1 - wrong))
    found = image_discriminator(image_network, mismatched=True)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4)
    assert len(found.reports) == 2


def test_labels_are_those_of_real_frames_and_count_t_times(image_network):
    found = image_discriminator(image_network, label_weight=0.5)
    probabilities = sigmoid(image_network.classify(image_network.trunk(FRAMES.real, training=True)[-1]))
    right = np.where(FRAMES.labels == 1, probabilities, 1 - probabilities)
    expected = T * -np.log(right).mean(axis=1)
    np.testing.assert_allclose(found.reports["image_labels"], expected, rtol=1e-4)
    np.testing.assert_allclose(found.loss, found.reports["image_discriminator"] + 0.5 * expected, rtol=1e-4)


# The generator's objective


def test_the_papers_generator_against_the_image_discriminator(image_network):
    _, fake = real_and_fake(image_network)
    for form, expected in (("non_saturating", -np.log(fake)), ("minimax", np.log(1 - fake))):
        found = image_generator(image_network, generator_loss=form, image_weight=2.0)
        np.testing.assert_allclose(found.reports["image_generator"], T * expected, rtol=1e-4)
        np.testing.assert_allclose(found.loss, 2 * T * expected, rtol=1e-4)
        assert len(found.reports) == 1


def test_the_generator_learns_the_labels_from_generated_frames(image_network):
    found = image_generator(image_network, generator_label_weight=0.4)
    probabilities = sigmoid(image_network.classify(image_network.trunk(FRAMES.fake, training=True)[-1]))
    expected = T * -np.log(np.where(FRAMES.labels == 1, probabilities, 1 - probabilities)).mean(axis=1)
    np.testing.assert_allclose(found.reports["generator_labels"], expected, rtol=1e-4)
    np.testing.assert_allclose(found.loss, found.reports["image_generator"] + 0.4 * expected, rtol=1e-4)


def test_feature_matching_is_a_mean_over_frames_and_maps(image_network):
    found = image_generator(image_network, feature_matching_weight=10.0)
    real, fake = (image_network.trunk(images, training=True) for images in (FRAMES.real, FRAMES.fake))
    assert len(real) == 4
    expected = np.mean([np.abs(a - b).mean(axis=(1, 2, 3)) for a, b in zip(real, fake, strict=True)], axis=0)
    np.testing.assert_allclose(found.reports["feature_matching"], expected, rtol=1e-4)
    np.testing.assert_allclose(found.loss, found.reports["image_generator"] + 10 * expected, rtol=1e-4)


def test_a_term_of_weight_zero_is_reported_and_has_no_part_in_the_loss(image_network):
    found = image_generator(image_network, image_weight=0.0)
    assert np.all(found.reports["image_generator"] > 0)
    np.testing.assert_array_equal(found.loss, np.zeros(N))


# Whole stories


def test_the_papers_story_discriminator(story_network):
    images = (STORIES.real, STORIES.fake)
    real, fake = (sigmoid(story_network(each, STORIES.sentences, training=True)) for each in images)
    found = story_discriminator(story_network)
    np.testing.assert_allclose(found.loss, -np.log(real) - np.log(1 - fake), rtol=1e-4)
    np.testing.assert_allclose(found.reports["story_accuracy"], ((real > 0.5) + 1.0 * (fake < 0.5)) / 2)
    drawn = story_generator(story_network, PhaseConfig(story_weight=3.0))
    np.testing.assert_allclose(drawn.loss, -3 * np.log(fake), rtol=1e-4)


def test_kl_and_pixel_losses_add_up():
    output = GeneratorOutput(STORIES.fake, normal(N, 8), normal(N, 8), normal(N, 8), SEEDS)
    phase = PhaseConfig(kl_weight=2.0, l1_weight=3.0, l2_weight=5.0)
    found = objectives.picture_objective(phase, tf.zeros([64, 64, 3]), output, STORIES.real)
    difference = (STORIES.fake - STORIES.real).numpy().reshape(N, -1)
    l1, l2 = np.abs(difference).mean(axis=1), np.square(difference).mean(axis=1)
    np.testing.assert_allclose(found.reports["l1"], l1, rtol=1e-4)
    np.testing.assert_allclose(found.reports["l2"], l2, rtol=1e-4)
    np.testing.assert_allclose(found.loss, 2 * found.reports["kl"] + 3 * l1 + 5 * l2, rtol=1e-4)


# What is reported

EVERYTHING = {"label_weight": 1.0, "generator_label_weight": 1.0, "feature_matching_weight": 1.0}


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["paper", "everything"])
def test_reports_have_the_names_of_reported_names(image_network, story_network, options):
    phase = PhaseConfig(schedule="joint", **options)
    output = GeneratorOutput(STORIES.fake, normal(N, 8), normal(N, 8), normal(N, 8), SEEDS)
    found = (
        image_discriminator(image_network, **options),
        image_generator(image_network, **options),
        story_discriminator(story_network),
        story_generator(story_network, phase),
        objectives.picture_objective(phase, tf.zeros([64, 64, 3]), output, STORIES.real),
    )
    reports = [name for objective in found for name in objective.reports]
    assert sorted(reports) == sorted(objectives.reported_names(phase))


def test_updates_that_are_not_made_report_nothing():
    image_only = objectives.reported_names(PhaseConfig(story_steps=0))
    assert image_only == ("image_discriminator", "image_generator", "image_accuracy", "kl", "l1", "l2")
    assert "image_discriminator" not in objectives.reported_names(PhaseConfig(image_steps=0))
    assert objectives.reported_names(PhaseConfig(schedule="pixel", l1_weight=1.0)) == ("kl", "l1", "l2")
