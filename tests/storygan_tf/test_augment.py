"""Random recolouring and shift: its definition, alike within a story, repeatable, differentiable."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf import augment
from storygan_tf.augment import SHIFT

SEEDS = tf.constant([5, 2**62, 7, -1], tf.int64)


@pytest.fixture(scope="module")
def stories() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).uniform(-1, 1, [4, 2, 64, 64, 3]), tf.float32)


def by_hand(frame: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Zhao et al., DiffAugment: brightness, saturation, contrast, translation by up to an eighth."""
    brightness, saturation, contrast, down, right = numbers
    frame = frame + (brightness - 0.5)
    grey = frame.mean(axis=-1, keepdims=True)
    frame = (frame - grey) * 2 * saturation + grey
    frame = (frame - frame.mean()) * (contrast + 0.5) + frame.mean()
    moved = np.zeros_like(frame)
    down, right = (int(number * 17) - 8 for number in (down, right))
    for row, column in np.ndindex(64, 64):
        if 0 <= row - down < 64 and 0 <= column - right < 64:
            moved[row, column] = frame[row - down, column - right]
    return moved


def test_every_frame_is_changed_as_defined_and_alike_within_a_story(stories):
    found = augment.augment(stories, SEEDS)
    assert found.shape == stories.shape
    for story, seed in enumerate(SEEDS):
        numbers = augment._uniform(seed).numpy()
        for frame in range(2):
            np.testing.assert_allclose(found[story, frame], by_hand(stories[story, frame].numpy(), numbers), atol=1e-5)


def test_a_single_frame_is_changed_as_its_story_is(stories):
    whole, single = augment.augment(stories, SEEDS), augment.augment(stories[:, 1], SEEDS)
    np.testing.assert_allclose(single, whole[:, 1], atol=1e-6)


def test_the_same_seed_does_the_same_wherever_it_stands(stories):
    swapped = augment.augment(stories[::-1], SEEDS[::-1])
    np.testing.assert_array_equal(swapped, augment.augment(stories, SEEDS)[::-1])


def test_its_numbers_are_uniform_and_not_those_of_the_noise():
    numbers = np.array([augment._uniform(tf.constant(seed, tf.int64)) for seed in range(400)])
    assert numbers.min() >= 0
    assert numbers.max() < 1
    np.testing.assert_allclose(numbers.mean(axis=0), 0.5, atol=0.06)
    np.testing.assert_allclose(np.corrcoef(numbers.T) - np.eye(5), 0, atol=0.2)
    other = tf.random.stateless_uniform([5], [3, 0], minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    assert not np.allclose(numbers[3], np.asarray(other) / 2.0**32, atol=1e-3)


def test_every_shift_up_to_an_eighth_occurs():
    drawn = augment._pixels(tf.constant(np.linspace(0, 1, 1700, endpoint=False), tf.float32)).numpy()
    assert sorted(set(drawn)) == list(range(-SHIFT, SHIFT + 1))
    assert np.ptp(np.bincount(drawn + SHIFT)) <= 2


def test_its_gradient_goes_back_to_the_pictures(stories):
    """Along a random direction, against differences: it is linear in a picture."""
    direction = tf.constant(np.random.default_rng(1).normal(size=stories.shape), tf.float32)
    weights = tf.constant(np.random.default_rng(2).normal(size=stories.shape), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(stories)
        value = tf.reduce_sum(weights * augment.augment(stories, SEEDS))
    slope = tf.reduce_sum(direction * tape.gradient(value, stories))
    difference = augment.augment(stories + direction, SEEDS) - augment.augment(stories, SEEDS)
    assert float(slope) == pytest.approx(float(tf.reduce_sum(weights * difference)), rel=1e-3)


def test_xla_does_the_same(stories):
    compiled = tf.function(augment.augment, jit_compile=True)
    np.testing.assert_allclose(compiled(stories, SEEDS), augment.augment(stories, SEEDS), atol=1e-5)
