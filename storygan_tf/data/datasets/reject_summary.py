"""Summarises rejected stories in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from storygan_tf.data.datasets.story import Reject

_MAX_NAMES = 3
"""Number of stories named for each reason."""

_MAX_REASONS = 10
"""Number of reasons listed; the file of rejects has all."""


def count_reasons(rejects: Sequence[Reject]) -> dict[str, int]:
    """Returns the number of stories rejected for each reason, the most frequent reason first."""
    counts = Counter(reject.reason for reject in rejects)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def describe_rejects(rejects: Sequence[Reject]) -> list[str]:
    """Returns a line for each reason: the number of stories, and the names and files of the first ones."""
    lines = [_line(reason, count, rejects) for reason, count in count_reasons(rejects).items()]
    more = len(lines) - _MAX_REASONS
    return [*lines[:_MAX_REASONS], f"... and {more} more reasons"] if more > 0 else lines


def _line(reason: str, count: int, rejects: Sequence[Reject]) -> str:
    matching = [reject for reject in rejects if reject.reason == reason]
    names = "; ".join(_name(reject) for reject in matching[:_MAX_NAMES])
    return f"{count} x {reason}: {names}{'; ...' if count > _MAX_NAMES else ''}"


def _name(reject: Reject) -> str:
    file = f" ({_short(reject.file)})" if reject.file else ""
    return f"{_short(reject.story_id)}{file}"


def _short(text: str) -> str:
    """Returns a text that is safe to print: at most 80 characters, without line ends and terminal control codes."""
    plain = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return plain if len(plain) <= 80 else f"{plain[:77]}..."


def advise_frames(rejects: Sequence[Reject], lengths: Mapping[int, int], frames: int) -> str:
    """Returns advice if all stories have the same number of frames and it is not the configured one, else "".

    Args:
        rejects: the rejected stories.
        lengths: number of stories with each number of frames, accepted or not.
        frames: the configured number of frames.
    """
    if not rejects or len(lengths) != 1 or frames in lengths:
        return ""
    (length,) = lengths
    return f"All stories have {length} frames, not {frames}: run again with --set model.frames={length}."
