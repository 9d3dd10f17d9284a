"""The losses: pure functions that return one number a story, so that replicas can be averaged exactly."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

OBJECT_THRESHOLD = 19 / 127.5
"""A pixel belongs to an object where a channel differs by more than 19 of 255 grey levels from the background."""


def discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """Returns `-log D(real) - log(1 - D(fake))` (Goodfellow et al., arXiv:1406.2661, equation 1).

    Args:
        real_logits: float [N].
        fake_logits: float [N].

    Returns:
        float [N], at least 0; 2 log 2 where the discriminator cannot tell.
    """
    return tf.nn.softplus(-real_logits) + tf.nn.softplus(fake_logits)


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
