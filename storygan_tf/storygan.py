"""StoryGAN: one generator, two discriminators, and the paper's Algorithm 1 as a Keras `train_step`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import keras
import numpy as np
import tensorflow as tf

from storygan_tf import losses
from storygan_tf.config import IMAGE_SIZE, PhaseConfig, StoryGANConfig, from_dict
from storygan_tf.discriminators import ImageDiscriminator, StoryDiscriminator
from storygan_tf.generator import GeneratorOutput, StoryGenerator
from storygan_tf.schedules import LinearTail

LOSS_NAMES = {
    "pixel": ("l1", "l2", "kl"),
    "algorithm1": (
        "image_discriminator",
        "image_generator",
        "story_discriminator",
        "story_generator",
        "kl",
        "l1",
        "l2",
    ),
}
"""What a step of each schedule reports."""


class Batch(TypedDict):
    """A mini-batch of stories.

    Keys:
        images: uint8 [batch, frames, 64, 64, 3], true frames.
        vectors: float32 [batch, frames, sentence_size].
        labels: uint8 [batch, frames, labels], 0 or 1.
        seed: int64 [batch], of each story's noise.
        frame: int32 [batch], the frame that an image update looks at.
    """

    images: tf.Tensor
    vectors: tf.Tensor
    labels: tf.Tensor
    seed: tf.Tensor
    frame: tf.Tensor


class Optimizers(NamedTuple):
    """One Adam (Kingma and Ba, arXiv:1412.6980) for each network."""

    generator: keras.optimizers.Optimizer
    image_discriminator: keras.optimizers.Optimizer
    story_discriminator: keras.optimizers.Optimizer


def to_float(images: tf.Tensor) -> tf.Tensor:
    """Returns uint8 frames as float32 in [-1, 1]."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def to_uint8(images: tf.Tensor) -> tf.Tensor:
    """Returns float frames in [-1, 1] as uint8, rounded."""
    return tf.saturate_cast(tf.round((images + 1.0) * 127.5), tf.uint8)


def make_optimizers(phase: PhaseConfig, steps: int) -> Optimizers:
    """Returns the optimizers of a phase of `steps` outer steps."""
    image, story = (0, 1) if phase.schedule == "pixel" else (phase.image_steps, phase.story_steps)

    def adam(rate: float, updates: int) -> keras.optimizers.Optimizer:
        schedule = LinearTail(rate, max(1, updates * steps)) if phase.decay == "linear" else rate
        return keras.optimizers.Adam(schedule, phase.beta_1, phase.beta_2, jit_compile=False)

    return Optimizers(
        generator=adam(phase.generator_learning_rate, image + story),
        image_discriminator=adam(phase.discriminator_learning_rate, image),
        story_discriminator=adam(phase.discriminator_learning_rate, story),
    )


