"""The training schedules: which updates an outer step consists of.

A `joint` step with g generator updates runs these forward passes:

- g passes of the generator. The first also serves the update of the discriminators.
- 2 passes of each discriminator for its own update, on real and on generated frames.
- g passes of each discriminator on generated frames for the updates of the generator. Generated frames pass again after
  the update of the discriminators because the weights have changed.
- With feature matching, 1 more pass of the image discriminator's trunk on real frames.

Mismatched pairs, labels and feature matching share the feature maps of the trunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import tensorflow as tf

from storygan_tf.config.schema import IMAGE_SIZE, PhaseConfig, StoryGANConfig
from storygan_tf.data.batch_types import Batch, to_float
from storygan_tf.models.image_discriminator import ImageDiscriminator
from storygan_tf.models.layers.spectral_conv import normalise_kernels
from storygan_tf.models.story_discriminator import StoryDiscriminator
from storygan_tf.models.story_generator import Context, GeneratorOutput, StoryGenerator
from storygan_tf.training import objectives
from storygan_tf.training.objectives import DiscriminatorLoss, GeneratorLoss, Objective, SingleFrames, StoryFrames

Data = Mapping[str, tuple[Batch, ...]]
"""The mini-batches of an outer step under the keys `image` and `story`, one for each update; this replica's part."""


class TrainableGAN(Protocol):
    """What the schedules need of a model; `StoryGAN` provides it once it is compiled for a phase.

    Attributes:
        config: sizes of the networks.
        phase: the current phase.
        generator: the generator.
        image_discriminator: the image discriminator.
        story_discriminator: the story discriminator.
        background: float32 [64, 64, 3] in [-1, 1], median of the training frames; NaN if it was not set.
        generator_loss: adversarial loss of the generator.
        discriminator_loss: adversarial loss of both discriminators.
    """

    config: StoryGANConfig
    phase: PhaseConfig
    generator: StoryGenerator
    image_discriminator: ImageDiscriminator
    story_discriminator: StoryDiscriminator
    background: tf.Variable
    generator_loss: GeneratorLoss
    discriminator_loss: DiscriminatorLoss

    def report(self, objective: Objective) -> tf.Tensor:
        """Records the reports of an objective and returns its loss for this replica, a float32 scalar."""

    def update_network(self, tape: tf.GradientTape, loss: tf.Tensor, name: str) -> None:
        """Updates the weights of the network of this attribute name by one optimizer step on `loss`."""


def pixel_step(gan: TrainableGAN, data: Data) -> None:
    """Updates the generator on the pixel losses and KL, once for each story mini-batch."""
    for batch in data["story"]:
        pixel_update(gan, batch)


def algorithm1_step(gan: TrainableGAN, data: Data) -> None:
    """Runs the image updates, then the story updates, of the paper's Algorithm 1."""
    for batch in data["image"]:
        image_update(gan, batch)
    for batch in data["story"]:
        story_update(gan, batch)


def joint_step(gan: TrainableGAN, data: Data) -> None:
    """Updates both discriminators once, then the generator `generator_steps` times on the sum of all its losses.

    Each update of the generator draws with different noise.
    """
    (image_batch,), (story_batch,) = data["image"], data["story"]
    real_maps: Sequence[tf.Tensor] = ()
    for number in range(gan.phase.generator_steps):
        with tf.GradientTape() as tape:
            frames, stories, output = _generate_both(gan, image_batch, story_batch, number)
            if number == 0:
                with tape.stop_recording():
                    update_image_discriminator(gan, frames)
                    update_story_discriminator(gan, stories)
                    real_maps = _real_maps(gan, frames)
            loss = _image_loss(gan, frames, real_maps) + _story_loss(gan, stories, output, story_batch)
        gan.update_network(tape, loss, "generator")


def pixel_update(gan: TrainableGAN, batch: Batch) -> None:
    """Updates the generator on the pixel losses and KL of one mini-batch."""
    with tf.GradientTape() as tape:
        output = gan.generator(batch["vectors"], training=True, seed=batch["seed"])
        loss = _picture_loss(gan, output, batch)
    gan.update_network(tape, loss, "generator")


def image_update(gan: TrainableGAN, batch: Batch) -> None:
    """Updates the image discriminator, then the generator, on one frame or on all frames of each story.

    Only these frames are rendered.
    """
    with tf.GradientTape() as tape:
        context = gan.generator.encode(batch["vectors"], training=True, seed=batch["seed"])
        fake = gan.generator.image_generator(_select_frames(gan.phase, context.gists, batch), training=True)
        frames = _single_frames(gan.phase, fake, context.h0, batch)
        with tape.stop_recording():
            update_image_discriminator(gan, frames)
            real_maps = _real_maps(gan, frames)
        loss = _image_loss(gan, frames, real_maps)
    gan.update_network(tape, loss, "generator")


def story_update(gan: TrainableGAN, batch: Batch) -> None:
    """Updates the story discriminator, then the generator, on whole stories; includes KL and the pixel losses."""
    with tf.GradientTape() as tape:
        output = gan.generator(batch["vectors"], training=True, seed=batch["seed"])
        stories = _story_frames(output.images, batch)
        with tape.stop_recording():
            update_story_discriminator(gan, stories)
        loss = _story_loss(gan, stories, output, batch)
    gan.update_network(tape, loss, "generator")


