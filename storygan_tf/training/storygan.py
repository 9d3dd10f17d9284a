"""StoryGAN: one generator, two discriminators, and a phase's schedule as a Keras `train_step`."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from storygan_tf.common.errors import ConfigError
from storygan_tf.config.schema import IMAGE_SIZE, PhaseConfig, StoryGANConfig, from_dict
from storygan_tf.data.batch_types import Batch, to_float, to_uint8
from storygan_tf.models.image_discriminator import ImageDiscriminator
from storygan_tf.models.image_generator import ImageGenerator
from storygan_tf.models.story_discriminator import StoryDiscriminator
from storygan_tf.models.story_generator import GeneratorOutput, StoryGenerator
from storygan_tf.training.learning_rates import rate_over_phase
from storygan_tf.training.objectives import PICTURE_LOSSES, Objective, picture_objective, reported_names
from storygan_tf.training.train_schedules import SCHEDULES, Data
from storygan_tf.training.weight_average import copy_weights, update_average

__all__ = ["Batch", "Optimizers", "StoryGAN", "make_optimizers", "to_float", "to_uint8"]


class Optimizers(NamedTuple):
    """One Adam (Kingma and Ba, arXiv:1412.6980) for each network."""

    generator: keras.optimizers.Optimizer
    image_discriminator: keras.optimizers.Optimizer
    story_discriminator: keras.optimizers.Optimizer


def make_generator(
    config: StoryGANConfig, name: str, policy: keras.mixed_precision.Policy | None = None
) -> StoryGenerator:
    """Returns a generator whose image generator computes by `policy`, and the recurrent part in float32 always.

    The recurrent part is a hundredth of the work, and its noise, KL divergence and states want all digits.
    """
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    try:
        generator = StoryGenerator(config, name=name)
    finally:
        keras.mixed_precision.set_global_policy(before)
    if policy is not None and policy.name != "float32":
        generator.image_generator = ImageGenerator(config.generator_width, dtype=policy, name="image_generator")
    return generator


def make_optimizers(phase: PhaseConfig, steps: int, *, scaled: bool = False) -> Optimizers:
    """Returns the optimizers of a phase.

    Args:
        phase: its configuration.
        steps: its outer steps.
        scaled: whether losses are scaled so that their gradients fit into float16 (Micikevicius et al.,
            arXiv:1710.03740).
    """
    generator, image, story = {
        "pixel": (phase.story_steps, 0, 0),
        "algorithm1": (phase.image_steps + phase.story_steps, phase.image_steps, phase.story_steps),
        "joint": (phase.generator_steps, 1, 1),
    }[phase.schedule]

    def adam(rate: float, updates: int) -> keras.optimizers.Optimizer:
        schedule = rate_over_phase(phase, rate, max(1, updates * steps))
        optimizer = keras.optimizers.Adam(schedule, phase.beta_1, phase.beta_2, jit_compile=False)
        return keras.mixed_precision.LossScaleOptimizer(optimizer) if scaled else optimizer

    return Optimizers(
        generator=adam(phase.generator_learning_rate, generator),
        image_discriminator=adam(phase.discriminator_learning_rate, image),
        story_discriminator=adam(phase.discriminator_learning_rate, story),
    )


@keras.saving.register_keras_serializable(package="storygan")
class StoryGAN(keras.Model):
    """StoryGAN (Li et al., "StoryGAN: A Sequential Conditional GAN for Story Visualization", CVPR 2019).

    An outer step of the `algorithm1` schedule is `image_steps` image updates, then `story_steps` story updates, each on
    mini-batches of its own: a discriminator first, then the generator. The KL divergence and, where wanted, pixel
    losses join the story update, so that one outer step sums to the paper's objective. The `joint` schedule updates
    both discriminators, then the generator on all terms together; `pixel` updates the generator alone.

    Args:
        config: sizes of the networks.

    Attributes:
        generator: `StoryGenerator`.
        image_discriminator: `ImageDiscriminator`.
        story_discriminator: `StoryDiscriminator`.
        averaged: `StoryGenerator`, the moving average of the generator where the phase has one (`PhaseConfig.average`);
            always there, so that checkpoints of all phases hold the same, and in float32 under every policy.

    Call: as the generator.

    Example:
        >>> gan = StoryGAN(StoryGANConfig(generator_width=64, discriminator_width=8))
        >>> gan.compile(PhaseConfig(), steps=100)
        >>> # gan.fit(data set of {"image": (Batch, ...), "story": (Batch, ...)})
    """

    def __init__(self, config: StoryGANConfig, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)  # Else sentence vectors would lose digits under a 16-bit policy.
        self.config = config
        self.generator = make_generator(config, "generator", keras.mixed_precision.global_policy())
        self.image_discriminator = ImageDiscriminator(
            config.discriminator_width, config.spectral_norm, config.labels, name="image_discriminator"
        )
        self.story_discriminator = StoryDiscriminator(
            config.frames, config.discriminator_width, config.spectral_norm, name="story_discriminator"
        )
        self.averaged = make_generator(config, "averaged")
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
        self.averaged(sentences)
        self.averaged.trainable = False
        copy_weights(self.averaged, self.generator)
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
        """Sets the losses, schedule and fresh optimizers of a phase of training; the moving average starts anew.

        Args:
            phase: its configuration.
            steps: outer steps that it lasts (learning rates may fall over them).
            background: uint8 [64, 64, 3], median of the training frames; needed where `phase.object_weight` is not 1.
            **kwargs: for `keras.Model.compile`, such as `jit_compile`.

        Raises:
            ConfigError: where the phase wants labels of a model without.
        """
        if max(phase.label_weight, phase.generator_label_weight) and not self.config.labels:
            raise ConfigError(
                f"training.phases.{phase.name}.label_weight: found {phase.label_weight} (and generator_label_weight "
                f"{phase.generator_label_weight}), expected 0 for a model that tells no labels (model.labels is 0)."
            )
        optimizers = make_optimizers(phase, steps, scaled=self._scaled)
        super().compile(optimizer=optimizers.generator, **kwargs)
        if background is not None:
            self.background.assign(to_float(tf.constant(background)))
        self.phase = phase
        self.optimizers = optimizers
        self.trackers = {name: keras.metrics.Mean(name) for name in reported_names(phase)}
        for optimizer, network in zip(optimizers, self.networks, strict=True):
            optimizer.build(network.trainable_variables)
        copy_weights(self.averaged, self.generator)

    @property
    def networks(self) -> tuple[keras.Model, keras.Model, keras.Model]:
        """Generator, image discriminator, story discriminator: the order of `Optimizers`."""
        return self.generator, self.image_discriminator, self.story_discriminator

    @property
    def drawn_generator(self) -> StoryGenerator:
        """What is evaluated and exported: the moving average where the phase has one, else the generator."""
        return self.averaged if getattr(self, "phase", PhaseConfig()).average else self.generator

    @property
    def _scaled(self) -> bool:
        return self.image_discriminator.compute_dtype == "float16"

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The losses of the current phase, averaged over an epoch."""
        return list(self.trackers.values()) if hasattr(self, "trackers") else []

    def train_step(self, data: Data) -> dict[str, tf.Tensor]:
        """Makes one outer step.

        Args:
            data: `image` and `story`: the mini-batches of this step's updates, one for each; this replica's part.

        Returns:
            What `reported_names` lists, averaged over the epoch so far.
        """
        SCHEDULES[self.phase.schedule](self, data)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def test_step(self, data: Data) -> dict[str, tf.Tensor]:
        """Reports the generator's losses on stories, with moving statistics and without an update."""
        for batch in data["story"]:
            output = self.generator(batch["vectors"], training=False, seed=batch["seed"])
            self.report(picture_objective(self.phase, self.background, output, to_float(batch["images"])))
        return {name: self.trackers[name].result() for name in PICTURE_LOSSES}

    def report(self, objective: Objective) -> tf.Tensor:
        """Keeps what there is to report, and returns the loss, averaged over the global batch, a scalar.

        Replicas' gradients are summed.
        """
        for name, values in objective.reports.items():
            self.trackers[name].update_state(values)
        return tf.reduce_mean(objective.loss) / tf.distribute.get_strategy().num_replicas_in_sync

    def update_network(self, tape: tf.GradientTape, loss: tf.Tensor, name: str) -> None:
        """Updates one network, called by its name, with its optimizer."""
        variables = getattr(self, name).trainable_variables
        optimizer = getattr(self.optimizers, name)
        if self._scaled:
            with tape:
                loss = optimizer.get_scaled_loss(loss)
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        if self._scaled:
            gradients = optimizer.get_unscaled_gradients(gradients)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if name == "generator" and self.phase.average:
            update_average(self.averaged, self.generator, self.phase.average, optimizer.iterations - 1)

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration as plain values."""
        return {"config": dataclasses.asdict(self.config), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> StoryGAN:
        """Builds a StoryGAN from what `get_config` gave."""
        return cls(from_dict(StoryGANConfig, config["config"]), name=config["name"])