@keras.saving.register_keras_serializable(package="storygan")
class StoryGAN(keras.Model):
    """StoryGAN (Li et al., "StoryGAN: A Sequential Conditional GAN for Story Visualization", CVPR 2019).

    An outer step of the `algorithm1` schedule is `image_steps` image updates, then `story_steps` story updates, each on
    mini-batches of its own: a discriminator first, then the generator. The KL divergence and, where wanted, pixel
    losses join the story update, so that one outer step sums to the paper's objective. The `pixel` schedule updates the
    generator alone.

    Args:
        config: sizes of the networks.

    Attributes:
        generator: `StoryGenerator`.
        image_discriminator: `ImageDiscriminator`.
        story_discriminator: `StoryDiscriminator`.

    Call: as the generator.

    Example:
        >>> gan = StoryGAN(StoryGANConfig(generator_width=64, discriminator_width=8))
        >>> gan.compile(PhaseConfig(), steps=100)
        >>> # gan.fit(data set of {"image": (Batch, ...), "story": (Batch, ...)})
    """

    def __init__(self, config: StoryGANConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.generator = StoryGenerator(config, name="generator")
        self.image_discriminator = ImageDiscriminator(
            config.discriminator_width, config.spectral_norm, name="image_discriminator"
        )
        self.story_discriminator = StoryDiscriminator(
            config.frames, config.discriminator_width, config.spectral_norm, name="story_discriminator"
        )
        self.background = tf.Variable(
            np.full([IMAGE_SIZE, IMAGE_SIZE, 3], np.nan, np.float32), trainable=False, name="background"
        )
        self._build_networks()

    def _build_networks(self) -> None:
        """Makes all weights now, so that optimizers, checkpoints and `jit_compile` find them."""
        sentences = tf.zeros([1, self.config.frames, self.config.sentence_size])
        output = self.generator(sentences)
        self.image_discriminator(output.images[:, 0], sentences[:, 0], output.h0)
        self.story_discriminator(output.images, sentences)
        self.built = True

    def call(
        self, sentences: tf.Tensor, training: bool | None = None, seed: tf.Tensor | None = None
    ) -> GeneratorOutput:
        """Draws stories; see `StoryGenerator.call`."""
        return self.generator(sentences, training=training, seed=seed)

    def compile(
        self,
        phase: PhaseConfig,
        steps: int,
        background: np.ndarray | None = None,
        **kwargs: Any,
    ) -> None:
        """Sets the losses, schedule and fresh optimizers of a phase of training.

        Args:
            phase: its configuration.
            steps: outer steps that it lasts (learning rates may fall over them).
            background: uint8 [64, 64, 3], median of the training frames; needed where `phase.object_weight` is not 1.
            **kwargs: for `keras.Model.compile`, such as `jit_compile`.
        """
        optimizers = make_optimizers(phase, steps)
        super().compile(optimizer=optimizers.generator, **kwargs)
        if background is not None:
            self.background.assign(to_float(tf.constant(background)))
        self.phase = phase
        self.optimizers = optimizers
        self.trackers = {name: keras.metrics.Mean(name) for name in LOSS_NAMES[phase.schedule]}
        for optimizer, network in zip(optimizers, self.networks, strict=True):
            optimizer.build(network.trainable_variables)

    @property
    def networks(self) -> tuple[keras.Model, keras.Model, keras.Model]:
        """Generator, image discriminator, story discriminator: the order of `Optimizers`."""
        return self.generator, self.image_discriminator, self.story_discriminator

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The losses of the current phase, averaged over an epoch."""
        return list(self.trackers.values()) if hasattr(self, "trackers") else []

    def train_step(self, data: Mapping[str, tuple[Batch, ...]]) -> dict[str, tf.Tensor]:
        """Makes one outer step.

        Args:
            data: `image` and `story`: the mini-batches of this step's updates, one for each; this replica's part.

        Returns:
            The losses, averaged over the epoch so far, a story each (`image_*` summed over T frames).
        """
        if self.phase.schedule == "pixel":
            for batch in data["story"]:
                self._pixel_update(batch)
        else:
            for batch in data["image"]:
                self._image_update(batch)
            for batch in data["story"]:
                self._story_update(batch)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def test_step(self, data: Mapping[str, tuple[Batch, ...]]) -> dict[str, tf.Tensor]:
        """Reports the generator's losses on stories, with moving statistics and without an update."""
        for batch in data["story"]:
            output = self.generator(batch["vectors"], training=False, seed=batch["seed"])
            self._pixel_losses(output, batch)
        names = ("l1", "l2", "kl")
        return {name: self.trackers[name].result() for name in names}

    def _pixel_update(self, batch: Batch) -> None:
        with tf.GradientTape() as tape:
            output = self.generator(batch["vectors"], training=True, seed=batch["seed"])
            loss = self._mean(self._pixel_losses(output, batch))
        self._descend(tape, loss, 0)

    def _image_update(self, batch: Batch) -> None:
        """One frame a story: `T * L_Image` of a uniformly drawn frame is an unbiased sum over the frames."""
        frames = float(self.config.frames)
        sentences = tf.gather(batch["vectors"], batch["frame"], batch_dims=1)
        real = to_float(tf.gather(batch["images"], batch["frame"], batch_dims=1))
        with tf.GradientTape() as tape:
            context = self.generator.encode(batch["vectors"], training=True, seed=batch["seed"])
            gists = tf.gather(context.gists, batch["frame"], batch_dims=1)
            fake = self.generator.image_generator(gists, training=True)
            with tape.stop_recording():
                self._update_image_discriminator(real, fake, sentences, context.h0)
            logits = self.image_discriminator(fake, sentences, context.h0, training=True)
            adversarial = frames * losses.generator_loss(logits, self.phase.generator_loss)
            loss = self._mean(self.phase.image_weight * adversarial)
        self._descend(tape, loss, 0)
        self._track("image_generator", adversarial)

    def _update_image_discriminator(
        self, real: tf.Tensor, fake: tf.Tensor, sentences: tf.Tensor, h0: tf.Tensor
    ) -> None:
        with tf.GradientTape() as tape:
            real_logits = self.image_discriminator(real, sentences, h0, training=True)
            fake_logits = self.image_discriminator(fake, sentences, h0, training=True)
            loss = self.config.frames * losses.discriminator_loss(real_logits, fake_logits)
            mean = self._mean(loss)
        self._descend(tape, mean, 1)
        self._track("image_discriminator", loss)

    def _story_update(self, batch: Batch) -> None:
        vectors = batch["vectors"]
        with tf.GradientTape() as tape:
            output = self.generator(vectors, training=True, seed=batch["seed"])
            with tape.stop_recording():
                self._update_story_discriminator(to_float(batch["images"]), output.images, vectors)
            logits = self.story_discriminator(output.images, vectors, training=True)
            adversarial = losses.generator_loss(logits, self.phase.generator_loss)
            loss = self._mean(self.phase.story_weight * adversarial + self._pixel_losses(output, batch))
        self._descend(tape, loss, 0)
        self._track("story_generator", adversarial)

    def _update_story_discriminator(self, real: tf.Tensor, fake: tf.Tensor, sentences: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            real_logits = self.story_discriminator(real, sentences, training=True)
            fake_logits = self.story_discriminator(fake, sentences, training=True)
            loss = losses.discriminator_loss(real_logits, fake_logits)
            mean = self._mean(loss)
        self._descend(tape, mean, 2)
        self._track("story_discriminator", loss)

    def _pixel_losses(self, output: GeneratorOutput, batch: Batch) -> tf.Tensor:
        """Returns KL and the pixel losses, weighted and added up: float [batch]."""
        phase = self.phase
        real = to_float(batch["images"])
        weights = losses.object_weights(real, self.background, phase.object_weight) if phase.object_weight != 1 else 1.0
        terms = {
            "kl": (phase.kl_weight, losses.kl_divergence(output.mu, output.log_var)),
            "l1": (phase.l1_weight, losses.pixel_l1(output.images, real, weights)),
            "l2": (phase.l2_weight, losses.pixel_l2(output.images, real, weights)),
        }
        for name, (_, values) in terms.items():
            self._track(name, values)
        return tf.add_n([weight * values for weight, values in terms.values()])

    def _mean(self, values: tf.Tensor) -> tf.Tensor:
        """Averages over the global batch: replicas' gradients are summed."""
        return tf.reduce_mean(values) / tf.distribute.get_strategy().num_replicas_in_sync

    def _track(self, name: str, values: tf.Tensor) -> None:
        self.trackers[name].update_state(values)

    def _descend(self, tape: tf.GradientTape, loss: tf.Tensor, network: int) -> None:
        """Updates one network by its optimizer; networks are numbered as in `Optimizers`."""
        variables = self.networks[network].trainable_variables
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.optimizers[network].apply_gradients(zip(gradients, variables, strict=True))

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration as plain values."""
        return {"config": dataclasses.asdict(self.config), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> StoryGAN:
        """Builds a StoryGAN from what `get_config` gave."""
        return cls(from_dict(StoryGANConfig, config["config"]), name=config["name"])