def update_image_discriminator(gan: TrainableGAN, frames: SingleFrames) -> None:
    """Updates the image discriminator; no gradient flows back to `frames`."""
    with tf.GradientTape() as tape:
        network = gan.image_discriminator
        objective = objectives.image_discriminator_objective(
            network, gan.phase, gan.config.frames, frames, loss=gan.discriminator_loss
        )
        loss = gan.report(objective)
    gan.update_network(tape, loss, "image_discriminator")
    normalise_kernels(network)


def update_story_discriminator(gan: TrainableGAN, stories: StoryFrames) -> None:
    """Updates the story discriminator; no gradient flows back to `stories`."""
    with tf.GradientTape() as tape:
        loss = gan.report(
            objectives.story_discriminator_objective(gan.story_discriminator, stories, loss=gan.discriminator_loss)
        )
    gan.update_network(tape, loss, "story_discriminator")
    normalise_kernels(gan.story_discriminator)


def _generate_both(
    gan: TrainableGAN, image_batch: Batch, story_batch: Batch, number: int
) -> tuple[SingleFrames, StoryFrames, GeneratorOutput]:
    """Generates the frames of both mini-batches in one pass of the generator.

    Args:
        gan: the model.
        image_batch: stories of which one frame each is rendered, or all (`PhaseConfig.image_frames`).
        story_batch: stories of which all frames are rendered.
        number: is added to the seeds, so that each update of the generator has different noise.

    Returns:
        The frames of `image_batch`, the stories of `story_batch`, and the generator's output for `story_batch`.
    """
    vectors = tf.concat([image_batch["vectors"], story_batch["vectors"]], axis=0)
    seeds = tf.concat([image_batch["seed"], story_batch["seed"]], axis=0) + number
    context = gan.generator.encode(vectors, training=True, seed=seeds)
    count = tf.shape(image_batch["vectors"])[0]
    single, whole = Context(*(part[:count] for part in context)), Context(*(part[count:] for part in context))
    selected = _select_frames(gan.phase, single.gists, image_batch)
    gists = [selected, tf.reshape(whole.gists, [-1, gan.config.context_size])]
    rendered = gan.generator.image_generator(tf.concat(gists, axis=0), training=True)
    single_count = tf.shape(selected)[0]
    images = tf.reshape(rendered[single_count:], [-1, gan.config.frames, IMAGE_SIZE, IMAGE_SIZE, 3])
    frames = _single_frames(gan.phase, rendered[:single_count], single.h0, image_batch)
    output = GeneratorOutput(images, whole.mu, whole.log_var, whole.h0, whole.seed)
    return frames, _story_frames(images, story_batch), output


def _select_frames(phase: PhaseConfig, values: tf.Tensor, batch: Batch) -> tf.Tensor:
    """Returns the values of the frames that an image update uses: [batch, frames, ...] -> [N, ...].

    N is the batch and the frame of each story is `batch["frame"]`, or N is batch * frames (`PhaseConfig.image_frames`).
    """
    if phase.image_frames == "all":
        return tf.reshape(values, [tf.shape(values)[0] * values.shape[1], *values.shape[2:]])
    return tf.gather(values, batch["frame"], batch_dims=1)


def _single_frames(phase: PhaseConfig, fake: tf.Tensor, h0: tf.Tensor, batch: Batch) -> SingleFrames:
    """Returns the real frames that an image update uses together with the generated ones.

    Args:
        phase: `image_frames` is used.
        fake: float32 [N, 64, 64, 3] in [-1, 1], generated frames.
        h0: float32 [batch, context_size].
        batch: the stories.
    """
    return SingleFrames(
        real=to_float(_select_frames(phase, batch["images"], batch)),
        fake=fake,
        sentences=_select_frames(phase, batch["vectors"], batch),
        h0=tf.repeat(h0, batch["vectors"].shape[1], axis=0) if phase.image_frames == "all" else h0,
        labels=_select_frames(phase, batch["labels"], batch),
    )


def _story_frames(fake: tf.Tensor, batch: Batch) -> StoryFrames:
    """Returns real stories together with generated ones, `fake` float32 [batch, frames, 64, 64, 3] in [-1, 1]."""
    return StoryFrames(to_float(batch["images"]), fake, batch["vectors"])


def _real_maps(gan: TrainableGAN, frames: SingleFrames) -> Sequence[tf.Tensor]:
    """Returns the trunk's four feature maps of the real frames, or none if the phase has no feature matching."""
    return gan.image_discriminator.trunk(frames.real, training=True) if gan.phase.feature_matching_weight else ()


def _image_loss(gan: TrainableGAN, frames: SingleFrames, real_maps: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the generator's loss on single frames, a float32 scalar."""
    network, count = gan.image_discriminator, gan.config.frames
    return gan.report(
        objectives.image_generator_objective(network, gan.phase, count, frames, real_maps, loss=gan.generator_loss)
    )


def _story_loss(gan: TrainableGAN, stories: StoryFrames, output: GeneratorOutput, batch: Batch) -> tf.Tensor:
    """Returns the generator's loss on whole stories, with KL and the pixel losses, a float32 scalar."""
    adversarial = objectives.story_generator_objective(
        gan.story_discriminator, gan.phase, stories, loss=gan.generator_loss
    )
    return gan.report(adversarial) + _picture_loss(gan, output, batch)


def _picture_loss(gan: TrainableGAN, output: GeneratorOutput, batch: Batch) -> tf.Tensor:
    """Returns KL and the pixel losses, weighted and summed, a float32 scalar."""
    return gan.report(objectives.picture_objective(gan.phase, gan.background, output, to_float(batch["images"])))


SCHEDULES = {"pixel": pixel_step, "algorithm1": algorithm1_step, "joint": joint_step}
"""The function of an outer step for each value of `PhaseConfig.schedule`."""
