"""Reads a whole data set to say what is in it."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from storygan_tf.config.schema import DataConfig
from storygan_tf.data.datasets.image_sources import file_of, identity_of, size_of
from storygan_tf.data.datasets.split_overlap import Overlap, OverlapCounter
from storygan_tf.data.datasets.story import (
    BadFrameError,
    Reject,
    Story,
    StoryDataset,
    as_bad_frame_error,
    load_frame,
    split_of,
    wrong_length_reject,
)


@dataclasses.dataclass
class DatasetReport:
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
        overlaps: what splits of accepted stories have in common.
        unused: files that no story uses, by kind (`*_mask.png`, `*.txt`).
    """

    frames: int
    given: int = 0
    accepted: int = 0
    splits: Counter[str] = dataclasses.field(default_factory=Counter)
    lengths: Counter[int] = dataclasses.field(default_factory=Counter)
    sizes: Counter[str] = dataclasses.field(default_factory=Counter)
    labels: Counter[str] = dataclasses.field(default_factory=Counter)
    rejects: list[Reject] = dataclasses.field(default_factory=list)
    overlaps: list[Overlap] = dataclasses.field(default_factory=list)
    unused: Counter[str] = dataclasses.field(default_factory=Counter)


def examine_dataset(
    dataset: StoryDataset,
    frames: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    test_fraction: float = DataConfig.test_fraction,
) -> DatasetReport:
    """Reads every story and picture.

    Args:
        dataset: the data set.
        frames: frames that a story must have; by default the most frequent number.
        progress: is called with the stories read and the stories to read.
        test_fraction: of stories without a split that count as test stories where splits are held against each other.

    Raises:
        DataError: where the data set as a whole cannot be read.
    """
    entries = list(dataset.stories())
    lengths = Counter(len(entry.images) for entry in entries if isinstance(entry, Story))
    if frames is None:
        frames = lengths.most_common(1)[0][0] if lengths else 0
    findings = DatasetReport(frames=frames, given=len(entries), lengths=lengths)
    overlaps = OverlapCounter()
    for done, entry in enumerate(entries, start=1):
        looked = entry if isinstance(entry, Reject) else _look(entry, frames, dataset.folder)
        if isinstance(looked, Reject):
            findings.rejects.append(looked)
        elif isinstance(entry, Story):
            _accept(findings, entry, looked)
            overlaps.add(split_of(entry, test_fraction), looked.identities, entry.sentences)
        if progress:
            progress(done, len(entries))
    findings.overlaps = list(overlaps.overlaps())
    findings.unused = Counter(_unused(dataset, entries))
    return findings


@dataclasses.dataclass(frozen=True)
class _Looked:
    """What was seen of a story's pictures: their sizes, and digests of where they come from."""

    sizes: tuple[tuple[int, int], ...]
    identities: tuple[bytes, ...]


def _look(story: Story, frames: int, folder: Path) -> Reject | _Looked:
    """Returns what is seen of a story's pictures, or why it cannot be used."""
    if reject := wrong_length_reject(story, frames):
        return reject
    sizes, identities = [], []
    try:
        for picture in story.images:
            load_frame(picture)
            with as_bad_frame_error(picture):
                sizes.append(size_of(picture))
                identities.append(identity_of(picture))
    except BadFrameError as error:
        return error.as_reject(story.story_id, folder)
    return _Looked(tuple(sizes), tuple(identities))


def _accept(findings: DatasetReport, story: Story, looked: _Looked) -> None:
    findings.accepted += 1
    findings.splits[story.split or "by test_fraction"] += 1
    findings.labels.update(name for frame in story.labels or () for name in set(frame))
    findings.sizes.update(f"{width}x{height}" for width, height in looked.sizes)


def _unused(dataset: StoryDataset, entries: Sequence[Story | Reject]) -> Iterator[str]:
    """Yields the kind of each file in the folder that is neither part of its layout nor of a story."""
    root = dataset.folder.resolve()
    stories = (entry for entry in entries if isinstance(entry, Story))
    used = {str(file_of(picture)) for story in stories for picture in story.images}
    for parent, _, names in os.walk(root):
        for name in names:
            path = Path(parent, name)
            if str(path) not in used and not dataset.owns(path.relative_to(root)):
                yield _kind(path)


def _kind(path: Path) -> str:
    mask = "_mask" if path.stem.endswith("_mask") else ""
    return f"*{mask}{path.suffix}" if path.suffix else path.name
