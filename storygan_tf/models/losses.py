"""The losses: pure functions that return one number a story, so that replicas can be averaged exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

OBJECT_THRESHOLD = 19 / 127.5
"""A pixel belongs to an object where a channel differs by more than 19 of 255 grey levels from the background."""


def discriminator_loss(
    real_logits: tf.Tensor,
    fake_logits: tf.Tensor,
    mismatched_logits: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns `-log D(real) - log(1 - D(fake))` (Goodfellow et al., arXiv:1406.2661, equation 1).

    Args:
        real_logits: float [N].
        fake_logits: float [N].
        mismatched_logits: float [N], of true frames with a sentence that is not theirs, which share the part of the
            fakes: `real + (fake + mismatched) / 2` (Reed et al., arXiv:1605.05396); None for no such part.

    Returns:
        float [N], at least 0; 2 log 2 where the discriminator cannot tell.
    """
    real = tf.nn.softplus(-real_logits)
    fake = tf.nn.softplus(fake_logits)
    if mismatched_logits is not None:
        fake = 0.5 * (fake + tf.nn.softplus(mismatched_logits))
    return real + fake


def accuracy(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """Returns the part of a true and a drawn one that a discriminator tells: 0, 0.5 or 1, float32 [N], as both are."""
    return 0.5 * (tf.cast(real_logits > 0, tf.float32) + tf.cast(fake_logits < 0, tf.float32))


def label_loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the sigmoid cross entropy of an auxiliary classifier (Odena et al., arXiv:1610.09585).

    Args:
        logits: float [N, labels].
        labels: [N, labels] of any type, 0 or 1.

    Returns:
        float [N], at least 0, a mean over the labels; log 2 where nothing is known.
    """
    targets = tf.cast(labels, tf.float32)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), axis=-1)


def feature_distance(real: Sequence[tf.Tensor], fake: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the mean absolute difference of feature maps of each frame, averaged over the maps.

    Feature matching (Salimans et al., arXiv:1606.03498) frame by frame (Wang et al., arXiv:1711.11585, equation 4). No
    gradient goes to the true frame's.

    Args:
        real: maps of true frames, float [N, ...] each.
        fake: the same of drawn ones.

    Returns:
        float [N], at least 0.
    """
    distances = [pixel_l1(drawn, tf.stop_gradient(true), 1.0) for true, drawn in zip(real, fake, strict=True)]
    return tf.add_n(distances) / len(distances)


def generator_loss(fake_logits: tf.Tensor, form: Literal["non_saturating", "minimax"] = "non_saturating") -> tf.Tensor:
    """Returns the generator's adversarial loss (the same paper, section 3).

    Args:
        fake_logits: float [N].
        form: `non_saturating` for `-log D(fake)`, at least 0, or `minimax` for `log(1 - D(fake))`, at most 0.

    Returns:
        float [N].
    """
    if form == "minimax":
        return -tf.nn.softplus(fake_logits)
    return tf.nn.softplus(-fake_logits)


def kl_divergence(mu: tf.Tensor, log_var: tf.Tensor) -> tf.Tensor:
    """Returns KL(N(mu, diag(exp(log_var))) || N(0, I)) in closed form (Kingma and Welling, arXiv:1312.6114, app. B).

    Args:
        mu: float [batch, size].
        log_var: float [batch, size].

    Returns:
        float [batch], at least 0, summed over the dimensions.
    """
    return 0.5 * tf.reduce_sum(tf.square(mu) + tf.exp(log_var) - log_var - 1.0, axis=-1)


def object_weights(images: tf.Tensor, background: tf.Tensor, weight: float) -> tf.Tensor:
    """Returns the weight of each pixel: `weight` where a true frame differs from the background, else 1.

    Args:
        images: float [..., 64, 64, 3] in [-1, 1], true frames.
        background: float [64, 64, 3] in [-1, 1], the median of the training frames.
        weight: at least 0.

    Returns:
        float [..., 64, 64, 1].
    """
    difference = tf.reduce_max(tf.abs(images - background), axis=-1, keepdims=True)
    return tf.where(difference > OBJECT_THRESHOLD, weight, 1.0)


def pixel_l1(fake: tf.Tensor, real: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns the weighted mean absolute error of each story (Isola et al., arXiv:1611.07004, equation 3).

    Args:
        fake: float [batch, ...].
        real: float, the same shape.
        weights: float that broadcasts to them.

    Returns:
        float [batch], at least 0.
    """
    return _story_mean(weights * tf.abs(fake - real))


def pixel_l2(fake: tf.Tensor, real: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns the weighted mean squared error of each story; arguments as `pixel_l1`."""
    return _story_mean(weights * tf.square(fake - real))


def _story_mean(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))
