"""Losses against their definitions, and the closed form of KL against Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.models import losses

LOGITS = np.array([-3.0, -0.5, 0.0, 0.7, 4.0], np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def test_discriminator_loss():
    real, fake = LOGITS, LOGITS[::-1].copy()
    expected = -np.log(sigmoid(real)) - np.log(1 - sigmoid(fake))
    np.testing.assert_allclose(losses.discriminator_loss(real, fake), expected, rtol=1e-5)
    assert float(losses.discriminator_loss(tf.zeros([1]), tf.zeros([1]))[0]) == pytest.approx(2 * np.log(2))


def test_generator_loss():
    np.testing.assert_allclose(losses.generator_loss(LOGITS), -np.log(sigmoid(LOGITS)), rtol=1e-5)
    minimax = losses.generator_loss(LOGITS, "minimax")
    np.testing.assert_allclose(minimax, np.log(1 - sigmoid(LOGITS)), rtol=1e-5)


def test_both_forms_of_the_generators_loss_pull_the_same_way():
    """Both gradients have the same sign; the non-saturating one is larger if the discriminator is sure of a fake."""
    logits = tf.constant([-8.0])
    gradients = []
    for form in ("non_saturating", "minimax"):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = losses.generator_loss(logits, form)
        gradients.append(float(tape.gradient(value, logits)[0]))
    assert gradients[0] == pytest.approx(-1, abs=1e-3)
    assert -1e-3 < gradients[1] < 0


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_losses_are_finite_far_out(logit):
    values = [
        losses.discriminator_loss(tf.constant([logit]), tf.constant([logit])),
        losses.generator_loss(tf.constant([logit])),
        losses.generator_loss(tf.constant([logit]), "minimax"),
    ]
    assert all(np.isfinite(value).all() for value in values)
    assert float(values[0][0]) == pytest.approx(200)


def test_kl_is_zero_for_the_prior_and_positive_elsewhere():
    zeros = tf.zeros([2, 5])
    np.testing.assert_array_equal(losses.kl_divergence(zeros, zeros), [0, 0])
    random = np.random.default_rng(0).normal(size=[2, 20, 5]).astype(np.float32)
    assert np.all(losses.kl_divergence(*random) > 0)


def test_kl_against_monte_carlo():
    """Compares with the mean of log q(h) - log p(h) over 400,000 samples of q; its standard error is below 0.01."""
    random = np.random.default_rng(1)
    mu, log_var = random.normal(size=[2, 3, 4])
    log_var *= 0.7
    epsilon = random.normal(size=[400_000, 3, 4])
    drawn = mu + np.exp(log_var / 2) * epsilon
    log_ratio = 0.5 * (np.square(drawn) - np.square(epsilon) - log_var).sum(axis=-1)
    found = losses.kl_divergence(tf.constant(mu, tf.float32), tf.constant(log_var, tf.float32))
    np.testing.assert_allclose(found, log_ratio.mean(axis=0), atol=0.04)


def test_kl_by_hand():
    """mu = 1, sigma^2 = e^2: (1 + e^2 - 2 - 1) / 2 for each of two dimensions."""
    found = losses.kl_divergence(tf.ones([1, 2]), 2 * tf.ones([1, 2]))
    np.testing.assert_allclose(found, [np.e**2 - 2], rtol=1e-6)


def test_pixel_losses_are_means_of_each_story():
    random = np.random.default_rng(2)
    fake, real = random.normal(size=[2, 3, 2, 8, 8, 3]).astype(np.float32)
    weights = random.uniform(size=[3, 2, 8, 8, 1]).astype(np.float32)
    for loss, power in ((losses.pixel_l1, 1), (losses.pixel_l2, 2)):
        expected = [np.mean(weights[story] * np.abs(fake[story] - real[story]) ** power) for story in range(3)]
        np.testing.assert_allclose(loss(fake, real, weights), expected, rtol=1e-5)
        np.testing.assert_allclose(
            loss(fake, real, 1.0), np.mean(np.abs(fake - real) ** power, axis=(1, 2, 3, 4)), 1e-5
        )


def test_an_object_differs_from_the_background_by_over_19_grey_levels_in_any_channel():
    background = np.full([64, 64, 3], 100.0)
    image = background.copy()
    image[0, 0, 2] += 19  # not enough
    image[0, 1, 2] += 20
    image[0, 2, 0] -= 20
    scaled = [tf.constant(grey / 127.5 - 1, tf.float32) for grey in (image[np.newaxis], background)]
    weights = losses.object_weights(*scaled, weight=5.0)
    assert weights.shape == (1, 64, 64, 1)
    expected = np.ones([64, 64])
    expected[0, 1:3] = 5
    np.testing.assert_array_equal(weights[0, :, :, 0], expected)


def test_mismatched_pairs_share_the_term_of_the_fakes():
    real, fake, mismatched = LOGITS, LOGITS[::-1].copy(), np.roll(LOGITS, 2)
    expected = -np.log(sigmoid(real)) - 0.5 * np.log(1 - sigmoid(fake)) - 0.5 * np.log(1 - sigmoid(mismatched))
    np.testing.assert_allclose(losses.discriminator_loss(real, fake, mismatched), expected, rtol=1e-5)


def test_accuracy_is_the_share_that_is_classified_correctly():
    real, fake = tf.constant([2.0, 2.0, -1.0, -1.0]), tf.constant([-3.0, 3.0, -3.0, 3.0])
    np.testing.assert_array_equal(losses.accuracy(real, fake), [1, 0.5, 0.5, 0])


def test_label_loss_is_a_mean_over_the_labels():
    random = np.random.default_rng(4)
    logits, labels = random.normal(size=[3, 7]).astype(np.float32), random.integers(0, 2, [3, 7], dtype=np.uint8)
    probabilities = np.where(labels == 1, sigmoid(logits), 1 - sigmoid(logits))
    np.testing.assert_allclose(
        losses.label_loss(tf.constant(logits), labels), -np.log(probabilities).mean(axis=1), rtol=1e-5
    )
    assert float(losses.label_loss(tf.zeros([1, 7]), labels[:1])[0]) == pytest.approx(np.log(2))


def test_feature_distance_weighs_all_maps_alike_and_has_no_gradient_for_real_frames():
    random = np.random.default_rng(5)
    shapes = ([3, 8, 8, 2], [3, 4, 4, 5])
    real, fake = ([tf.constant(random.normal(size=shape), tf.float32) for shape in shapes] for _ in range(2))
    with tf.GradientTape() as tape:
        tape.watch([real, fake])
        found = losses.feature_distance(real, fake)
    distances = [np.abs(a - b).mean(axis=(1, 2, 3)) for a, b in zip(real, fake, strict=True)]
    np.testing.assert_allclose(found, np.mean(distances, axis=0), rtol=1e-5)
    to_real, to_fake = tape.gradient(found, [real, fake])
    assert to_real == [None, None]
    assert all(np.all(gradient != 0) for gradient in to_fake)
