"""The noise of a story is normal, and a function of its seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import StoryGANConfig
from storygan_tf.models.noise import Noise, story_noise

CONFIG = StoryGANConfig(frames=3, context_size=16, noise_size=5)

GOLDEN = {
    "story": [0.3417932, 0.8497157, 0.0029870, 0.2716711],
    "state": [-1.1240574, 0.8239231, 0.9681382, 0.0173075],
    "sentences": [0.2137229, -0.5825693, -0.9360862, 0.5596591],
}


def arrays(noise: Noise) -> list[np.ndarray]:
    return [part.numpy() for part in noise]


def draw(seeds: list[int], config: StoryGANConfig = CONFIG) -> list[np.ndarray]:
    return arrays(story_noise(tf.constant(seeds, tf.int64), config))


def test_shapes():
    noise = story_noise(tf.constant([1, 2], tf.int64), CONFIG)
    assert [part.shape.as_list() for part in noise] == [[2, 16], [2, 16], [2, 3, 5]]
    assert {part.dtype for part in noise} == {tf.float32}
    assert [part.shape for part in draw([])] == [(0, 16), (0, 16), (0, 3, 5)]


def test_golden_numbers():
    """The numbers are the same on every machine and in every release, so that a recorded seed draws its story again."""
    story, state, sentences = draw([1])
    np.testing.assert_allclose(story[0, :4], GOLDEN["story"], atol=1e-5)
    np.testing.assert_allclose(state[0, :4], GOLDEN["state"], atol=1e-5)
    np.testing.assert_allclose(sentences[0, 2, -4:], GOLDEN["sentences"], atol=1e-5)


def test_moments():
    """570,000 numbers have the moments of a normal distribution and are uncorrelated, to about five standard errors."""
    config = StoryGANConfig(frames=2, context_size=96, noise_size=49)
    noise = tf.function(lambda seeds: story_noise(seeds, config))(tf.range(2000, dtype=tf.int64))
    rows = np.concatenate([part.reshape(2000, -1) for part in arrays(noise)], axis=1).astype(np.float64)
    values = rows.ravel()
    assert values.mean() == pytest.approx(0, abs=0.007)
    assert values.var() == pytest.approx(1, abs=0.01)
    assert (values**3).mean() == pytest.approx(0, abs=0.03)
    assert (values**4).mean() == pytest.approx(3, abs=0.07)
    assert np.mean(np.abs(values) < 1) == pytest.approx(0.6827, abs=0.003)
    correlations = np.corrcoef(rows, rowvar=False) - np.eye(rows.shape[1])
    assert np.abs(correlations).max() < 0.125


@pytest.mark.parametrize("seeds", [[0, 1, 2], [-1, 2**62, -(2**63), 2**63 - 1]])
def test_xla_draws_the_same(seeds):
    """Allows 1e-5: logarithm and cosine differ in the last bits. Seeds are arguments, so that XLA folds no constant."""
    compiled = tf.function(lambda seeds: story_noise(seeds, CONFIG), jit_compile=True)
    graph = tf.function(lambda seeds: story_noise(seeds, CONFIG))
    given = tf.constant(seeds, tf.int64)
    for eager, other, xla in zip(draw(seeds), graph(given), compiled(given), strict=True):
        np.testing.assert_array_equal(other, eager)
        np.testing.assert_allclose(xla, eager, atol=1e-5)


def test_alone_as_in_a_batch_of_24():
    together = draw(list(range(24)))
    for seed in (0, 7, 23):
        for alone, batch in zip(draw([seed]), together, strict=True):
            np.testing.assert_array_equal(alone[0], batch[seed])


def test_seeds_differ_in_all_their_64_bits():
    rows = np.concatenate([part.reshape(4, -1) for part in draw([1, 1 + 2**32, 1 - 2**63, -1])], axis=1)
    distances = np.abs(rows[:, np.newaxis] - rows).max(axis=-1) + 10 * np.eye(4)
    assert distances.min() > 0.5


def test_an_odd_number_of_values():
    config = StoryGANConfig(frames=3, context_size=16, noise_size=1)
    parts = draw([5], config)
    assert sum(part.size for part in parts) == 35
    assert all(np.isfinite(part).all() for part in parts)
