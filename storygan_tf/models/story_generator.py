"""The generator of StoryGAN: story encoder, context encoder and image generator in sequence."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from storygan_tf.config.parsing import from_dict
from storygan_tf.config.schema import IMAGE_SIZE, StoryGANConfig
from storygan_tf.models.context_encoder import ContextEncoder
from storygan_tf.models.image_generator import ImageGenerator
from storygan_tf.models.noise import Noise, story_noise
from storygan_tf.models.story_encoder import StoryEncoder


class Context(NamedTuple):
    """The recurrent part's output for a batch of stories, before frames are rendered.

    Attributes:
        gists: float32 [batch, frames, context_size], one vector per frame.
        mu: float32 [batch, context_size], mean of `h0`.
        log_var: float32 [batch, context_size], logarithm of the variance of `h0`.
        h0: float32 [batch, context_size], initial state of the context encoder.
        seed: int64 [batch], the seed of each story's noise; -1 if the noise itself was given.
    """

    gists: tf.Tensor
    mu: tf.Tensor
    log_var: tf.Tensor
    h0: tf.Tensor
    seed: tf.Tensor


class GeneratorOutput(NamedTuple):
    """Generated stories, with the distribution and the sample of their initial state.

    Attributes:
        images: float32 [batch, frames, 64, 64, 3] in [-1, 1].
        mu: float32 [batch, context_size], mean of `h0`.
        log_var: float32 [batch, context_size], logarithm of the variance of `h0`.
        h0: float32 [batch, context_size], initial state of the context encoder.
        seed: int64 [batch], the seed of each story's noise, which draws the same frames again; -1 if the noise itself
            was given.
    """

    images: tf.Tensor
    mu: tf.Tensor
    log_var: tf.Tensor
    h0: tf.Tensor
    seed: tf.Tensor


@keras.saving.register_keras_serializable(package="storygan")
class StoryGenerator(keras.Model):
    """Generates one frame for each sentence vector of a story.

    Use it alone to draw stories with trained weights; `storygan_tf.training.storygan.StoryGAN` trains it.

    Reference: Li et al., "StoryGAN: A Sequential Conditional GAN for Story Visualization", arXiv:1812.02784, section 3.

    Args:
        config: sizes of the networks.

    Input shape: `sentences` float32 [batch, frames, sentence_size].

    Output shape: `GeneratorOutput`, whose images are float32 [batch, frames, 64, 64, 3] in [-1, 1].

    Example:
        >>> generator = StoryGenerator(StoryGANConfig(generator_width=64))
        >>> output = generator(tf.zeros([2, 4, 128]), seed=tf.constant([1, 2], tf.int64))
        >>> output.images.shape
        TensorShape([2, 4, 64, 64, 3])
    """

    def __init__(self, config: StoryGANConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.story_encoder = StoryEncoder(config.context_size, name="story_encoder")
        self.context_encoder = ContextEncoder(
            config.context_size, config.filter_count, config.filter_length, config.gist, name="context_encoder"
        )
        self.image_generator = ImageGenerator(config.generator_width, name="image_generator")

    def call(
        self,
        sentences: tf.Tensor,
        training: bool | None = None,
        noise: Noise | None = None,
        seed: tf.Tensor | None = None,
    ) -> GeneratorOutput:
        """Returns generated stories.

        Args:
            sentences: float32 [batch, frames, sentence_size].
            training: whether batch normalisation uses the statistics of the batch.
            noise: the noise; by default it is drawn from `seed`.
            seed: int64 [batch], the seed of each story's noise. By default every story gets a random one from
                TensorFlow's global generator (`tf.random.set_seed`); the output has it.

        Raises:
            ValueError: if `sentences` has another shape than the configuration says.
        """
        context = self.encode(sentences, training, noise, seed)
        gists = tf.reshape(context.gists, [-1, self.config.context_size])
        frames = self.image_generator(gists, training=training)
        images = tf.reshape(frames, [-1, self.config.frames, IMAGE_SIZE, IMAGE_SIZE, 3])
        return GeneratorOutput(images, context.mu, context.log_var, context.h0, context.seed)

    def encode(
        self,
        sentences: tf.Tensor,
        training: bool | None = None,
        noise: Noise | None = None,
        seed: tf.Tensor | None = None,
    ) -> Context:
        """Returns the output of the recurrent part alone; the arguments are those of `call`."""
        self._check_shape(sentences)
        batch = tf.shape(sentences)[0]
        if noise is not None:
            seed = tf.fill([batch], tf.constant(-1, tf.int64))
        else:
            seed = tf.random.uniform([batch], 0, tf.int64.max, tf.int64) if seed is None else seed
            noise = story_noise(seed, self.config)
        mu, log_var = self.story_encoder(sentences, training=training)
        h0 = self.story_encoder.sample(mu, log_var, noise.story) if self.config.story_noise else mu
        gists = self.context_encoder(sentences, noise.sentences, noise.state, h0, training=training)
        return Context(gists, mu, log_var, h0, seed)

    def _check_shape(self, sentences: tf.Tensor) -> None:
        """Raises ValueError if `sentences` is not [batch, frames, sentence_size] of the configuration."""
        expected = (self.config.frames, self.config.sentence_size)
        if sentences.shape.rank != 3 or tuple(sentences.shape[1:]) != expected:
            raise ValueError(
                f"sentences: found shape {sentences.shape}, expected [batch, {expected[0]}, {expected[1]}]."
            )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__`, the configuration as a dictionary of plain values."""
        return {"config": dataclasses.asdict(self.config), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> StoryGenerator:
        """Returns a new generator from the output of `get_config`."""
        return cls(from_dict(StoryGANConfig, config["config"]), name=config["name"])
