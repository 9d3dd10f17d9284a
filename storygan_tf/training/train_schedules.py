"""The updates that an outer step of each schedule is made of.

Passes of a `joint` step with g generator updates, beside their gradients: g of the generator (the first serves the
discriminators' update, too); of each discriminator 2 for its own update, on true and on drawn frames, and g on drawn
ones for the generator's; with feature matching 1 more of the image discriminator's trunk on true frames. Drawn frames
pass again after the discriminators' update because the weights have changed. Mismatched pairs, labels and feature
matching share the trunk's maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from storygan_tf.config.schema import IMAGE_SIZE
from storygan_tf.data.batch_types import Batch, to_float
from storygan_tf.models.layers.spectral_conv import normalise_kernels
from storygan_tf.models.story_generator import Context, GeneratorOutput
from storygan_tf.training import objectives
from storygan_tf.training.objectives import SingleFrames, StoryFrames

if TYPE_CHECKING:
    from storygan_tf.training.storygan import StoryGAN

Data = Mapping[str, tuple[Batch, ...]]
"""`image` and `story`: the mini-batches of an outer step, one for each update; this replica's part."""


def pixel_step(gan: StoryGAN, data: Data) -> None:
    """Updates the generator alone, by pixel losses and KL."""
    for batch in data["story"]:
        pixel_update(gan, batch)


def algorithm1_step(gan: StoryGAN, data: Data) -> None:
    """Makes the image updates, then the story updates, of the paper's Algorithm 1."""
    for batch in data["image"]:
        image_update(gan, batch)
    for batch in data["story"]:
        story_update(gan, batch)


def joint_step(gan: StoryGAN, data: Data) -> None:
    """Updates both discriminators once, then the generator `generator_steps` times on all terms together.

    Each of the generator's updates has noise of its own.
    """
    (image,), (story,) = data["image"], data["story"]
    real_maps: Sequence[tf.Tensor] = ()
    for number in range(gan.phase.generator_steps):
        with tf.GradientTape() as tape:
            frames, tales, output = _draw_together(gan, image, story, number)
            if number == 0:
                with tape.stop_recording():
                    update_image_discriminator(gan, frames)
                    update_story_discriminator(gan, tales)
                    real_maps = _real_maps(gan, frames)
            loss = _image_loss(gan, frames, real_maps) + _story_loss(gan, tales, output, story)
        gan.update_network(tape, loss, "generator")


def pixel_update(gan: StoryGAN, batch: Batch) -> None:
    """Updates the generator by pixel losses and KL."""
    with tf.GradientTape() as tape:
        output = gan.generator(batch["vectors"], training=True, seed=batch["seed"])
        loss = _picture_loss(gan, output, batch)
    gan.update_network(tape, loss, "generator")


def image_update(gan: StoryGAN, batch: Batch) -> None:
    """Updates the image discriminator, then the generator, on one frame a story: the others are not drawn."""
    with tf.GradientTape() as tape:
        context = gan.generator.encode(batch["vectors"], training=True, seed=batch["seed"])
        fake = gan.generator.image_generator(_drawn_frame(context.gists, batch), training=True)
        frames = _frames(fake, context.h0, batch)
        with tape.stop_recording():
            update_image_discriminator(gan, frames)
            real_maps = _real_maps(gan, frames)
        loss = _image_loss(gan, frames, real_maps)
    gan.update_network(tape, loss, "generator")


def story_update(gan: StoryGAN, batch: Batch) -> None:
    """Updates the story discriminator, then the generator, on whole stories; KL and pixel losses belong here."""
    with tf.GradientTape() as tape:
        output = gan.generator(batch["vectors"], training=True, seed=batch["seed"])
        tales = _tales(output.images, batch)
        with tape.stop_recording():
            update_story_discriminator(gan, tales)
        loss = _story_loss(gan, tales, output, batch)
    gan.update_network(tape, loss, "generator")


