"""Consistency by hand and against a count in plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from storygan_tf.metrics.consistency import consistency_counts


def in_loops(true, predicted):
    detected = recurring = 0
    for frame in range(1, len(true)):
        for label in range(true.shape[1]):
            if true[frame, label] and any(true[earlier, label] for earlier in range(frame)):
                recurring += 1
                detected += bool(predicted[frame, label])
    return detected, recurring


def test_counts_by_hand():
    true = np.array([[[1, 0, 1], [1, 1, 0], [0, 1, 1]]])
    predicted = np.array([[[0, 0, 0], [1, 0, 1], [1, 0, 1]]])
    # Recurring: label 0 in frame 1, label 1 in frame 2, and label 2 in frame 2, though frame 1 was without it.
    detected, recurring = consistency_counts(true, predicted)
    assert (detected.tolist(), recurring.tolist()) == ([2], [3])


def test_counts_agree_with_loops():
    random = np.random.default_rng(1)
    true, predicted = random.random((2, 30, 5, 7)) < 0.4
    detected, recurring = consistency_counts(true, predicted)
    assert detected.dtype == recurring.dtype == np.int64
    expected = [in_loops(*story) for story in zip(true, predicted, strict=True)]
    assert list(zip(detected, recurring, strict=True)) == expected


def test_perfect_predictions_detect_all_recurring_labels():
    true = np.random.default_rng(2).random((9, 4, 6)) < 0.5
    np.testing.assert_array_equal(*consistency_counts(true, true))
    np.testing.assert_array_equal(consistency_counts(true, np.zeros_like(true))[0], np.zeros(9))


def test_a_story_of_one_frame_shares_nothing():
    np.testing.assert_array_equal(consistency_counts(np.ones((2, 1, 3)), np.ones((2, 1, 3))), np.zeros((2, 2)))


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        consistency_counts(np.zeros((2, 3, 4)), np.zeros((2, 1, 4)))
