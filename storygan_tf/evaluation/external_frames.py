"""Reading and writing generated frames in the file layouts of other story visualization systems.

A layout names a frame by the position of its story among all test stories of the data folder and by the frame's number
in the story. The layouts number frames and order stories as the code of these systems does:

- `storyviz`: `img-{position}-{frame}.png` in one folder, both numbered from 0, stories in stored order. StoryViz
  (adymaharana/StoryViz) writes them in `eval_scripts/eval_classifier.py` (`numpy_to_img`) and reads them in
  `dcsgan/pororo_data.py`. adymaharana/VLCStoryGan uses the same names for PororoSV and FlintstonesSV, all `.png`.
- `arldm`: `{:04d}.png` in one folder, numbered from 0 through all stories, T per story. AR-LDM (xichenpan/ARLDM) writes
  them in `main.py` (`sample`) in the order of its HDF5 file, for which `data_script/pororo_hdf5.py` sorts the test ids
  as
  numbers: `s10` comes after `s9`. Stories follow each other with its default `batch_size` of 1; a larger one mixes the
  frames of a batch. `data_script/flintstones_hdf5.py` does not sort.
- `cpcsv`: `generate/{position}/{frame}.png`, both numbered from 0, stories in stored order. CP-CSV (basiclab/
  CPCStoryVisualization-Pytorch) writes them in `inference.py` (`generate_story`), with the true frames in `original`.

In story continuation the system receives the first frame and generates T-1 frames per story. AR-LDM numbers these
without a gap (`task: continuation` draws `texts[1:]`). In the other layouts they may be numbered from 0, as StoryDALL-E
(adymaharana/storydalle) does, or from 1, where 0 is the first frame.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from storygan_tf.common.atomic_files import PARTIAL_SUFFIX, unwritable_error
from storygan_tf.common.errors import DataError, nearest
from storygan_tf.config.schema import IMAGE_SIZE, DataConfig
from storygan_tf.data.datasets.list_reader import ListReader
from storygan_tf.data.datasets.open_dataset import open_configured
from storygan_tf.data.datasets.reader import PublishedReader
from storygan_tf.data.datasets.story import SPLITS, BadFrameError, Reject, Story, StoryDataset, load_frame, split_of

_MAX_LISTED = 3
"""Most file names that an error message lists."""


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The file layout of a system.

    Attributes:
        example: example file names for error messages.
        glob: glob pattern that finds the frames below `root`.
        pattern: regular expression that matches only frames, as paths relative to `root`.
        name: function from the story's position, the frame's number and the number of frames per story to the path
            relative to `root`.
        sort: whether stories are ordered by id instead of in stored order.
        firsts: numbers that the first generated frame may have in story continuation.
        subfolder: folder that holds the frames if it exists; empty for none.
        drops_last: whether the system's data loader leaves out a last batch that is not full.
    """

    example: str
    glob: str
    pattern: re.Pattern[str]
    name: Callable[[int, int, int], str]
    sort: bool = False
    firsts: tuple[int, ...] = (0, 1)
    subfolder: str = ""
    drops_last: bool = False

    def root(self, folder: Path) -> Path:
        """Returns the folder that the names of frames are relative to."""
        return folder / self.subfolder if (folder / self.subfolder).is_dir() else folder

    def frame_names(self, folder: Path) -> set[str]:
        """Returns the names of all frames in a folder."""
        root = self.root(folder)
        names = (path.relative_to(root).as_posix() for path in root.glob(self.glob))
        return {name for name in names if self.pattern.fullmatch(name)}

    def ordered(self, story_ids: Sequence[str]) -> list[str]:
        """Returns the story ids in the order of the layout's positions."""
        return sorted(story_ids, key=_natural_key) if self.sort else list(story_ids)


def _natural_key(story_id: str) -> tuple[list[str | int], str]:
    """Returns a sort key that orders the numbers in a text by value and everything else as text."""
    parts = re.split("([0-9]+)", story_id)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], story_id


