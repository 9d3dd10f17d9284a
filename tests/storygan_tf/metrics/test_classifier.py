"""The label classifier learns what is there, repeatably, and sees nothing in the background."""

from __future__ import annotations

import numpy as np
import pytest

from storygan_tf.metrics.baselines import median_background
from storygan_tf.metrics.classifier import train_label_classifier
from storygan_tf.metrics.labels import micro_f1

COLOURS = np.array([[200, 30, 30], [30, 180, 40], [40, 60, 210]])
"""Labels 0 to 2; label 3 says that something is large."""


def stories_of_squares(count, seed):
    """Returns stories of 2 frames with a square more in each, [count, 2, 32, 32, 3], and labels [count, 2, 4]."""
    random = np.random.default_rng(seed)
    images = np.full((count, 2, 32, 32, 3), 110, np.uint8)
    labels = np.zeros((count, 2, 4), np.int64)
    for story in range(count):
        for first in range(2):
            colour, large = random.integers(3), random.integers(2)
            size = 11 if large else 5
            y, x = random.integers(0, 32 - size, 2)
            images[story, first:, y : y + size, x : x + size] = COLOURS[colour]
            labels[story, first:, colour] = 1
            labels[story, first:, 3] |= large
    return images, labels


def train(seed=1, epochs=12, count=60):
    images, labels = stories_of_squares(count, seed=5)
    return train_label_classifier(images, labels, median_background(images), seed, epochs)


@pytest.fixture(scope="module")
def classifier():
    return train()


def test_it_learns_from_few_frames_and_its_own_figure_is_honest(classifier):
    images, labels = stories_of_squares(40, seed=6)
    score = micro_f1(labels, classifier.predict(images))
    assert score > 0.9
    assert classifier.held_out.f1 == pytest.approx(score, abs=0.1)


def test_one_story_of_eight_is_held_out(classifier):
    assert classifier.held_out.frames == 2 * 7
    assert classifier.training_frames == 2 * 53


def test_it_sees_nothing_in_the_background(classifier):
    assert not classifier.predict(classifier.background[np.newaxis]).any()


def test_a_frame_is_judged_alike_alone_and_among_others(classifier):
    images, _ = stories_of_squares(70, seed=7)
    together = classifier.predict(images)
    assert together.shape == (70, 2, 4)
    np.testing.assert_array_equal(together[33, 1], classifier.predict(images[33, 1]))


def test_the_same_seed_gives_the_same_judge_and_another_seed_another():
    first, second, other = train(epochs=1), train(epochs=1), train(epochs=1, seed=2)
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != other.fingerprint


def test_too_few_stories_are_refused():
    with pytest.raises(ValueError, match="found 7 stories, expected at least 8"):
        train(count=7)
