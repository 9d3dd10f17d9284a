"""What each network is to minimise in a phase: losses of one update, weighted, and what is reported of it.

Everything is one number a story or frame, so that replicas can be averaged exactly. In the image discriminator's
game one frame stands for a story's T: its terms are T times that frame's, an unbiased sum over the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.models import losses
from storygan_tf.models.image_discriminator import ImageDiscriminator
from storygan_tf.models.story_discriminator import StoryDiscriminator
from storygan_tf.models.story_generator import GeneratorOutput

PICTURE_LOSSES = ("kl", "l1", "l2")
"""What `picture_objective` reports."""


class Objective(NamedTuple):
    """Losses of an update.

    Attributes:
        loss: float32 [N], weighted and added up.
        reports: float32 [N] each, without their weights in the phase, by name.
    """

    loss: tf.Tensor
    reports: dict[str, tf.Tensor]


class SingleFrames(NamedTuple):
    """One frame a story, true and drawn, and what it is to show.

    Attributes:
        real: float32 [N, 64, 64, 3].
        fake: float32 [N, 64, 64, 3].
        sentences: float32 [N, sentence_size].
        h0: float32 [N, context_size].
        labels: uint8 [N, labels].
    """

    real: tf.Tensor
    fake: tf.Tensor
    sentences: tf.Tensor
    h0: tf.Tensor
    labels: tf.Tensor


class StoryFrames(NamedTuple):
    """Whole stories, true and drawn.

    Attributes:
        real: float32 [batch, frames, 64, 64, 3].
        fake: float32 [batch, frames, 64, 64, 3].
        sentences: float32 [batch, frames, sentence_size].
    """

    real: tf.Tensor
    fake: tf.Tensor
    sentences: tf.Tensor


def reported_names(phase: PhaseConfig) -> tuple[str, ...]:
    """Returns the names of all losses of a phase, and of the discriminators' accuracies."""
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
    names = [name for name, wanted in image.items() if wanted and (joint or phase.image_steps)]
    if joint or phase.story_steps:
        names += ["story_discriminator", "story_generator", "story_accuracy"]
    return (*names, *PICTURE_LOSSES)


def _add_up(terms: dict[str, tuple[float, tf.Tensor]], **reports: tf.Tensor) -> Objective:
    """Returns the objective of terms, by name and weight; `reports`, and terms of weight 0, are reported only."""
    values = {name: values for name, (_, values) in terms.items()}
    weighted = [weight * values for weight, values in terms.values() if weight]
    loss = tf.add_n(weighted) if weighted else tf.zeros_like(next(iter(values.values())))
    return Objective(loss, values | reports)


def image_discriminator_objective(
    network: ImageDiscriminator, phase: PhaseConfig, count: int, frames: SingleFrames
) -> Objective:
    """Scores true, mismatched and drawn frames; the trunk sees each true and each drawn frame once.

    Args:
        network: the image discriminator.
        phase: which terms there are.
        count: T.
        frames: no gradient goes back to them.
    """
    real = network.trunk(frames.real, training=True)[-1]
    real_logits = network.score(real, frames.sentences, frames.h0, training=True)
    fake = network.trunk(frames.fake, training=True)[-1]
    fake_logits = network.score(fake, frames.sentences, frames.h0, training=True)
    mismatched_logits = None
    if phase.mismatched:
        others = of_next_story(frames.sentences), of_next_story(frames.h0)
        mismatched_logits = network.score(real, *others, training=True)
    adversarial = losses.discriminator_loss(real_logits, fake_logits, mismatched_logits)
    terms = {"image_discriminator": (1.0, count * adversarial)}
    if phase.label_weight:
        terms["image_labels"] = (phase.label_weight, count * losses.label_loss(network.classify(real), frames.labels))
    return _add_up(terms, image_accuracy=losses.accuracy(real_logits, fake_logits))


def image_generator_objective(
    network: ImageDiscriminator, phase: PhaseConfig, count: int, frames: SingleFrames, real_maps: Sequence[tf.Tensor]
) -> Objective:
    """Scores drawn frames for the generator's sake, by one pass of the trunk.

    Args:
        network: the image discriminator.
        phase: which terms there are.
        count: T.
        frames: the drawn ones carry the gradient.
        real_maps: the trunk's maps of the true frames, for feature matching; a mean over the frames as the pixel losses
            are, not T times as much.
    """
    maps = network.trunk(frames.fake, training=True)
    logits = network.score(maps[-1], frames.sentences, frames.h0, training=True)
    adversarial = losses.generator_loss(logits, phase.generator_loss)
    terms = {"image_generator": (phase.image_weight, count * adversarial)}
    if phase.generator_label_weight:
        labels = losses.label_loss(network.classify(maps[-1]), frames.labels)
        terms["generator_labels"] = (phase.generator_label_weight, count * labels)
    if phase.feature_matching_weight:
        distance = losses.feature_distance(real_maps, maps)
        terms["feature_matching"] = (phase.feature_matching_weight, distance)
    return _add_up(terms)


def story_discriminator_objective(network: StoryDiscriminator, phase: PhaseConfig, tales: StoryFrames) -> Objective:
    """Scores true and drawn stories; no gradient goes back to them."""
    real_logits = network(tales.real, tales.sentences, training=True)
    fake_logits = network(tales.fake, tales.sentences, training=True)
    terms = {"story_discriminator": (1.0, losses.discriminator_loss(real_logits, fake_logits))}
    return _add_up(terms, story_accuracy=losses.accuracy(real_logits, fake_logits))


def story_generator_objective(network: StoryDiscriminator, phase: PhaseConfig, tales: StoryFrames) -> Objective:
    """Scores drawn stories for the generator's sake."""
    logits = network(tales.fake, tales.sentences, training=True)
    return _add_up({"story_generator": (phase.story_weight, losses.generator_loss(logits, phase.generator_loss))})


def picture_objective(phase: PhaseConfig, background: tf.Tensor, output: GeneratorOutput, real: tf.Tensor) -> Objective:
    """KL and the pixel losses against the true frames, which need no discriminator.

    Args:
        phase: their weights.
        background: float32 [64, 64, 3] in [-1, 1].
        output: what the generator drew.
        real: float32 [batch, frames, 64, 64, 3] in [-1, 1].
    """
    weights = losses.object_weights(real, background, phase.object_weight) if phase.object_weight != 1 else 1.0
    return _add_up(
        {
            "kl": (phase.kl_weight, losses.kl_divergence(output.mu, output.log_var)),
            "l1": (phase.l1_weight, losses.pixel_l1(output.images, real, weights)),
            "l2": (phase.l2_weight, losses.pixel_l2(output.images, real, weights)),
        }
    )


def of_next_story(values: tf.Tensor) -> tf.Tensor:
    """Returns for each row that of the next story in the global batch, of the last row that of the first."""
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return tf.roll(values, -1, axis=0)
    replica = tf.distribute.get_replica_context()
    rolled = tf.roll(replica.all_gather(tf.stop_gradient(values), axis=0), -1, axis=0)
    size = tf.shape(values)[0]
    return rolled[replica.replica_id_in_sync_group * size :][:size]