def update_image_discriminator(gan: StoryGAN, frames: SingleFrames) -> None:
    """Updates the image discriminator; nothing goes back to `frames`."""
    with tf.GradientTape() as tape:
        network = gan.image_discriminator
        loss = gan.report(objectives.image_discriminator_objective(network, gan.phase, gan.config.frames, frames))
    gan.update_network(tape, loss, "image_discriminator")
    normalise_kernels(network)


def update_story_discriminator(gan: StoryGAN, tales: StoryFrames) -> None:
    """Updates the story discriminator; nothing goes back to `tales`."""
    with tf.GradientTape() as tape:
        loss = gan.report(objectives.story_discriminator_objective(gan.story_discriminator, gan.phase, tales))
    gan.update_network(tape, loss, "story_discriminator")
    normalise_kernels(gan.story_discriminator)


def _draw_together(
    gan: StoryGAN, image: Batch, story: Batch, number: int
) -> tuple[SingleFrames, StoryFrames, GeneratorOutput]:
    """Draws one frame of each story of `image` and all of each of `story` in one pass; `number` makes other noise."""
    vectors = tf.concat([image["vectors"], story["vectors"]], axis=0)
    seeds = tf.concat([image["seed"], story["seed"]], axis=0) + number
    context = gan.generator.encode(vectors, training=True, seed=seeds)
    count = tf.shape(image["vectors"])[0]
    single, whole = Context(*(part[:count] for part in context)), Context(*(part[count:] for part in context))
    gists = [_drawn_frame(single.gists, image), tf.reshape(whole.gists, [-1, gan.config.context_size])]
    drawn = gan.generator.image_generator(tf.concat(gists, axis=0), training=True)
    images = tf.reshape(drawn[count:], [-1, gan.config.frames, IMAGE_SIZE, IMAGE_SIZE, 3])
    output = GeneratorOutput(images, whole.mu, whole.log_var, whole.h0)
    return _frames(drawn[:count], single.h0, image), _tales(images, story), output


def _drawn_frame(values: tf.Tensor, batch: Batch) -> tf.Tensor:
    """Returns what belongs to the frame that an image update looks at: [batch, frames, ...] -> [batch, ...]."""
    return tf.gather(values, batch["frame"], batch_dims=1)


def _frames(fake: tf.Tensor, h0: tf.Tensor, batch: Batch) -> SingleFrames:
    """Returns the true and the drawn frame of each story."""
    return SingleFrames(
        real=to_float(_drawn_frame(batch["images"], batch)),
        fake=fake,
        sentences=_drawn_frame(batch["vectors"], batch),
        h0=h0,
        labels=_drawn_frame(batch["labels"], batch),
    )


def _tales(fake: tf.Tensor, batch: Batch) -> StoryFrames:
    """Returns the stories, true and drawn."""
    return StoryFrames(to_float(batch["images"]), fake, batch["vectors"])


def _real_maps(gan: StoryGAN, frames: SingleFrames) -> Sequence[tf.Tensor]:
    """Returns the trunk's maps of the true frames, where there is feature matching."""
    return gan.image_discriminator.trunk(frames.real, training=True) if gan.phase.feature_matching_weight else ()


def _image_loss(gan: StoryGAN, frames: SingleFrames, real_maps: Sequence[tf.Tensor]) -> tf.Tensor:
    network, count = gan.image_discriminator, gan.config.frames
    return gan.report(objectives.image_generator_objective(network, gan.phase, count, frames, real_maps))


def _story_loss(gan: StoryGAN, tales: StoryFrames, output: GeneratorOutput, batch: Batch) -> tf.Tensor:
    adversarial = objectives.story_generator_objective(gan.story_discriminator, gan.phase, tales)
    return gan.report(adversarial) + _picture_loss(gan, output, batch)


def _picture_loss(gan: StoryGAN, output: GeneratorOutput, batch: Batch) -> tf.Tensor:
    return gan.report(objectives.picture_objective(gan.phase, gan.background, output, to_float(batch["images"])))


SCHEDULES = {"pixel": pixel_step, "algorithm1": algorithm1_step, "joint": joint_step}
"""What an outer step of each schedule does."""
