"""The moving average of the generator: its values, when it starts, and that it does not affect the training."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.training.storygan import Batch, StoryGAN
from storygan_tf.training.weight_average import copy_weights, update_average


def phase(average: float, **settings) -> PhaseConfig:
    return PhaseConfig(schedule="pixel", story_batch=3, l1_weight=1.0, average=average, **settings)


@pytest.fixture
def gan(config) -> StoryGAN:
    keras.utils.set_random_seed(1)
    return StoryGAN(config)


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    random = np.random.default_rng(0)
    return [
        {
            "images": tf.constant(random.integers(0, 256, [3, 2, 64, 64, 3], dtype=np.uint8)),
            "vectors": tf.constant(random.normal(size=[3, 2, 6]), tf.float32),
            "labels": tf.zeros([3, 2, 0], tf.uint8),
            "seed": tf.constant(random.integers(0, 2**62, 3)),
            "frame": tf.zeros([3], tf.int32),
        }
        for _ in range(3)
    ]


def values(network: keras.Model) -> dict[str, np.ndarray]:
    return {path: variable.numpy() for path, variable in network.get_weight_paths().items()}


def test_weights_and_statistics_are_averaged_with_a_warm_up(gan, batches):
    """Decays of 1/10, 2/11 and then 3/12 cut down to 0.2."""
    gan.compile(phase(average=0.2), steps=3)
    expected = values(gan.generator)
    start = dict(expected)
    for batch, decay in zip(batches, (1 / 10, 2 / 11, 0.2), strict=True):
        gan.train_step({"image": (), "story": (batch,)})
        now = values(gan.generator)
        expected = {path: decay * expected[path] + (1 - decay) * now[path] for path in now}
    found = values(gan.averaged)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, atol=1e-6, err_msg=path)
    moved = [path for path in start if not np.allclose(found[path], start[path], atol=1e-4)]
    assert any("moving_variance" in path for path in moved)
    assert any("kernel" in path for path in moved)


def test_it_changes_nothing_in_the_training(gan, config, batches):
    other = StoryGAN(config)
    copy_weights(other.generator, gan.generator)
    for each, average in ((gan, 0.0), (other, 0.9)):
        each.compile(phase(average), steps=3)
        each.train_step({"image": (), "story": (batches[0],)})
    for one, two in zip(gan.generator.get_weights(), other.generator.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_it_starts_anew_with_each_phase(gan, batches):
    gan.compile(phase(average=0.9), steps=1)
    gan.train_step({"image": (), "story": (batches[0],)})
    apart, drawn = values(gan.averaged), values(gan.generator)
    assert any(not np.array_equal(apart[path], drawn[path]) for path in drawn)
    gan.compile(phase(average=0.9), steps=1)
    for path, value in values(gan.averaged).items():
        np.testing.assert_array_equal(value, drawn[path])
    gan.train_step({"image": (), "story": (batches[0],)})
    kernel = "image_generator.first.kernel"
    expected = 0.1 * drawn[kernel] + 0.9 * values(gan.generator)[kernel]
    np.testing.assert_allclose(values(gan.averaged)[kernel], expected, atol=1e-6)


def test_what_is_drawn_is_the_average_where_there_is_one(gan):
    assert gan.drawn_generator is gan.generator
    gan.compile(phase(average=0.9), steps=1)
    assert gan.drawn_generator is gan.averaged
    gan.compile(phase(average=0.0), steps=1)
    assert gan.drawn_generator is gan.generator


def test_it_is_not_trained(gan):
    assert gan.averaged.trainable_variables == []
    assert {id(variable) for variable in gan.averaged.variables}.isdisjoint(map(id, gan.generator.variables))


def test_it_starts_as_the_generator_and_draws_its_pictures(gan):
    vectors = tf.random.normal([2, 2, 6])
    seed = tf.zeros([2], tf.int64)
    np.testing.assert_array_equal(gan.averaged(vectors, seed=seed).images, gan.generator(vectors, seed=seed).images)


@pytest.mark.parametrize(("updates", "decay"), [(0, 0.1), (10, 0.55), (10**6, 0.999)])
def test_decay_by_hand(updates, decay):
    one, other = (keras.Sequential([keras.layers.Dense(1, use_bias=False, name="dense")]) for _ in range(2))
    for network, value in ((one, 1.0), (other, 3.0)):
        network.build([None, 1])
        network.set_weights([np.array([[value]])])
    update_average(one, other, 0.999, tf.constant(updates, tf.int64))
    np.testing.assert_allclose(one.get_weights()[0], decay * 1.0 + (1 - decay) * 3.0, rtol=1e-5)
