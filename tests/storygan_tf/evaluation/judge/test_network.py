"""The parts of the networks, compared with independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates
from scipy.special import logsumexp

from storygan_tf.evaluation.judge.fitting import FitSettings, LabelFit, ObjectFit
from storygan_tf.evaluation.judge.network import CROP, LabelNetwork, ObjectNetwork, crops, soft_maximum
from storygan_tf.evaluation.judge.placed_objects import PlacedObjects

RANDOM = np.random.default_rng(3)
FRAMES = RANDOM.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
BACKGROUND = RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)
PLACES = np.array([[32, 32], [31.5, 20.25], [0, 63.7], [63.9, 1.1], [-3, 70], [200, 200]], np.float32)


def crops_by_scipy(images, places):
    offsets = np.arange(CROP) - (CROP - 1) / 2
    return np.stack(
        [
            np.stack(
                [
                    map_coordinates(
                        image[..., channel],
                        np.meshgrid(y - 0.5 + offsets, x - 0.5 + offsets, indexing="ij"),
                        order=1,
                        mode="grid-constant",
                    )
                    for channel in range(3)
                ],
                axis=-1,
            )
            for image, (x, y) in zip(images, places, strict=True)
        ]
    )


def test_crops_are_bilinear_around_their_places_and_zero_beyond_the_border():
    images = (FRAMES / 255).astype(np.float32)
    found = crops(tf.constant(images), tf.constant(PLACES)).numpy()
    np.testing.assert_allclose(found, crops_by_scipy(images, PLACES), atol=1e-5)
    assert not found[-1].any()


def test_a_crop_at_the_middle_of_the_frame_is_the_frame_itself():
    found = crops(tf.constant(FRAMES[:1].astype(np.float32)), tf.constant([[32.0, 32.0]])).numpy()
    np.testing.assert_array_equal(found[0], FRAMES[0, 20:44, 20:44])


def test_the_soft_maximum_is_the_log_of_the_mean_exponential():
    maps = RANDOM.normal(size=(4, 5, 6, 3)).astype(np.float32)
    expected = logsumexp(maps, axis=(1, 2)) - np.log(30)
    np.testing.assert_allclose(soft_maximum(tf.constant(maps)).numpy(), expected, atol=1e-5)


@pytest.fixture
def course():
    return FitSettings(BACKGROUND, epochs=2, seed=4, random=np.random.default_rng(4))


def difference():
    return (FRAMES.astype(np.float32) - BACKGROUND) / 64


def test_the_saved_label_network_is_the_trained_one(course):
    fit = LabelFit(FRAMES, RANDOM.integers(0, 2, (6, 5)).astype(np.float32), course)
    fit.run_epoch()
    fit.run_epoch()
    logits, features = LabelNetwork(fit.layers(), BACKGROUND)(FRAMES)
    maps = fit._network(difference(), training=False).numpy()
    hidden = tf.keras.Sequential(fit._network.layers[:-1])(difference(), training=False).numpy()
    np.testing.assert_allclose(logits, logsumexp(maps, axis=(1, 2)) - np.log(256), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(features, hidden.max(axis=(1, 2)), rtol=1e-4, atol=1e-4)


def test_the_saved_object_network_is_the_trained_one(course):
    values = np.stack([RANDOM.integers(0, size, 6) for size in (2, 3)], axis=1)
    fit = ObjectFit(FRAMES, PlacedObjects(PLACES, np.arange(6), values), [2, 3], course)
    fit.run_epoch()
    fit.run_epoch()
    expected = fit._network(crops_by_scipy(difference(), PLACES), training=False)
    found = ObjectNetwork(fit.layers(), BACKGROUND)(FRAMES, PLACES)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
