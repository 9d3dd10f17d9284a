"""Preset `paper` against the equations of the paper (Li et al., arXiv:1812.02784, section 3), in float64.

`docs/model.md` has the equations and how they are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import small_config, square_stories

from storygan_tf.config import presets
from storygan_tf.config.schema import StoryGANConfig
from storygan_tf.data.stories import Stories
from storygan_tf.data.training_input import training_dataset
from storygan_tf.evaluation.judge.judge import BLOCKS, load_judge
from storygan_tf.metrics.frechet import Moments, frechet_distance
from storygan_tf.training.objectives import roll_stories
from storygan_tf.training.storygan import Batch, StoryGAN, make_optimizers, to_uint8

PAPER = presets.load("paper").training.phases[0]
CONFIG = small_config(frames=3)
RATE = 0.05
"""Learning rate of the plain gradient descent, large enough that wrong gradients show."""


@pytest.fixture
def double_precision() -> Iterator[None]:
    keras.backend.set_floatx("float64")
    keras.mixed_precision.set_global_policy("float64")
    yield
    keras.backend.set_floatx("float32")
    keras.mixed_precision.set_global_policy("float32")


def mini_batch(size: int, seed: int) -> Batch:
    random = np.random.default_rng(seed)
    return {
        "images": tf.constant(random.integers(0, 256, [size, CONFIG.frames, 64, 64, 3], dtype=np.uint8)),
        "vectors": tf.constant(random.normal(size=[size, CONFIG.frames, CONFIG.sentence_size])),
        "labels": tf.zeros([size, CONFIG.frames, 0], tf.uint8),
        "seed": tf.constant(random.integers(0, 2**62, size)),
        "frame": tf.zeros([size], tf.int32),
    }


def descend(network: keras.Model, loss: tf.Tensor, tape: tf.GradientTape) -> None:
    """Moves each weight of a network against its gradient."""
    for variable, gradient in zip(
        network.trainable_variables, tape.gradient(loss, network.trainable_variables), strict=True
    ):
        if gradient is not None:
            variable.assign_sub(RATE * gradient)


def rederived_step(gan: StoryGAN, image: Batch, story: Batch) -> None:
    """Runs one outer step of Algorithm 1 as the paper writes it: every sum a loop, every probability a sigmoid."""
    frames = range(CONFIG.frames)

    def scaled(batch: Batch) -> tf.Tensor:
        return tf.cast(batch["images"], tf.float64) / 127.5 - 1

    def flat(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [-1, *values.shape[2:]])

    def image_probability(images: tf.Tensor, h0: tf.Tensor) -> tf.Tensor:
        """Returns D_I(x_t, s_t, h0) as [batch, frames]."""
        conditions = flat(image["vectors"]), flat(tf.stack([h0 for _ in frames], axis=1))
        probability = gan.image_discriminator.probability(flat(images), *conditions, training=True)
        assert probability.shape[1:] == [1, 1, 1]
        return tf.reshape(probability, [-1, CONFIG.frames])

    def story_probability(images: tf.Tensor) -> tf.Tensor:
        probability = gan.story_discriminator.probability(images, story["vectors"], training=True)
        assert probability.shape[1:] == [1]
        return probability[:, 0]

    with tf.GradientTape() as generator_tape:
        drawn = gan.generator(image["vectors"], training=True, seed=image["seed"])
        with generator_tape.stop_recording(), tf.GradientTape() as tape:
            real, fake = image_probability(scaled(image), drawn.h0), image_probability(drawn.images, drawn.h0)
            objective = sum(
                tf.reduce_mean(tf.math.log(real[:, t])) + tf.reduce_mean(tf.math.log(1 - fake[:, t])) for t in frames
            )
            loss = -objective
        descend(gan.image_discriminator, loss, tape)
        fake = image_probability(drawn.images, drawn.h0)
        loss = PAPER.image_weight * sum(tf.reduce_mean(tf.math.log(1 - fake[:, t])) for t in frames)
    descend(gan.generator, loss, generator_tape)

    with tf.GradientTape() as generator_tape:
        drawn = gan.generator(story["vectors"], training=True, seed=story["seed"])
        with generator_tape.stop_recording(), tf.GradientTape() as tape:
            real, fake = story_probability(scaled(story)), story_probability(drawn.images)
            loss = -(tf.reduce_mean(tf.math.log(real)) + tf.reduce_mean(tf.math.log(1 - fake)))
        descend(gan.story_discriminator, loss, tape)
        adversarial = tf.reduce_mean(tf.math.log(1 - story_probability(drawn.images)))
        variance = tf.exp(drawn.log_var)
        kl = tf.reduce_mean(tf.reduce_sum(variance + drawn.mu**2 - 1 - tf.math.log(variance), axis=1)) / 2
        loss = PAPER.story_weight * adversarial + PAPER.kl_weight * kl
    descend(gan.generator, loss, generator_tape)


@pytest.mark.usefixtures("double_precision")
def test_an_outer_step_by_gradient_descent_is_the_papers():
    """Compares all trained weights to 1e-8 after one step of the preset with SGD in place of Adam."""
    gan, reference = StoryGAN(CONFIG), StoryGAN(CONFIG)
    reference.set_weights(gan.get_weights())
    before = [variable.numpy() for variable in gan.trainable_variables]
    names = ("generator", "image_discriminator", "story_discriminator")
    gan.compile(
        PAPER,
        run_eagerly=True,
        **{f"{name}_optimizer": keras.optimizers.SGD(RATE, jit_compile=False) for name in names},
    )
    image, story = mini_batch(4, 1), mini_batch(3, 2)
    gan.train_step({"image": (image,), "story": (story,)})
    rederived_step(reference, image, story)
    for one, other, start in zip(gan.trainable_variables, reference.trainable_variables, before, strict=True):
        assert one.dtype == tf.float64
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-8, err_msg=one.name)
        if "averaged" not in one.name:
            assert np.abs(one - start).max() > 1e-7, one.name


def test_adam_is_that_of_its_paper():
    """Three updates of a weight by the equations of Kingma and Ba (arXiv:1412.6980, algorithm 1)."""
    rate, beta_1, beta_2, epsilon = 2e-4, 0.5, 0.999, 1e-7
    weight = tf.Variable([0.3, -0.2])
    gradients = np.array([[0.5, -2.0], [0.1, 3.0], [-0.4, 1e-3]])
    optimizer = make_optimizers(PAPER, steps=10).generator
    expected, first, second = weight.numpy().astype(np.float64), np.zeros(2), np.zeros(2)
    for step, gradient in enumerate(gradients, 1):
        optimizer.apply_gradients([(tf.constant(gradient, tf.float32), weight)])
        first = beta_1 * first + (1 - beta_1) * gradient
        second = beta_2 * second + (1 - beta_2) * gradient**2
        corrected = rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
        expected -= corrected * first / (np.sqrt(second) + epsilon)
        np.testing.assert_allclose(weight, expected, rtol=1e-5)


def test_mismatched_pairs_are_whole_stories_apart():
    """With all frames of a story, a frame is paired with the same frame of the next story."""
    rows = tf.constant([[10 * story + frame] for story in range(3) for frame in range(2)])
    np.testing.assert_array_equal(roll_stories(rows, 2)[:, 0], [10, 11, 20, 21, 0, 1])
    np.testing.assert_array_equal(roll_stories(rows[::2])[:, 0], [10, 20, 0])


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_losses_can_be_given(config, stories, shared_gan, name):
    """A loss of 0 in place of a network's own leaves that network as it was."""
    phase = dataclasses.replace(PAPER, image_batch=4, story_batch=4, kl_weight=0.0)
    gan = shared_gan(config)
    given = {f"{name}_loss": lambda *logits: 0.0 * logits[0]}
    gan.compile(phase, run_eagerly=True, **given)
    before = {network.name: [value.numpy() for value in network.trainable_variables] for network in gan.networks}
    gan.train_step(next(iter(training_dataset(stories, phase, (5, 0), 0, 1))))
    still = {
        network.name: all(map(np.array_equal, before[network.name], network.trainable_variables))
        for network in gan.networks
    }
    assert still == {
        "generator": name == "generator",
        "image_discriminator": name == "discriminator",
        "story_discriminator": name == "discriminator",
    }


