"""In inference mode the pictures of a story depend on its sentences and its seed alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.training.storygan import StoryGAN


@pytest.fixture(scope="module")
def trained(config, stories) -> StoryGAN:
    """Returns a model whose moving statistics are not those of a new one; tests must not change it."""
    keras.utils.set_random_seed(7)
    gan = StoryGAN(config)
    for _ in range(5):
        gan.generator(tf.constant(stories.vectors), training=True, seed=tf.range(24, dtype=tf.int64))
    return gan


def draw(gan: StoryGAN, vectors: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    return gan.generator(tf.constant(vectors), training=False, seed=tf.constant(seeds)).images.numpy()


def test_alone_as_in_a_batch_of_24(trained, stories):
    """Allows a difference of 1e-5, because the batch size determines how a matrix product is divided into blocks."""
    seeds = np.arange(100, 124)
    together = draw(trained, stories.vectors, seeds)
    for story in (0, 11, 23):
        alone = draw(trained, stories.vectors[story : story + 1], seeds[story : story + 1])
        np.testing.assert_allclose(alone[0], together[story], atol=1e-5)


def test_neighbours_do_not_matter(trained, stories):
    seeds = np.arange(24)
    before = draw(trained, stories.vectors, seeds)
    vectors = stories.vectors.copy()
    vectors[1:], seeds[1:] = 50.0, 7
    np.testing.assert_array_equal(draw(trained, vectors, seeds)[0], before[0])


def test_the_seed_matters_and_so_do_the_sentences(trained, stories):
    one = draw(trained, stories.vectors[:2], np.array([1, 1]))
    other = draw(trained, stories.vectors[:2], np.array([2, 1]))
    assert np.abs(one[0] - other[0]).max() > 1e-3
    np.testing.assert_array_equal(one[1], other[1])
    assert np.abs(one[0] - one[1]).max() > 1e-3


def test_later_sentences_reach_earlier_frames_through_h0_alone(trained, stories):
    """With a constant mean and variance of h0, frame 1 does not depend on sentence 2: the recurrence runs forward."""
    vectors = stories.vectors[:1].copy()
    layers = [trained.generator.story_encoder.mu, trained.generator.story_encoder.log_var]
    weights = [layer.get_weights() for layer in layers]
    for layer in layers:
        layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    before = draw(trained, vectors, np.array([4]))
    vectors[0, 1] += 1.0
    after = draw(trained, vectors, np.array([4]))
    for layer, values in zip(layers, weights, strict=True):
        layer.set_weights(values)
    np.testing.assert_array_equal(after[0, 0], before[0, 0])
    assert np.abs(after[0, 1] - before[0, 1]).max() > 1e-3
