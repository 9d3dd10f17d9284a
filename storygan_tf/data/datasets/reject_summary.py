"""Stories that were set aside, told in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from storygan_tf.data.datasets.story import Reject

_NAMED = 3
"""Stories named for each reason."""

_REASONS = 10
"""Reasons told; the others are in the file of rejects."""


def count_reasons(rejects: Sequence[Reject]) -> dict[str, int]:
    """Returns how many stories were set aside for each reason, the most frequent first."""
    counts = Counter(reject.reason for reject in rejects)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def describe_rejects(rejects: Sequence[Reject]) -> list[str]:
    """Returns a line for each reason: how many stories, which ones first, and where."""
    lines = [_line(reason, count, rejects) for reason, count in count_reasons(rejects).items()]
    more = len(lines) - _REASONS
    return [*lines[:_REASONS], f"... and {more} more reasons"] if more > 0 else lines


def _line(reason: str, count: int, rejects: Sequence[Reject]) -> str:
    concerned = [reject for reject in rejects if reject.reason == reason]
    named = "; ".join(_name(reject) for reject in concerned[:_NAMED])
    return f"{count} x {reason}: {named}{'; ...' if count > _NAMED else ''}"


def _name(reject: Reject) -> str:
    where = f" ({_short(reject.file)})" if reject.file else ""
    return f"{_short(reject.story_id)}{where}"


def _short(text: str) -> str:
    # A name may be a megabyte long, or hold line ends and what moves a terminal's cursor.
    plain = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return plain if len(plain) <= 80 else f"{plain[:77]}..."


def advise_frames(rejects: Sequence[Reject], lengths: Mapping[int, int], frames: int) -> str:
    """Returns what to set where all stories share another length than the one asked for, else nothing.

    Args:
        rejects: the stories set aside.
        lengths: how many stories there are of each number of frames, whatever became of them.
        frames: the number asked for.
    """
    if not rejects or len(lengths) != 1 or frames in lengths:
        return ""
    (length,) = lengths
    return f"All stories have {length} frames, not {frames}: run again with --set model.frames={length}."
