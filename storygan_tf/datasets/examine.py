"""Reads a whole data set to say what is in it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from storygan_tf.datasets.story import BadFrameError, Reject, Story, StoryDataset, count_reject, load_frames


@dataclasses.dataclass
class Findings:
    """What a data set holds.

    Attributes:
        frames: frames that a story must have to be accepted.
        given: stories, usable or not.
        accepted: stories of which every picture could be read.
        splits: accepted stories by split; `by test_fraction` where a story names none.
        lengths: stories by number of frames, before any was set aside for that.
        sizes: pictures of accepted stories by `WIDTHxHEIGHT`.
        labels: frames of accepted stories by label.
        rejects: the stories set aside.
    """

    frames: int
    given: int = 0
    accepted: int = 0
    splits: Counter[str] = dataclasses.field(default_factory=Counter)
    lengths: Counter[int] = dataclasses.field(default_factory=Counter)
    sizes: Counter[str] = dataclasses.field(default_factory=Counter)
    labels: Counter[str] = dataclasses.field(default_factory=Counter)
    rejects: list[Reject] = dataclasses.field(default_factory=list)


def examine(
    dataset: StoryDataset, frames: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Findings:
    """Reads every story and picture.

    Args:
        dataset: the data set.
        frames: frames that a story must have; by default the most frequent number.
        progress: is called with the stories read and the stories to read.

    Raises:
        DataError: where the data set as a whole cannot be read.
    """
    entries = list(dataset.stories())
    lengths = Counter(len(entry.images) for entry in entries if isinstance(entry, Story))
    if frames is None:
        frames = lengths.most_common(1)[0][0] if lengths else 0
    findings = Findings(frames=frames, given=len(entries), lengths=lengths)
    for done, entry in enumerate(entries, start=1):
        _add(findings, entry, dataset.folder)
        if progress:
            progress(done, len(entries))
    return findings


def _add(findings: Findings, entry: Story | Reject, folder: Path) -> None:
    reject = entry if isinstance(entry, Reject) else _reject(entry, findings.frames, folder)
    if reject:
        findings.rejects.append(reject)
    elif isinstance(entry, Story):
        _accept(findings, entry)


def _reject(story: Story, frames: int, folder: Path) -> Reject | None:
    """Returns why a story cannot be used, None where every picture could be read."""
    if reject := count_reject(story, frames):
        return reject
    try:
        load_frames(story)
    except BadFrameError as error:
        return error.as_reject(story.story_id, folder)
    return None


def _accept(findings: Findings, story: Story) -> None:
    findings.accepted += 1
    findings.splits[story.split or "by test_fraction"] += 1
    findings.labels.update(name for frame in story.labels or () for name in set(frame))
    for path in story.images:
        with Image.open(path) as image:
            findings.sizes[f"{image.width}x{image.height}"] += 1
