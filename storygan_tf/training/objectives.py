"""The objective that each network minimises in a phase: the weighted losses of one update, and what is reported.

Losses and reports have one value per story or frame, so that they can be averaged exactly over replicas. The
objectives of the image discriminator and of the generator against it multiply the loss of a frame by T. The mean over
all frames of the stories is then the paper's sum over the T frames of a story (Li et al., arXiv:1812.02784, section 3),
and the mean over one uniformly drawn frame of each story is an unbiased estimate of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.models import losses
from storygan_tf.models.image_discriminator import ImageDiscriminator
from storygan_tf.models.story_discriminator import StoryDiscriminator
from storygan_tf.models.story_generator import GeneratorOutput

GeneratorLoss = Callable[[tf.Tensor], tf.Tensor]
"""Logits of generated frames or stories, float [N] -> loss, float [N]."""

DiscriminatorLoss = Callable[[tf.Tensor, tf.Tensor, "tf.Tensor | None"], tf.Tensor]
"""Logits of real, of generated and of mismatched frames or stories, float [N] or None -> loss, float [N]."""

PICTURE_LOSSES = ("kl", "l1", "l2")
"""Names of the losses that `picture_objective` reports."""


class Objective(NamedTuple):
    """The objective of one update.

    Attributes:
        loss: float32 [N], the weighted sum of the terms.
        reports: name -> float32 [N], the terms without their weights in the phase.
    """

    loss: tf.Tensor
    reports: dict[str, tf.Tensor]


class SingleFrames(NamedTuple):
    """Frames that are scored one by one, real and generated, and the condition that each is scored with.

    They are one frame of each story, or all T frames of each story, story after story (`PhaseConfig.image_frames`).

    Attributes:
        real: float32 [N, 64, 64, 3] in [-1, 1].
        fake: float32 [N, 64, 64, 3] in [-1, 1].
        sentences: float32 [N, sentence_size], the sentence of the frame.
        h0: float32 [N, context_size], the initial state of the story.
        labels: uint8 [N, labels], 0 or 1, the labels of the real frame.
    """

    real: tf.Tensor
    fake: tf.Tensor
    sentences: tf.Tensor
    h0: tf.Tensor
    labels: tf.Tensor


class StoryFrames(NamedTuple):
    """Whole stories, real and generated.

    Attributes:
        real: float32 [batch, frames, 64, 64, 3] in [-1, 1].
        fake: float32 [batch, frames, 64, 64, 3] in [-1, 1].
        sentences: float32 [batch, frames, sentence_size].
    """

    real: tf.Tensor
    fake: tf.Tensor
    sentences: tf.Tensor


def generator_loss(phase: PhaseConfig) -> GeneratorLoss:
    """Returns the adversarial loss of the generator that a phase configures."""
    return functools.partial(losses.generator_loss, form=phase.generator_loss)


def reported_names(phase: PhaseConfig) -> tuple[str, ...]:
    """Returns the names of everything that a phase reports: its losses, and the accuracies of the discriminators."""
    if phase.schedule == "pixel":
        return PICTURE_LOSSES
    joint = phase.schedule == "joint"
    image = {
        "image_discriminator": True,
        "image_generator": True,
        "image_labels": phase.label_weight,
        "generator_labels": phase.generator_label_weight,
        "feature_matching": phase.feature_matching_weight,
        "image_accuracy": True,
    }
    names = [name for name, is_reported in image.items() if is_reported and (joint or phase.image_steps)]
    if joint or phase.story_steps:
        names += ["story_discriminator", "story_generator", "story_accuracy"]
    return (*names, *PICTURE_LOSSES)


def _add_up(terms: dict[str, tuple[float, tf.Tensor]], **reports: tf.Tensor) -> Objective:
    """Returns the weighted sum of terms as an objective.

    Args:
        terms: name -> weight and float32 [N]. A term of weight 0 is reported and not added.
        **reports: float32 [N], further values to report.
    """
    values = {name: values for name, (_, values) in terms.items()}
    weighted = [weight * values for weight, values in terms.values() if weight]
    loss = tf.add_n(weighted) if weighted else tf.zeros_like(next(iter(values.values())))
    return Objective(loss, values | reports)


def image_discriminator_objective(
    network: ImageDiscriminator,
    phase: PhaseConfig,
    count: int,
    frames: SingleFrames,
    *,
    loss: DiscriminatorLoss,
) -> Objective:
    """Returns the objective of the image discriminator on real, mismatched and generated frames.

    Each real and each generated frame passes the trunk once.

    Args:
        network: the image discriminator.
        phase: selects and weights the terms.
        count: frames of a story, T.
        frames: the frames; the caller must not differentiate with respect to them.
        loss: the adversarial loss.
    """
    real = network.trunk(frames.real, training=True)[-1]
    real_logits = network.score(real, frames.sentences, frames.h0, training=True)
    fake = network.trunk(frames.fake, training=True)[-1]
    fake_logits = network.score(fake, frames.sentences, frames.h0, training=True)
    mismatched_logits = None
    if phase.mismatched:
        rows = count if phase.image_frames == "all" else 1
        others = roll_stories(frames.sentences, rows), roll_stories(frames.h0, rows)
        mismatched_logits = network.score(real, *others, training=True)
    adversarial = loss(real_logits, fake_logits, mismatched_logits)
    terms = {"image_discriminator": (1.0, count * adversarial)}
    if phase.label_weight:
        terms["image_labels"] = (phase.label_weight, count * losses.label_loss(network.classify(real), frames.labels))
    return _add_up(terms, image_accuracy=losses.accuracy(real_logits, fake_logits))


def image_generator_objective(
    network: ImageDiscriminator,
    phase: PhaseConfig,
    count: int,
    frames: SingleFrames,
    real_maps: Sequence[tf.Tensor],
    *,
    loss: GeneratorLoss,
) -> Objective:
    """Returns the objective of the generator against the image discriminator, by one pass of the trunk.

    Args:
        network: the image discriminator.
        phase: selects and weights the terms.
        count: frames of a story, T.
        frames: the frames; the gradient flows through the generated ones.
        real_maps: the trunk's feature maps of the real frames, float32 [N, height, width, channels] each, for feature
            matching; may be empty without it. This term is a mean over frames, as the pixel losses are, and is not
            multiplied by T.
        loss: the adversarial loss.
    """
    maps = network.trunk(frames.fake, training=True)
    logits = network.score(maps[-1], frames.sentences, frames.h0, training=True)
    adversarial = loss(logits)
    terms = {"image_generator": (phase.image_weight, count * adversarial)}
    if phase.generator_label_weight:
        labels = losses.label_loss(network.classify(maps[-1]), frames.labels)
        terms["generator_labels"] = (phase.generator_label_weight, count * labels)
    if phase.feature_matching_weight:
        distance = losses.feature_distance(real_maps, maps)
        terms["feature_matching"] = (phase.feature_matching_weight, distance)
    return _add_up(terms)


def story_discriminator_objective(
    network: StoryDiscriminator, stories: StoryFrames, *, loss: DiscriminatorLoss
) -> Objective:
    """Returns the objective of the story discriminator on real and generated stories."""
    real_logits = network(stories.real, stories.sentences, training=True)
    fake_logits = network(stories.fake, stories.sentences, training=True)
    terms = {"story_discriminator": (1.0, loss(real_logits, fake_logits, None))}
    return _add_up(terms, story_accuracy=losses.accuracy(real_logits, fake_logits))


def story_generator_objective(
    network: StoryDiscriminator,
    phase: PhaseConfig,
    stories: StoryFrames,
    *,
    loss: GeneratorLoss,
) -> Objective:
    """Returns the objective of the generator against the story discriminator."""
    logits = network(stories.fake, stories.sentences, training=True)
    return _add_up({"story_generator": (phase.story_weight, loss(logits))})


def picture_objective(phase: PhaseConfig, background: tf.Tensor, output: GeneratorOutput, real: tf.Tensor) -> Objective:
    """Returns the objective of the generator that needs no discriminator: KL and the pixel losses.

    Args:
        phase: the weights of the terms.
        background: float32 [64, 64, 3] in [-1, 1], median of the training frames; used if `phase.object_weight` is
            not 1.
        output: output of the generator.
        real: float32 [batch, frames, 64, 64, 3] in [-1, 1], the real frames.
    """
    weights = losses.object_weights(real, background, phase.object_weight) if phase.object_weight != 1 else 1.0
    return _add_up(
        {
            "kl": (phase.kl_weight, losses.kl_divergence(output.mu, output.log_var)),
            "l1": (phase.l1_weight, losses.pixel_l1(output.images, real, weights)),
            "l2": (phase.l2_weight, losses.pixel_l2(output.images, real, weights)),
        }
    )


def roll_stories(values: tf.Tensor, rows: int = 1) -> tf.Tensor:
    """Returns for each story the values of the next story in the global batch; for the last story those of the first.

    Args:
        values: float [N, ...], this replica's part of the batch. No gradient flows back to it from other replicas.
        rows: number of rows of a story.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return tf.roll(values, -rows, axis=0)
    replica = tf.distribute.get_replica_context()
    rolled = tf.roll(replica.all_gather(tf.stop_gradient(values), axis=0), -rows, axis=0)
    size = tf.shape(values)[0]
    return rolled[replica.replica_id_in_sync_group * size :][:size]