_LAYOUTS = {
    "storyviz": _Layout(
        example="img-{story}-{frame}.png",
        glob="img-*.png",
        pattern=re.compile("img-[0-9]+-[0-9]+[.]png"),
        name=lambda story, frame, frames: f"img-{story}-{frame}.png",
        drops_last=True,
    ),
    "arldm": _Layout(
        example="0000.png, 0001.png, ...",
        glob="*.png",
        pattern=re.compile("[0-9]{4,}[.]png"),
        name=lambda story, frame, frames: f"{story * frames + frame:04d}.png",
        sort=True,
        firsts=(0,),
    ),
    "cpcsv": _Layout(
        example="generate/{story}/{frame}.png",
        glob="*/*.png",
        pattern=re.compile("[0-9]+/[0-9]+[.]png"),
        name=lambda story, frame, frames: f"{story}/{frame}.png",
        subfolder="generate",
        drops_last=True,
    ),
}

LAYOUTS = ("auto", *_LAYOUTS)
"""Names of the layouts; `auto` stands for the one that the file names match."""


def frame_path(layout: str, story: int, frame: int, frames: int) -> str:
    """Returns the path of a frame, relative to the folder of frames.

    Args:
        layout: one of `LAYOUTS` except `auto`.
        story: position of the story among all test stories, from 0, in the layout's order.
        frame: number of the frame in the story, from 0.
        frames: number of frames per story.
    """
    rule = _LAYOUTS[layout]
    return f"{rule.subfolder}/{rule.name(story, frame, frames)}".lstrip("/")


def order_of(layout: str) -> Callable[[str], Any] | None:
    """Returns the key function by which a layout sorts story ids, or None if it keeps the stored order.

    Args:
        layout: one of `LAYOUTS` except `auto`.
    """
    return _natural_key if _LAYOUTS[layout].sort else None


def stored_test_ids(folder: str | Path, data: DataConfig) -> list[str]:
    """Returns the ids of a data folder's test stories in stored order.

    Rejected stories count, because another system may have drawn them. The exception are entries that cannot be
    assigned to a split: lines that are not JSON, or that name neither a split nor a story.

    Args:
        folder: the data folder.
        data: settings of how the folder is read and split.

    Raises:
        DataError: if the folder cannot be read.
    """
    dataset = open_configured(folder, data)
    entries = list(dataset.stories())
    if any(isinstance(entry, Reject) for entry in entries):
        entries = list(_with_rejected_stories(dataset, entries))
    stories = [entry for entry in entries if isinstance(entry, Story)]
    return [story.story_id for story in stories if split_of(story, data.test_fraction) == "test"]


def _with_rejected_stories(dataset: StoryDataset, entries: Sequence[Story | Reject]) -> Iterator[Story | Reject]:
    """Yields the entries, with a story of only an id and a split for each rejected entry of which both are known."""
    if isinstance(dataset, PublishedReader):
        yield from _published_stories(dataset, entries)
    elif isinstance(dataset, ListReader):
        yield from _listed_stories(dataset, entries)


def _published_stories(dataset: PublishedReader, entries: Sequence[Story | Reject]) -> Iterator[Story]:
    names = dict.fromkeys(entry.story_id for entry in entries)
    yield from (Story(name, dataset.published_split(name), (), ()) for name in names)


def _listed_stories(dataset: ListReader[Any], entries: Sequence[Story | Reject]) -> Iterator[Story | Reject]:
    names = {entry.story_id for entry in entries if isinstance(entry, Story)}
    for entry, raw in zip(entries, dataset.raw_entries(), strict=True):
        split, name = raw.values.get("split"), entry.story_id
        if isinstance(entry, Story):
            yield entry
        elif split in SPLITS or (split is None and raw.values.get("story_id") == name):
            yield Story(f"{name} (line {raw.number})" if name in names else name, split, (), ())
            names.add(name)


