"""Label figures against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, multilabel_confusion_matrix

from storygan_tf.metrics.labels import count_labels, frame_accuracy, micro_f1, story_label_counts


def some_labels(seed, shape=(50, 7), right=0.8):
    random = np.random.default_rng(seed)
    true = random.random(shape) < 0.3
    return true, np.where(random.random(shape) < right, true, ~true)


@pytest.mark.parametrize("right", [0.1, 0.5, 0.97])
def test_metrics_agree_with_scikit_learn(right):
    true, predicted = some_labels(1, right=right)
    assert micro_f1(true, predicted) == pytest.approx(f1_score(true, predicted, average="micro"), abs=1e-12)
    assert frame_accuracy(true, predicted) == pytest.approx(accuracy_score(true, predicted), abs=1e-12)


def test_metrics_by_hand():
    true = np.array([[1, 1, 0], [0, 1, 0]])
    predicted = np.array([[1, 0, 1], [0, 1, 0]])
    assert micro_f1(true, predicted) == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert frame_accuracy(true, predicted) == 0.5


def test_counts_of_parts_add_up_to_those_of_the_whole():
    true, predicted = some_labels(2)
    parts = count_labels(true[:13], predicted[:13]) + count_labels(true[13:], predicted[13:])
    whole = count_labels(true, predicted)
    assert (parts.f1, parts.frame_accuracy, parts.frames) == (whole.f1, whole.frame_accuracy, whole.frames)
    np.testing.assert_array_equal(parts.false_positives, whole.false_positives)


def test_stories_of_frames_count_as_their_frames():
    true, predicted = some_labels(3, shape=(5, 4, 7))
    assert count_labels(true, predicted).frames == 20
    assert frame_accuracy(true, predicted) == frame_accuracy(true.reshape(20, 7), predicted.reshape(20, 7))


def test_counts_of_each_story_agree_with_scikit_learn():
    true, predicted = some_labels(4, shape=(6, 5, 7), right=0.7)
    counts = story_label_counts(true, predicted)
    for story in range(6):
        expected = multilabel_confusion_matrix(true[story], predicted[story])
        np.testing.assert_array_equal(counts.true_positives[story], expected[:, 1, 1])
        np.testing.assert_array_equal(counts.false_positives[story], expected[:, 0, 1])
        np.testing.assert_array_equal(counts.false_negatives[story], expected[:, 1, 0])
        assert counts.exact[story] == accuracy_score(true[story], predicted[story], normalize=False)
    assert counts.exact.dtype == counts.true_positives.dtype == np.int64


def test_counts_of_stories_sum_up_to_those_of_all_frames():
    true, predicted = some_labels(5, shape=(6, 5, 7))
    by_story, whole = story_label_counts(true, predicted), count_labels(true, predicted)
    np.testing.assert_array_equal(by_story.true_positives.sum(axis=0), whole.true_positives)
    np.testing.assert_array_equal(by_story.false_positives.sum(axis=0), whole.false_positives)
    np.testing.assert_array_equal(by_story.false_negatives.sum(axis=0), whole.false_negatives)
    assert by_story.exact.sum() == whole.exact


def test_without_any_label_f1_is_zero_and_every_frame_is_right():
    nothing = np.zeros((3, 4), bool)
    assert micro_f1(nothing, nothing) == 0
    assert frame_accuracy(nothing, nothing) == 1


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        micro_f1(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"\(5, 4, 7\) and \(20, 7\)"):
        count_labels(np.zeros((5, 4, 7)), np.zeros((20, 7)))
    with pytest.raises(ValueError, match="same shape"):
        story_label_counts(np.zeros((2, 3, 4)), np.zeros((1, 3, 4)))
