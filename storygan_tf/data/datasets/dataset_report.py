"""`examine_dataset`: reads a whole data set and counts what it contains."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from storygan_tf.config.schema import DataConfig
from storygan_tf.data.datasets.image_sources import picture_file, picture_size, source_digest
from storygan_tf.data.datasets.split_overlap import Overlap, OverlapCounter
from storygan_tf.data.datasets.story import (
    BadFrameError,
    Reject,
    Story,
    StoryDataset,
    as_bad_frame_error,
    load_frame,
    split_of,
)
from storygan_tf.data.datasets.story_length import fit_length


@dataclasses.dataclass
class DatasetReport:
    """Counts of what a data set contains.

    Attributes:
        frames: number of frames that a story must have to be accepted.
        total: number of stories, accepted or rejected.
        accepted: number of stories with this number of frames whose pictures can all be read.
        splits: number of accepted stories in each split; `by test_fraction` counts those that name none.
        lengths: number of stories with each number of frames, before any picture is read.
        sizes: number of pictures of accepted stories with each size, as `WIDTHxHEIGHT`.
        labels: number of frames of accepted stories with each label.
        rejects: the stories that are not accepted, with reasons.
        overlaps: what the accepted stories of each pair of splits have in common.
        unused: number of files that no story uses, by kind (`*_mask.png`, `*.txt`).
    """

    frames: int
    total: int = 0
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
    """Reads every story and picture of a data set.

    Args:
        dataset: the data set.
        frames: number of frames that a story must have; None for the most frequent number.
        progress: called after each story with the number of stories read and their total number.
        test_fraction: part of the stories without a split that count as test stories when splits are compared.

    Returns:
        The counts.

    Raises:
        DataError: if the data set as a whole cannot be read.
    """
    entries = list(dataset.stories())
    lengths = Counter(len(entry.images) for entry in entries if isinstance(entry, Story))
    if frames is None:
        frames = lengths.most_common(1)[0][0] if lengths else 0
    report = DatasetReport(frames=frames, total=len(entries), lengths=lengths)
    overlaps = OverlapCounter()
    for done, entry in enumerate(entries, start=1):
        result = entry if isinstance(entry, Reject) else _read_pictures(entry, frames, dataset.folder)
        if isinstance(result, Reject):
            report.rejects.append(result)
        elif isinstance(entry, Story):
            _count(report, entry, result)
            overlaps.add(split_of(entry, test_fraction), result.digests, entry.sentences)
        if progress:
            progress(done, len(entries))
    report.overlaps = list(overlaps.overlaps())
    report.unused = Counter(_unused(dataset, entries))
    return report


@dataclasses.dataclass(frozen=True)
class _Pictures:
    """The size of each picture of a story, and the digest of what it was taken from."""

    sizes: tuple[tuple[int, int], ...]
    digests: tuple[bytes, ...]


def _read_pictures(story: Story, frames: int, folder: Path) -> Reject | _Pictures:
    """Reads the first `frames` pictures of a story; returns a reject if there are fewer or one cannot be used."""
    fitted = fit_length(story, frames, "cut")
    if isinstance(fitted, Reject):
        return fitted
    (story,) = fitted
    sizes, digests = [], []
    try:
        for picture in story.images:
            load_frame(picture)
            with as_bad_frame_error(picture):
                sizes.append(picture_size(picture))
                digests.append(source_digest(picture))
    except BadFrameError as error:
        return error.as_reject(story.story_id, folder)
    return _Pictures(tuple(sizes), tuple(digests))


def _count(report: DatasetReport, story: Story, pictures: _Pictures) -> None:
    """Adds an accepted story to the report's counts."""
    report.accepted += 1
    report.splits[story.split or "by test_fraction"] += 1
    report.labels.update(name for frame in story.labels or () for name in set(frame))
    report.sizes.update(f"{width}x{height}" for width, height in pictures.sizes)


def _unused(dataset: StoryDataset, entries: Sequence[Story | Reject]) -> Iterator[str]:
    """Yields the kind of each file in the folder that belongs neither to the layout nor to a story."""
    root = dataset.folder.resolve()
    stories = (entry for entry in entries if isinstance(entry, Story))
    used = {str(picture_file(picture)) for story in stories for picture in story.images}
    for parent, _, names in os.walk(root):
        for name in names:
            path = Path(parent, name)
            if str(path) not in used and not dataset.is_layout_file(path.relative_to(root)):
                yield _kind(path)


def _kind(path: Path) -> str:
    """Returns the kind of a file: its ending, with `_mask` if its name ends so; the name if it has no ending."""
    mask = "_mask" if path.stem.endswith("_mask") else ""
    return f"*{mask}{path.suffix}" if path.suffix else path.name
