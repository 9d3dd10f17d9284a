"""Baselines for the scores of a model: the median background and a random real story.

Neither depends on the text of a story. If one of them scores well on a metric, the metric says little about how well a
model draws what the text describes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

BACKGROUND_STORIES = 500
"""Largest number of training stories that the median background is computed from. They are evenly chosen."""


def median_background(batches: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the median frame, computed for each pixel and channel.

    It counts how often each pixel has each of the 256 values, so that memory does not grow with the number of frames.

    Args:
        batches: arrays of frames, uint8 `[..., height, width, 3]`, all of the same height and width.

    Returns:
        uint8 `[height, width, 3]`. For an even number of frames it is the lower of the two middle values.

    Raises:
        ValueError: if there is no frame.
    """
    frames = itertools.chain.from_iterable(batch.reshape(-1, *batch.shape[-3:]) for batch in batches)
    first = next(frames, None)
    if first is None:
        raise ValueError("median_background: found no frame, expected at least one.")
    histogram = np.zeros((first.size, 256), np.uint32)
    count = 0
    for frame in itertools.chain([first], frames):
        histogram[np.arange(first.size), frame.ravel()] += 1
        count += 1
    # The median is the smallest value that at least half of the frames do not exceed.
    reached = np.cumsum(histogram, axis=1) >= (count + 1) // 2
    return np.asarray(reached.argmax(axis=1).astype(np.uint8).reshape(first.shape))


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Returns at most `most` of the indices 0 to `count` - 1, evenly spaced and ascending, as int64 `[indices]`."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def story_shift(count: int, seed: int) -> int:
    """Returns a random shift that pairs each test story with a training story.

    The test story with index `i` is compared with the training story `(i + shift) % count`. One number replaces a list
    of random indices.

    Args:
        count: number of training stories.
        seed: seed of the random choice.

    Returns:
        The shift, from 0 to `count` - 1.

    Raises:
        ValueError: if there is no training story.
    """
    if count < 1:
        raise ValueError(f"story_shift: found {count} stories, expected at least 1.")
    return int(np.random.default_rng(seed).integers(count))