class ImageFrames:
    """Frames of test stories that another system wrote as image files of any size and mode.

    An instance holds only names, so that it can be pickled and sent to workers.

    Args:
        folder: the folder of image files.
        layout: one of `LAYOUTS`; for `auto` the layout is detected from the file names.
        story_ids: the ids of all test stories in stored order (`stored_test_ids`).
        frames: number of frames per story.
        skip_first_frame: whether the system received the first frame, as in story continuation, so that there are
            `frames` - 1 files per story.
        given: the inputs that the system drew from, `text` or `text and gold labels`.

    Attributes:
        layout: name of the layout, never `auto`.
        drawn_from: the inputs that the system drew from.

    Raises:
        DataError: if the folder is missing, its layout is unknown, or it does not hold exactly the stories' frames.
    """

    def __init__(
        self,
        folder: str | Path,
        layout: str,
        story_ids: Sequence[str],
        frames: int,
        skip_first_frame: bool = False,
        *,
        given: str = "text",
    ) -> None:
        place = Path(folder)
        _check_request(layout, LAYOUTS, story_ids)
        if frames <= skip_first_frame:
            raise DataError(f"--skip-first-frame: the stories have {frames} frame, expected at least 2.")
        if not place.is_dir():
            found = "a file" if place.exists() else "no such folder"
            raise DataError(f"images {place}: found {found}; expected a folder with {_expected_names(layout)}.")
        self.layout = _detect_layout(place) if layout == "auto" else layout
        self.drawn_from = given
        rule = _LAYOUTS[self.layout]
        self._root = rule.root(place).resolve()
        self._frames = frames - skip_first_frame
        self._positions = {name: position for position, name in enumerate(rule.ordered(story_ids))}
        self._first = self._first_number(place, rule, skip_first_frame)

    def read(self, story_ids: Sequence[str]) -> np.ndarray:
        """Returns the frames of stories, resized to 64x64 in the same way as the frames of the data set.

        Args:
            story_ids: ids of the stories, in any order.

        Returns:
            uint8 `[stories, T, 64, 64, 3]`, or T-1 frames per story if the first frame is skipped.

        Raises:
            DataError: if an id is not that of a test story, or an image file cannot be read.
        """
        stories = np.empty([len(story_ids), self._frames, IMAGE_SIZE, IMAGE_SIZE, 3], np.uint8)
        for story, story_id in zip(stories, story_ids, strict=True):
            for frame, name in zip(story, self._names_of(story_id), strict=True):
                frame[:] = _load(self._root / name)
        return stories

    def _names_of(self, story_id: str) -> list[str]:
        position = self._positions.get(story_id)
        if position is None:
            known = nearest(story_id, self._positions)
            raise DataError(
                f"story {story_id!r}: is not among the {len(self._positions)} test stories that the images were "
                f"matched with{known}. Give the data folder whose stories the other system drew."
            )
        return self._names(position, self._first)

    def _names(self, position: int, first: int) -> list[str]:
        name = _LAYOUTS[self.layout].name
        return [name(position, first + frame, self._frames) for frame in range(self._frames)]

    def _first_number(self, folder: Path, rule: _Layout, skip_first_frame: bool) -> int:
        """Returns the number of the first frame; raises DataError unless exactly the expected files exist."""
        found = rule.frame_names(folder)
        firsts = rule.firsts if skip_first_frame else (0,)
        expected = {first: [self._names(place, first) for place in range(len(self._positions))] for first in firsts}
        wrong = {first: set().union(*names) ^ found for first, names in expected.items()}
        first = min(firsts, key=lambda first: len(wrong[first]))
        if not wrong[first]:
            return first
        names = [name for story in expected[first] for name in story]
        missing = [name for name in names if name in wrong[first]]
        superfluous = sorted(wrong[first] & found, key=_natural_key)
        raise DataError(
            f"images {folder}: layout {self.layout}: found {len(found)} frames ({rule.example}), expected "
            f"{len(names)}: {self._frames} of each of {len(self._positions)} test stories. "
            f"{_file_list('Missing', missing)}{_file_list('Superfluous', superfluous)}"
            f"{self._advice(len(found), rule, skip_first_frame)}"
        )

    def _advice(self, found: int, rule: _Layout, skip_first_frame: bool) -> str:
        """Returns a sentence on how to fix a folder with a wrong number of frames."""
        other = self._frames + (1 if skip_first_frame else -1)
        if found and found == other * len(self._positions):
            option = "without" if skip_first_frame else "with"
            return f"It holds {other} frames per story, as expected {option} --skip-first-frame."
        dropped = ", including those of a last batch that is not full (`drop_last`)" if rule.drops_last else ""
        return f"Draw all test stories of this data folder{dropped}."