def noisy_squares(config: StoryGANConfig, count: int, seed: int) -> Stories:
    """Returns stories of squares with noise, without which the discriminators would be certain too soon."""
    stories = square_stories(config, count, seed)
    noise = np.random.default_rng([seed, 1]).normal(0, 40, stories.images.shape)
    return dataclasses.replace(stories, images=np.clip(stories.images + noise, 0, 255).astype(np.uint8))


@pytest.mark.slow
def test_the_preset_learns():
    """Trains narrow networks for 300 steps; compares the frames of new stories by the features of the blocks' judge."""
    judge = load_judge(BLOCKS)
    phase = dataclasses.replace(PAPER, image_batch=12, story_batch=12)
    config = small_config(context_size=32, generator_width=64)
    train, test = noisy_squares(config, 200, seed=3), noisy_squares(config, 100, seed=4)
    keras.utils.set_random_seed(1)
    gan = StoryGAN(config)

    def distance() -> float:
        """Returns the Frechet distance between the features of true and of drawn frames."""
        seed = tf.range(len(test.ids), dtype=tf.int64)
        drawn = to_uint8(gan(tf.constant(test.vectors), training=False, seed=seed).images).numpy()
        features = [judge.judge_frames(frames.reshape(-1, 64, 64, 3))[1] for frames in (test.images, drawn)]
        return frechet_distance(*map(Moments.from_features, features))

    untrained = distance()
    gan.compile(phase)
    for start, steps in ((0, 250), (250, 50)):
        data = training_dataset(train, phase, (1, 0), start, steps)
        reported = {name: values[0] for name, values in gan.fit(data, steps_per_epoch=steps, verbose=0).history.items()}
        assert all(np.isfinite(list(reported.values()))), reported
    assert 0.5 < reported["image_accuracy"] < 1, reported
    assert 0.5 < reported["story_accuracy"] < 1, reported
    assert distance() <= 0.7 * untrained
