"""The number T of frames that every story of a training has: where it comes from, and stories of another length.

T is `model.frames` where that is set, else the only length that the stories of the data have. Longer stories are cut to
their first T frames, or into several stories of T frames (`data.long_stories`); shorter ones are rejected.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets.story import Reject, Story


def only_length(entries: Iterable[Story | Reject], folder: str) -> int | None:
    """Returns the number of frames that all stories have.

    Args:
        entries: what a reader has found.
        folder: the data folder, for the error message.

    Returns:
        The number; None if there is no story.

    Raises:
        DataError: if stories have different numbers of frames.
    """
    lengths = Counter(len(entry.images) for entry in entries if isinstance(entry, Story))
    if len(lengths) > 1:
        counts = ", ".join(f"{count} of {length}" for length, count in sorted(lengths.items()))
        raise DataError(
            f"data folder {folder}: found stories of different numbers of frames ({counts}), expected one number. "
            "Choose it with --set model.frames=N: longer stories are cut (data.long_stories), shorter ones set aside."
        )
    return next(iter(lengths), None)


def fit_length(story: Story, frames: int, long_stories: str) -> list[Story] | Reject:
    """Returns a story as stories of exactly `frames` frames.

    Args:
        story: the story.
        frames: number T of frames.
        long_stories: `cut` to keep the first T frames of a longer story, `split` to make as many stories of T frames of
            it as it has. Frames that are left over are dropped.

    Returns:
        One story, or with `split` those of a longer story, whose ids end with `-part1`, `-part2` and so on; or a reject
        if the story is shorter.
    """
    length = len(story.images)
    if length < frames:
        return Reject(story.story_id, story.index_file, f"{length} frames, expected {frames}")
    if length == frames:
        return [story]
    if long_stories == "cut":
        return [_part(story, 0, frames, story.story_id)]
    parts = range(1, length // frames + 1)
    return [_part(story, (part - 1) * frames, frames, f"{story.story_id}-part{part}") for part in parts]


def _part(story: Story, begin: int, frames: int, story_id: str) -> Story:
    """Returns the frames `begin` to `begin + frames` of a story as a story of its own."""
    chosen = slice(begin, begin + frames)
    return dataclasses.replace(
        story,
        story_id=story_id,
        sentences=story.sentences[chosen],
        images=story.images[chosen],
        labels=None if story.labels is None else story.labels[chosen],
        objects=None if story.objects is None else story.objects[chosen],
    )