def write_images(
    folder: str | Path,
    layout: str,
    story_ids: Sequence[str],
    frames_of: Callable[[str], np.ndarray],
    skip_first_frame: bool = False,
) -> None:
    """Writes the frames of stories as PNG files in one of the layouts.

    The files are written to a temporary folder that is then renamed, so that `folder` is never incomplete.

    Args:
        folder: the folder to create; it may exist if it is empty.
        layout: one of `LAYOUTS` except `auto`.
        story_ids: the ids of all test stories in stored order.
        frames_of: returns the T frames of the story with an id, uint8 `[T, height, width, 3]`. It is called once per
            story, in the layout's order.
        skip_first_frame: whether to leave out the first frame of each story, as in story continuation.

    Raises:
        DataError: if the layout is unknown, the folder is not empty, stories have different numbers of frames, or the
            files cannot be written.
    """
    target = Path(folder)
    _check_request(layout, tuple(_LAYOUTS), story_ids)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(
            f"images {target}: exists already and is not an empty folder; name a folder that does not exist."
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    rule = _LAYOUTS[layout]
    try:
        partial.mkdir(parents=True)
        _write_stories(partial / rule.subfolder, rule, story_ids, frames_of, int(skip_first_frame))
        partial.replace(target)
    except OSError as error:
        raise unwritable_error(target, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_stories(
    root: Path, rule: _Layout, story_ids: Sequence[str], frames_of: Callable[[str], np.ndarray], skipped: int
) -> None:
    frames = 0
    for position, story_id in enumerate(rule.ordered(story_ids)):
        story = frames_of(story_id)[skipped:]
        frames = frames or len(story)
        if len(story) != frames:
            raise DataError(f"story {story_id}: {len(story)} frames to write, expected {frames} as in the others.")
        for number, frame in enumerate(story):
            path = root / rule.name(position, number, frames)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame).save(path)


def _check_request(layout: str, known: tuple[str, ...], story_ids: Sequence[str]) -> None:
    if layout not in known:
        raise DataError(f"layout {layout!r}: expected one of {', '.join(known)}{nearest(layout, known)}.")
    if not story_ids:
        raise DataError("images: found no test story in the data folder, expected at least one.")


def _detect_layout(folder: Path) -> str:
    """Returns the name of the only layout with frames in a folder."""
    names = [name for name, rule in _LAYOUTS.items() if rule.frame_names(folder)]
    if len(names) == 1:
        return names[0]
    expected = f"expected the frames of one layout: {_expected_names('auto')}"
    if not names:
        raise DataError(f"images {folder}: found {_contents(folder)}; {expected}.")
    raise DataError(
        f"images {folder}: found frames of {' and '.join(names)}; {expected}. Name it with --images-layout."
    )


def _expected_names(layout: str) -> str:
    return " or ".join(f"{rule.example} ({name})" for name, rule in _LAYOUTS.items() if layout in ("auto", name))


def _contents(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return _listed(names) or "nothing in it"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_LISTED
    return ", ".join([*names[:_MAX_LISTED], *([f"and {more} more"] if more > 0 else [])])


def _file_list(title: str, names: Sequence[str]) -> str:
    return f"{title}: {_listed(names)}. " if names else ""


def _load(path: Path) -> np.ndarray:
    try:
        return load_frame(path)
    except BadFrameError as error:
        raise DataError(f"images {path}: found {error.reason}, expected an image; draw this frame again.") from error
