"""The StoryGAN model: a generator and two discriminators, trained by the schedule of a phase in `train_step`."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from storygan_tf.common.errors import ConfigError
from storygan_tf.config.parsing import from_dict
from storygan_tf.config.schema import IMAGE_SIZE, PhaseConfig, StoryGANConfig
from storygan_tf.data.batch_types import Batch, ValidationBatch, to_float, to_uint8
from storygan_tf.models import losses
from storygan_tf.models.image_discriminator import ImageDiscriminator
from storygan_tf.models.image_generator import ImageGenerator
from storygan_tf.models.story_discriminator import StoryDiscriminator
from storygan_tf.models.story_generator import GeneratorOutput, StoryGenerator
from storygan_tf.training import objectives, validation
from storygan_tf.training.learning_rates import rate_over_phase
from storygan_tf.training.objectives import DiscriminatorLoss, GeneratorLoss, Objective
from storygan_tf.training.train_schedules import SCHEDULES, Data
from storygan_tf.training.weight_average import copy_weights, update_average

__all__ = ["Batch", "Optimizers", "StoryGAN", "make_optimizers", "to_float", "to_uint8"]


class Optimizers(NamedTuple):
    """The Adam optimizers (Kingma and Ba, arXiv:1412.6980) of the three networks, in the order of `networks`."""

    generator: keras.optimizers.Optimizer
    image_discriminator: keras.optimizers.Optimizer
    story_discriminator: keras.optimizers.Optimizer


def make_generator(
    config: StoryGANConfig, name: str, policy: keras.mixed_precision.Policy | None = None
) -> StoryGenerator:
    """Returns a generator whose image generator computes by a mixed-precision policy.

    The recurrent part always computes in float32: it is a hundredth of the work, and its noise, KL divergence and
    states need the full precision.

    Args:
        config: sizes of the networks.
        name: name of the generator.
        policy: policy of the image generator; float32 by default.
    """
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(keras.backend.floatx())
    try:
        generator = StoryGenerator(config, name=name)
    finally:
        keras.mixed_precision.set_global_policy(before)
    if policy is not None and policy.name != keras.backend.floatx():
        generator.image_generator = ImageGenerator(config.generator_width, dtype=policy, name="image_generator")
    return generator


def make_optimizers(phase: PhaseConfig, steps: int) -> Optimizers:
    """Returns the optimizers of a phase.

    Args:
        phase: the phase.
        steps: number of outer steps in the phase, over which the learning rates may fall.
    """
    generator, image, story = {
        "pixel": (phase.story_steps, 0, 0),
        "algorithm1": (phase.image_steps + phase.story_steps, phase.image_steps, phase.story_steps),
        "joint": (phase.generator_steps, 1, 1),
    }[phase.schedule]

    def adam(rate: float, updates: int) -> keras.optimizers.Optimizer:
        schedule = rate_over_phase(phase, rate, max(1, updates * steps))
        return keras.optimizers.Adam(schedule, phase.beta_1, phase.beta_2, jit_compile=False)

    return Optimizers(
        generator=adam(phase.generator_learning_rate, generator),
        image_discriminator=adam(phase.discriminator_learning_rate, image),
        story_discriminator=adam(phase.discriminator_learning_rate, story),
    )


@keras.saving.register_keras_serializable(package="storygan")
class StoryGAN(keras.Model):
    """StoryGAN: a generator of image sequences with an image discriminator and a story discriminator.

    Use it to train a generator with `fit`, one phase after another, and to draw stories by calling it.

    The schedule of the phase defines an outer step (`train_schedules`):

    - `algorithm1`, the paper's Algorithm 1: `image_steps` image updates, then `story_steps` story updates, each on a
      mini-batch of its own. An update trains a discriminator first, then the generator. The KL divergence and the
      pixel losses, if any, belong to the story update, so that one outer step sums to the paper's objective.
    - `joint`: one update of both discriminators, then `generator_steps` updates of the generator on all losses.
    - `pixel`: the generator alone, on KL and the pixel losses.

    Reference: Li et al., "StoryGAN: A Sequential Conditional GAN for Story Visualization", CVPR 2019,
    arXiv:1812.02784.

    Args:
        config: sizes of the networks.

    Attributes:
        generator: `StoryGenerator`.
        image_discriminator: `ImageDiscriminator`.
        story_discriminator: `StoryDiscriminator`.
        averaged: `StoryGenerator`, the moving average of the generator if the phase has one (`PhaseConfig.average`). It
            always exists, so that the checkpoints of all phases hold the same variables, and is float32 under every
            policy.
        background: float32 variable [64, 64, 3] in [-1, 1], median of the training frames; NaN until `compile` sets
            it.
        continues_epoch: whether the next epoch of `fit` is the rest of one that was interrupted, whose running means
            have been restored.

    Input shape: `sentences` float32 [batch, frames, sentence_size].

    Output shape: `GeneratorOutput`, whose images are float32 [batch, frames, 64, 64, 3] in [-1, 1].

    Example:
        >>> gan = StoryGAN(StoryGANConfig(generator_width=64, discriminator_width=8))
        >>> gan.compile(
        ...     PhaseConfig(),
        ...     generator_optimizer=keras.optimizers.Adam(2e-4, beta_1=0.5),
        ...     image_discriminator_optimizer=keras.optimizers.Adam(2e-4, beta_1=0.5),
        ...     story_discriminator_optimizer=keras.optimizers.Adam(2e-4, beta_1=0.5),
        ... )
        >>> gan.fit(dataset)  # of {"image": (Batch, ...), "story": (Batch, ...)}, see `training_dataset`
    """

    def __init__(self, config: StoryGANConfig, **kwargs: Any) -> None:
        super().__init__(dtype=keras.backend.floatx(), **kwargs)  # A 16-bit policy would round sentence vectors.
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
            np.full([IMAGE_SIZE, IMAGE_SIZE, 3], np.nan, keras.backend.floatx()), trainable=False, name="background"
        )
        # The metrics of `train_step` are already reduced over replicas.
        self.distribute_reduction_method = "first"
        self.continues_epoch = False
        self._build_networks()

    def _build_networks(self) -> None:
        """Creates all weights, which optimizers, checkpoints and `jit_compile` need before the first step."""
        sentences = tf.zeros([1, self.config.frames, self.config.sentence_size], keras.backend.floatx())
        seed = tf.zeros([1], tf.int64)
        output = self.generator(sentences, seed=seed)
        self.image_discriminator(output.images[:, 0], sentences[:, 0], output.h0)
        self.story_discriminator(output.images, sentences)
        self.averaged(sentences, seed=seed)
        self.averaged.trainable = False
        copy_weights(self.averaged, self.generator)
        self.built = True

    def call(
        self, sentences: tf.Tensor, training: bool | None = None, seed: tf.Tensor | None = None
    ) -> GeneratorOutput:
        """Draws stories; see `StoryGenerator.call` for arguments and outputs.

        Without seeds every story gets fresh noise.
        """
        return self.generator(sentences, training=training, seed=seed)

    def compile(
        self,
        phase: PhaseConfig,
        *,
        generator_optimizer: keras.optimizers.Optimizer | None = None,
        image_discriminator_optimizer: keras.optimizers.Optimizer | None = None,
        story_discriminator_optimizer: keras.optimizers.Optimizer | None = None,
        generator_loss: GeneratorLoss | None = None,
        discriminator_loss: DiscriminatorLoss | None = None,
        steps: int = 1,
        background: np.ndarray | None = None,
        **kwargs: Any,
    ) -> None:
        """Configures the model for a phase of training: losses, schedule, optimizers and a new moving average.

        Args:
            phase: schedule and weights of the losses; the learning rates, where an optimizer is not given.
            generator_optimizer: by default Adam as `phase` configures it; so for the other two.
            image_discriminator_optimizer: see `generator_optimizer`.
            story_discriminator_optimizer: see `generator_optimizer`.
            generator_loss: adversarial loss of the generator: logits of generated frames or stories, float [N] ->
                float [N]. By default `losses.generator_loss` of the form `phase.generator_loss`.
            discriminator_loss: loss of a discriminator: logits of real, of generated and of mismatched frames or
                stories, float [N] or, for mismatched ones, None -> float [N]. By default `losses.discriminator_loss`.
            steps: number of outer steps in the phase, over which the default optimizers' learning rates may fall.
            background: uint8 [64, 64, 3], median of the training frames; required if `phase.object_weight` is not 1.
            **kwargs: arguments of `keras.Model.compile`, such as `jit_compile`.

        Raises:
            ConfigError: if the phase has label losses and the model has no labels.
        """
        if max(phase.label_weight, phase.generator_label_weight) and not self.config.labels:
            raise ConfigError(
                f"training.phases.{phase.name}.label_weight: found {phase.label_weight} (and generator_label_weight "
                f"{phase.generator_label_weight}), expected 0 for a model without labels (model.labels is 0)."
            )
        given = generator_optimizer, image_discriminator_optimizer, story_discriminator_optimizer
        pairs = zip(given, make_optimizers(phase, steps), strict=True)
        optimizers = Optimizers(*(self._scaling(optimizer or default) for optimizer, default in pairs))
        if isinstance(self.distribute_strategy, tf.distribute.TPUStrategy):
            kwargs["jit_compile"] = False  # TPUs compile the whole step anyway.
        super().compile(optimizer=optimizers.generator, **kwargs)
        if background is not None:
            self.background.assign(to_float(tf.constant(background)))
        self.phase = phase
        self.optimizers = optimizers
        self.generator_loss = generator_loss or objectives.generator_loss(phase)
        self.discriminator_loss = discriminator_loss or losses.discriminator_loss
        self.trackers = {name: keras.metrics.Mean(name) for name in objectives.reported_names(phase)}
        self.validation_trackers = {name: keras.metrics.Mean(name) for name in validation.validated_names(phase)}
        for optimizer, network in zip(optimizers, self.networks, strict=True):
            optimizer.build(network.trainable_variables)
        copy_weights(self.averaged, self.generator)

    @property
    def networks(self) -> tuple[keras.Model, keras.Model, keras.Model]:
        """The generator, the image discriminator and the story discriminator."""
        return self.generator, self.image_discriminator, self.story_discriminator

    @property
    def drawn_generator(self) -> StoryGenerator:
        """The generator to evaluate and export: the moving average if the phase has one, else the trained generator."""
        return self.averaged if getattr(self, "phase", PhaseConfig()).average else self.generator

    @property
    def _scaled(self) -> bool:
        """Whether losses must be scaled, because gradients are computed in float16."""
        return self.image_discriminator.compute_dtype == "float16"

    def _scaling(self, optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
        """Returns the optimizer, wrapped in a `LossScaleOptimizer` if gradients are computed in float16.

        It scales losses so that their gradients fit into float16 (Micikevicius et al., arXiv:1710.03740).
        """
        if not self._scaled or isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
            return optimizer
        return keras.mixed_precision.LossScaleOptimizer(optimizer)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running means of a training epoch and of a validation in the current phase; empty before `compile`."""
        return [*self.trackers.values(), *self.validation_trackers.values()] if hasattr(self, "trackers") else []

    def reset_metrics(self) -> None:
        """Resets the running means. If `continues_epoch` is set, it is set to False and the means are kept."""
        if not self.continues_epoch:
            super().reset_metrics()
        self.continues_epoch = False

    def train_step(self, data: Data) -> dict[str, tf.Tensor]:
        """Runs one outer step.

        Args:
            data: this replica's part of the mini-batches; see `train_schedules.Data`.

        Returns:
            The values that `objectives.reported_names` lists, float32 scalars averaged over the epoch so far.
        """
        SCHEDULES[self.phase.schedule](self, data)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def test_step(self, data: ValidationBatch) -> dict[str, tf.Tensor]:
        """Measures the generator that would be exported on a batch of held-out stories.

        Args:
            data: this replica's part of the batch; see `storygan_tf.data.training_input.validation_dataset`.

        Returns:
            The values that `validation.validated_names` lists, float32 scalars averaged over the stories so far.
        """
        batch = data["stories"]
        output = self.drawn_generator(batch["vectors"], training=False, seed=batch["seed"])
        for name, values in validation.validation_values(self, batch, output).items():
            self.validation_trackers[name].update_state(values, sample_weight=data["weight"])
        return {name: tracker.result() for name, tracker in self.validation_trackers.items()}

    def report(self, objective: Objective) -> tf.Tensor:
        """Adds the reports of an objective to the running means and returns its loss.

        Returns:
            float32 scalar: this replica's share of the mean over the global batch. The gradients of all replicas are
            summed.
        """
        for name, values in objective.reports.items():
            self.trackers[name].update_state(values)
        return tf.reduce_mean(objective.loss) / tf.distribute.get_strategy().num_replicas_in_sync

    def update_network(self, tape: tf.GradientTape, loss: tf.Tensor, name: str) -> None:
        """Updates the weights of a network by one optimizer step, and the moving average if it is the generator.

        Args:
            tape: the tape that recorded `loss`.
            loss: float32 scalar, see `report`.
            name: attribute name of the network: `generator`, `image_discriminator` or `story_discriminator`.
        """
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
        """Returns the arguments of `__init__`, the configuration as a dictionary of plain values."""
        return {"config": dataclasses.asdict(self.config), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> StoryGAN:
        """Returns a new StoryGAN from the output of `get_config`."""
        return cls(from_dict(StoryGANConfig, config["config"]), name=config["name"])
