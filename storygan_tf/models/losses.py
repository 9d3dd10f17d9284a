"""The losses of StoryGAN (Li et al., arXiv:1812.02784, section 3): pure functions of tensors.

All return one value per story or frame rather than a mean, so that they can be averaged exactly over replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

OBJECT_THRESHOLD = 19 / 127.5
"""A pixel belongs to an object if a channel differs from the background by more than this, 19 of 255 grey levels."""


def discriminator_loss(
    real_logits: tf.Tensor,
    fake_logits: tf.Tensor,
    mismatched_logits: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the loss of a discriminator, `-log D(real) - log(1 - D(fake))`.

    It is the negative of `L_Image` for one frame or of `L_Story` (Li et al., arXiv:1812.02784, section 3; Goodfellow et
    al., arXiv:1406.2661, equation 1). With mismatched pairs the second term is the mean of the losses on generated and
    on mismatched frames (Reed et al., arXiv:1605.05396).

    Args:
        real_logits: float [N], logits of real frames or stories.
        fake_logits: float [N], logits of generated ones.
        mismatched_logits: float [N], logits of real frames with the sentence of another story; by default the loss has
            no such term.

    Returns:
        float [N] in [0, inf); 2 log 2 for a discriminator whose probability is always 0.5.
    """
    real = tf.nn.softplus(-real_logits)
    fake = tf.nn.softplus(fake_logits)
    if mismatched_logits is not None:
        fake = 0.5 * (fake + tf.nn.softplus(mismatched_logits))
    return real + fake


def accuracy(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """Returns the accuracy of a discriminator on pairs of a real and a generated frame or story.

    Args:
        real_logits: float [N], logits of the real ones.
        fake_logits: float [N], logits of the generated ones.

    Returns:
        float [N], 0, 0.5 or 1: the share of each pair that is classified correctly.
    """
    return 0.5 * (tf.cast(real_logits > 0, real_logits.dtype) + tf.cast(fake_logits < 0, fake_logits.dtype))


def label_loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the sigmoid cross entropy of an auxiliary classifier (Odena et al., arXiv:1610.09585).

    Args:
        logits: float [N, labels].
        labels: [N, labels] of any numeric type, 0 or 1.

    Returns:
        float [N] in [0, inf), the mean over the labels; log 2 for logits of 0.
    """
    targets = tf.cast(labels, logits.dtype)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), axis=-1)


def feature_distance(real: Sequence[tf.Tensor], fake: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the feature matching loss: the mean absolute difference of feature maps, averaged over the maps.

    Feature matching is by Salimans et al. (arXiv:1606.03498); here each frame is compared with its own real frame, as
    by Wang et al. (arXiv:1711.11585, equation 4). No gradient flows to `real`.

    Args:
        real: feature maps of real frames, float [N, height, width, channels] each.
        fake: feature maps of generated frames, of the same shapes.

    Returns:
        float [N] in [0, inf).
    """
    distances = [pixel_l1(drawn, tf.stop_gradient(true), 1.0) for true, drawn in zip(real, fake, strict=True)]
    return tf.add_n(distances) / len(distances)


def generator_loss(fake_logits: tf.Tensor, form: Literal["non_saturating", "minimax"] = "non_saturating") -> tf.Tensor:
    """Returns the adversarial loss of the generator (Goodfellow et al., arXiv:1406.2661, section 3).

    Args:
        fake_logits: float [N], logits of generated frames or stories.
        form: `non_saturating` for `-log D(fake)`, or `minimax` for `log(1 - D(fake))`, which is the generator's part of
            `L_Image` and `L_Story` (Li et al., arXiv:1812.02784, section 3).

    Returns:
        float [N]; in [0, inf) for `non_saturating`, in (-inf, 0] for `minimax`.
    """
    if form == "minimax":
        return -tf.nn.softplus(fake_logits)
    return tf.nn.softplus(-fake_logits)


def kl_divergence(mu: tf.Tensor, log_var: tf.Tensor) -> tf.Tensor:
    """Returns `L_KL` = KL(N(mu, diag(exp(log_var))) || N(0, I)) in closed form.

    References: Li et al., arXiv:1812.02784, section 3.1; Kingma and Welling, arXiv:1312.6114, appendix B.

    Args:
        mu: float [batch, size], the mean.
        log_var: float [batch, size], the logarithm of the variance.

    Returns:
        float [batch] in [0, inf), summed over the dimensions.
    """
    return 0.5 * tf.reduce_sum(tf.square(mu) + tf.exp(log_var) - log_var - 1.0, axis=-1)


def object_weights(images: tf.Tensor, background: tf.Tensor, weight: float) -> tf.Tensor:
    """Returns the weight of each pixel in the pixel losses: `weight` for pixels of objects, 1 for the background.

    Args:
        images: float [..., 64, 64, 3] in [-1, 1], real frames.
        background: float [64, 64, 3] in [-1, 1], the median of the training frames.
        weight: weight of pixels that differ from the background by more than `OBJECT_THRESHOLD`; at least 0.

    Returns:
        float [..., 64, 64, 1], `weight` or 1.
    """
    difference = tf.reduce_max(tf.abs(images - background), axis=-1, keepdims=True)
    return tf.where(difference > OBJECT_THRESHOLD, weight, 1.0)


def pixel_l1(fake: tf.Tensor, real: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns the weighted mean absolute error of each story (Isola et al., arXiv:1611.07004, equation 3).

    Args:
        fake: float [batch, ...], generated frames in [-1, 1], or feature maps.
        real: float, the same shape, the real ones.
        weights: float that broadcasts to this shape, at least 0.

    Returns:
        float [batch] in [0, inf); at most 2 for frames with weights of 1.
    """
    return _story_mean(weights * tf.abs(fake - real))


def pixel_l2(fake: tf.Tensor, real: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns the weighted mean squared error of each story.

    Args:
        fake: see `pixel_l1`.
        real: see `pixel_l1`.
        weights: see `pixel_l1`.

    Returns:
        float [batch] in [0, inf); at most 4 for frames with weights of 1.
    """
    return _story_mean(weights * tf.square(fake - real))


def _story_mean(values: tf.Tensor) -> tf.Tensor:
    """Returns the mean over all axes but the first: [batch, ...] -> [batch]."""
    return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))
