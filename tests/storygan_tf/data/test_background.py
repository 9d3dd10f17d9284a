"""The baselines: the median background and random real stories."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storygan_tf.data.background import evenly_spaced, median_background, story_shift


def test_median_of_an_odd_number_of_frames_is_numpys():
    frames = np.random.default_rng(1).integers(0, 256, (9, 5, 6, 3), dtype=np.uint8)
    median = median_background([frames[:4].reshape(2, 2, 5, 6, 3), frames[4:]])
    assert median.dtype == np.uint8
    np.testing.assert_array_equal(median, np.median(frames, axis=0))


def test_median_of_an_even_number_is_the_lower_of_the_two_in_the_middle():
    frames = np.array([10, 40, 20, 200], np.uint8).reshape(4, 1, 1, 1).repeat(3, axis=-1)
    np.testing.assert_array_equal(median_background([frames]), [[[20, 20, 20]]])


def test_median_hides_objects_that_are_in_few_frames():
    frames = np.full((7, 16, 16, 3), 90, np.uint8)
    for index, frame in enumerate(frames):
        frame[2 * index : 2 * index + 2] = 255
    np.testing.assert_array_equal(median_background([frames]), 90)


def test_median_takes_an_array_of_stories():
    stories = np.random.default_rng(2).integers(0, 256, (3, 5, 4, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(median_background(stories), np.median(stories.reshape(15, 4, 4, 3), axis=0))


@pytest.mark.parametrize("batches", [[], [np.zeros((0, 4, 4, 3), np.uint8)]])
def test_median_of_nothing_is_refused(batches):
    with pytest.raises(ValueError, match="no frame"):
        median_background(batches)


@pytest.mark.parametrize(("count", "most", "expected"), [(3, 10, [0, 1, 2]), (10, 4, [0, 3, 6, 9]), (1, 5, [0])])
def test_evenly(count, most, expected):
    assert evenly_spaced(count, most).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 60), seed=st.integers(0, 2**32))
def test_story_shift_is_one_of_the_training_stories_and_repeats(count, seed):
    shift = story_shift(count, seed)
    assert isinstance(shift, int)
    assert 0 <= shift < count
    assert shift == story_shift(count, seed)


def test_story_shift_differs_by_seed_and_reaches_every_story():
    assert {story_shift(5, seed) for seed in range(100)} == set(range(5))


def test_story_shift_needs_a_story():
    with pytest.raises(ValueError, match="found 0 stories, expected at least 1"):
        story_shift(0, 1)
