"""What a training measures on held-out stories."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.data.batch_types import to_float, to_uint8
from storygan_tf.data.training_input import validation_dataset
from storygan_tf.metrics.ssim import ssim
from storygan_tf.models import losses
from storygan_tf.training import validation
from storygan_tf.training.storygan import StoryGAN

JOINT = PhaseConfig(schedule="joint", image_batch=4, story_batch=4, mismatched=True, feature_matching_weight=1.0)
PIXEL = PhaseConfig(schedule="pixel", story_batch=4, l1_weight=1.0, average=0.9)


@pytest.fixture(scope="module")
def gan(config) -> StoryGAN:
    keras.utils.set_random_seed(7)
    return StoryGAN(config)


def measured(gan: StoryGAN, stories, size: int = 4) -> dict[str, float]:
    return gan.evaluate(validation_dataset(stories, size), verbose=0, return_dict=True)


def test_the_names_follow_the_phase():
    pixel = ("kl", "l1", "l2", "ssim", "sharpness")
    assert validation.validated_names(PIXEL) == pixel
    adversarial = [
        f"{kind}_{name}" for kind in ("image", "story") for name in ("discriminator", "generator", "accuracy")
    ]
    assert validation.validated_names(JOINT) == (*adversarial, *pixel)
    without_images = dataclasses.replace(JOINT, schedule="algorithm1", image_steps=0)
    assert validation.validated_names(without_images) == (*adversarial[3:], *pixel)


def test_values_are_those_of_numpy(gan, stories):
    """Seven stories in batches of four: the last batch is completed by a story that does not count."""
    seven = stories.first(7)
    gan.compile(JOINT)
    found = measured(gan, seven)
    assert list(found) == list(validation.validated_names(JOINT))
    seeds = tf.range(7, dtype=tf.int64)
    output = gan.generator(tf.constant(seven.vectors), training=False, seed=seeds)
    real, drawn = to_float(tf.constant(seven.images)).numpy(), output.images.numpy()
    assert found["l1"] == pytest.approx(np.abs(drawn - real).mean(), rel=1e-4)
    assert found["l2"] == pytest.approx(np.square(drawn - real).mean(), rel=1e-4)
    assert found["ssim"] == pytest.approx(ssim(127.5 * (real + 1), 127.5 * (drawn + 1)).mean(), abs=1e-4)
    edges = [np.abs(laplacian(frames)).mean(axis=(1, 2, 3, 4)) for frames in (drawn, real)]
    assert found["sharpness"] == pytest.approx((edges[0] / edges[1]).mean(), rel=1e-4)
    vectors = tf.constant(seven.vectors)
    real_logits, fake_logits = (gan.story_discriminator(frames, vectors, training=False) for frames in (real, drawn))
    expected = tf.reduce_mean(losses.discriminator_loss(real_logits, fake_logits))
    assert found["story_discriminator"] == pytest.approx(float(expected), rel=1e-4)
    frames = [np.reshape(each, [14, 64, 64, 3]) for each in (real, drawn)]
    conditions = tf.reshape(vectors, [14, 6]), tf.repeat(output.h0, 2, axis=0)
    real_logits, fake_logits = (gan.image_discriminator(each, *conditions, training=False) for each in frames)
    expected = 2 * tf.reduce_mean(losses.discriminator_loss(real_logits, fake_logits))  # the sum over two frames
    assert found["image_discriminator"] == pytest.approx(float(expected), rel=1e-4)
    accuracy = tf.reduce_mean(losses.accuracy(real_logits, fake_logits))
    assert found["image_accuracy"] == pytest.approx(float(accuracy), abs=1e-6)


def laplacian(frames: np.ndarray) -> np.ndarray:
    middle = frames[:, :, 1:-1, 1:-1]
    vertical = frames[:, :, :-2, 1:-1] + frames[:, :, 2:, 1:-1]
    return vertical + frames[:, :, 1:-1, :-2] + frames[:, :, 1:-1, 2:] - 4 * middle


def test_it_changes_nothing_and_the_batch_does_not_matter(gan, stories):
    gan.compile(PIXEL)
    weights = [weight for network in gan.networks for weight in network.weights]
    before = [weight.numpy() for weight in weights]
    whole, parts = measured(gan, stories, 8), measured(gan, stories, 3)
    assert whole == pytest.approx(parts, rel=1e-4)
    for value, weight in zip(before, weights, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_the_averaged_generator_is_measured_if_the_phase_has_one(gan, stories):
    gan.compile(PIXEL)
    before = measured(gan, stories)
    changed = gan.generator.trainable_weights[-1]
    value = changed.numpy()
    changed.assign(value + 1.0)
    assert measured(gan, stories) == before
    gan.compile(dataclasses.replace(PIXEL, average=0.0))
    assert measured(gan, stories)["l1"] != before["l1"]
    changed.assign(value)


def test_true_frames_have_the_best_figures(stories):
    real = to_float(tf.constant(stories.images))
    np.testing.assert_allclose(validation.frame_ssim(real, real), 1.0, atol=1e-6)
    np.testing.assert_allclose(validation.sharpness(real, real), 1.0, atol=1e-6)
    blurred = tf.reshape(tf.nn.avg_pool2d(tf.reshape(real, [-1, 64, 64, 3]), 3, 1, "SAME"), real.shape)
    assert (validation.sharpness(real, blurred).numpy() < 0.5).all()
    assert (validation.frame_ssim(real, to_float(to_uint8(blurred))).numpy() < 0.9).all()


def test_a_flat_story_has_no_sharpness():
    flat = tf.zeros([1, 2, 64, 64, 3])
    assert validation.sharpness(flat, tf.random.stateless_uniform(flat.shape, [1, 2])).numpy() == [0.0]
