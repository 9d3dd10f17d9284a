"""What a figure is worth is seen beside these: the median background and a random real story.

A picture of the empty table and a true picture of another story both score well where a metric says little, and neither
has read the text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

BACKGROUND_STORIES = 500
"""The median background is taken over so many training stories at the most, evenly chosen."""


def median_background(batches: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the median of frames, pixel by pixel and channel by channel.

    It counts how often each pixel has each of the 256 values, so that memory does not grow with the number of frames.

    Args:
        batches: arrays `[..., height, width, 3]`, uint8, all of one height and width.

    Returns:
        `[height, width, 3]`, uint8; of an even number of frames the lower of the two middle values.

    Raises:
        ValueError: where there is no frame.
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
    # The first value by which at least half of the frames are counted.
    reached = np.cumsum(histogram, axis=1) >= (count + 1) // 2
    return np.asarray(reached.argmax(axis=1).astype(np.uint8).reshape(first.shape))


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Returns at most `most` of the indices 0..count-1, evenly spread and rising, int64."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def story_shift(count: int, seed: int) -> int:
    """Returns how far to go on among `count` training stories to the one that a test story is compared with.

    Test story of rank r stands beside training story `(r + shift) % count`, so that neither list need be held.

    Raises:
        ValueError: where there is no training story.
    """
    if count < 1:
        raise ValueError(f"story_shift: found {count} stories, expected at least 1.")
    return int(np.random.default_rng(seed).integers(count))
