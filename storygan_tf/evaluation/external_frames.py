"""Frames that another system generated, read and written in the layouts that the field's systems leave them in.

A frame is found by its story's position among all test stories of the data folder and by its number in the story; what
a layout counts from, and in which order it takes the stories, is what these systems' own code does:

- `storyviz`: `img-{position}-{frame}.png` in one folder, both from 0, stories as stored. StoryViz
  (adymaharana/StoryViz) `eval_scripts/eval_classifier.py` (`numpy_to_img`) writes them, `dcsgan/pororo_data.py` reads
  them; adymaharana/VLCStoryGan has the same names for PororoSV and FlintstonesSV. There are no others than `.png`.
- `arldm`: `{:04d}.png` in one folder, counted from 0 through all stories, T a story. AR-LDM (xichenpan/ARLDM) `main.py`
  (`sample`) writes them in the order of its HDF5 file, for which `data_script/pororo_hdf5.py` sorts the test ids, which
  are numbers: `s10` comes after `s9`. Stories come one after the other for its `batch_size` of 1, the default; a larger
  one mixes the frames of a batch. `data_script/flintstones_hdf5.py` does not sort.
- `cpcsv`: `generate/{position}/{frame}.png`, both from 0, stories as stored. CP-CSV (basiclab/
  CPCStoryVisualization-Pytorch) `inference.py` (`generate_story`) writes them, beside true ones in `original`.

Story continuation is given the first frame and leaves T-1 a story. AR-LDM numbers these without a gap (`task:
continuation` draws `texts[1:]`). For the others frames may be numbered from 0, as StoryDALL-E (adymaharana/storydalle)
does, or from 1, where 0 stands for the frame that was given.
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

_NAMED = 3
"""Files that an error names of each kind."""


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How a system names its frames.

    Attributes:
        like: the names, as errors tell them.
        glob: what finds them below `root`.
        pattern: what tells them from other files, relative to `root`.
        name: (position of the story, number of the frame, frames a story) -> path relative to `root`.
        sort: whether stories are taken by their ids, not as stored.
        firsts: numbers that the first generated frame may have in story continuation.
        below: a folder that holds everything, if it is there.
        drops_last: whether the system's loader leaves out a last batch that is not full.
    """

    like: str
    glob: str
    pattern: re.Pattern[str]
    name: Callable[[int, int, int], str]
    sort: bool = False
    firsts: tuple[int, ...] = (0, 1)
    below: str = ""
    drops_last: bool = False

    def root(self, folder: Path) -> Path:
        """Returns the folder that names are relative to."""
        return folder / self.below if (folder / self.below).is_dir() else folder

    def found(self, folder: Path) -> set[str]:
        """Returns the names of all frames that are there."""
        root = self.root(folder)
        names = (path.relative_to(root).as_posix() for path in root.glob(self.glob))
        return {name for name in names if self.pattern.fullmatch(name)}

    def ordered(self, story_ids: Sequence[str]) -> list[str]:
        """Returns the stories in the order that positions count them."""
        return sorted(story_ids, key=_numbers_by_value) if self.sort else list(story_ids)


def _numbers_by_value(story_id: str) -> tuple[list[str | int], str]:
    """Orders texts, and numbers in them by value; without numbers, or with such of one length, as texts are ordered."""
    parts = re.split("([0-9]+)", story_id)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], story_id


_LAYOUTS = {
    "storyviz": _Layout(
        like="img-{story}-{frame}.png",
        glob="img-*.png",
        pattern=re.compile("img-[0-9]+-[0-9]+[.]png"),
        name=lambda story, frame, frames: f"img-{story}-{frame}.png",
        drops_last=True,
    ),
    "arldm": _Layout(
        like="0000.png, 0001.png, ...",
        glob="*.png",
        pattern=re.compile("[0-9]{4,}[.]png"),
        name=lambda story, frame, frames: f"{story * frames + frame:04d}.png",
        sort=True,
        firsts=(0,),
    ),
    "cpcsv": _Layout(
        like="generate/{story}/{frame}.png",
        glob="*/*.png",
        pattern=re.compile("[0-9]+/[0-9]+[.]png"),
        name=lambda story, frame, frames: f"{story}/{frame}.png",
        below="generate",
        drops_last=True,
    ),
}

LAYOUTS = ("auto", *_LAYOUTS)


def frame_path(layout: str, story: int, frame: int, frames: int) -> str:
    """Returns where a frame lies below the folder of frames.

    Args:
        layout: one of `LAYOUTS` but `auto`.
        story: position among all test stories, from 0, in the layout's order.
        frame: its number in the story, from 0.
        frames: T.
    """
    rule = _LAYOUTS[layout]
    return f"{rule.below}/{rule.name(story, frame, frames)}".lstrip("/")


def order_of(layout: str) -> Callable[[str], Any] | None:
    """Returns by what a layout sorts story ids; None where it takes stories as they are stored."""
    return _numbers_by_value if _LAYOUTS[layout].sort else None


def stored_test_ids(folder: str | Path, data: DataConfig) -> list[str]:
    """Returns the ids of a data folder's test stories, in the order that it stores them.

    Stories that are set aside count, for another system may have drawn them: all but those of which it cannot be told
    whether they are test stories (lines that are not JSON, or that name neither split nor story).

    Args:
        folder: the data folder.
        data: its layout, and how it is read and split.

    Raises:
        DataError: where the folder cannot be read.
    """
    dataset = open_configured(folder, data)
    entries = list(dataset.stories())
    if any(isinstance(entry, Reject) for entry in entries):
        entries = list(_with_set_aside(dataset, entries))
    stories = [entry for entry in entries if isinstance(entry, Story)]
    return [story.story_id for story in stories if split_of(story, data.test_fraction) == "test"]


def _with_set_aside(dataset: StoryDataset, entries: Sequence[Story | Reject]) -> Iterator[Story | Reject]:
    """Yields stories as they are, and in place of what was set aside its name and split, where they are known."""
    if isinstance(dataset, PublishedReader):
        yield from _published(dataset, entries)
    elif isinstance(dataset, ListReader):
        yield from _in_list(dataset, entries)


def _published(dataset: PublishedReader, entries: Sequence[Story | Reject]) -> Iterator[Story]:
    names = dict.fromkeys(entry.story_id for entry in entries)
    yield from (Story(name, dataset.published_split(name), (), ()) for name in names)


def _in_list(dataset: ListReader[Any], entries: Sequence[Story | Reject]) -> Iterator[Story | Reject]:
    seen = {entry.story_id for entry in entries if isinstance(entry, Story)}
    for entry, raw in zip(entries, dataset.raw_entries(), strict=True):
        split, name = raw.values.get("split"), entry.story_id
        if isinstance(entry, Story):
            yield entry
        elif split in SPLITS or (split is None and raw.values.get("story_id") == name):
            yield Story(f"{name} (line {raw.number})" if name in seen else name, split, (), ())
            seen.add(name)


class ImageFrames:
    """Frames of test stories that another system left as pictures of any size and mode.

    It holds names alone, so that it can travel to workers.

    Args:
        folder: the pictures.
        layout: one of `LAYOUTS`; `auto` is told from the pictures' names.
        story_ids: all test stories as stored (`stored_test_ids`).
        frames: T.
        skip_first_frame: whether the system was given the first frame, as in story continuation, and T-1 are there.
        given: what the system drew from: `text`, or `text and gold labels`.

    Attributes:
        layout: the layout, `auto` resolved.
        given: as given.

    Raises:
        DataError: where the folder is missing, its layout is unknown, or it does not hold exactly the stories' frames.
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
        self.layout = _recognised(place) if layout == "auto" else layout
        self.given = given
        rule = _LAYOUTS[self.layout]
        self._root = rule.root(place).resolve()
        self._frames = frames - skip_first_frame
        self._positions = {name: position for position, name in enumerate(rule.ordered(story_ids))}
        self._first = self._checked(place, rule, skip_first_frame)

    def read(self, story_ids: Sequence[str]) -> np.ndarray:
        """Returns stories' frames, squeezed to 64x64 as the data's own frames are.

        Args:
            story_ids: in the order asked.

        Returns:
            uint8 `[stories, T, 64, 64, 3]`; T-1 where the first frame is skipped.

        Raises:
            DataError: for a story that is none of the test stories, or a picture that cannot be read.
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
                f"story {story_id!r}: is none of the {len(self._positions)} test stories that the images were matched "
                f"with{known}. Give the data folder whose stories the other system drew."
            )
        return self._names(position, self._first)

    def _names(self, position: int, first: int) -> list[str]:
        name = _LAYOUTS[self.layout].name
        return [name(position, first + frame, self._frames) for frame in range(self._frames)]

    def _checked(self, folder: Path, rule: _Layout, skip_first_frame: bool) -> int:
        """Returns the number of the first frame, if exactly the frames that must be there are."""
        found = rule.found(folder)
        firsts = rule.firsts if skip_first_frame else (0,)
        expected = {first: [self._names(place, first) for place in range(len(self._positions))] for first in firsts}
        wrong = {first: set().union(*names) ^ found for first, names in expected.items()}
        first = min(firsts, key=lambda first: len(wrong[first]))
        if not wrong[first]:
            return first
        names = [name for story in expected[first] for name in story]
        missing = [name for name in names if name in wrong[first]]
        superfluous = sorted(wrong[first] & found, key=_numbers_by_value)
        raise DataError(
            f"images {folder}: layout {self.layout}: found {len(found)} frames ({rule.like}), expected {len(names)}: "
            f"{self._frames} of each of {len(self._positions)} test stories. {_some('Missing', missing)}"
            f"{_some('Superfluous', superfluous)}{self._advice(len(found), rule, skip_first_frame)}"
        )

    def _advice(self, found: int, rule: _Layout, skip_first_frame: bool) -> str:
        other = self._frames + (1 if skip_first_frame else -1)
        if found and found == other * len(self._positions):
            option = "without" if skip_first_frame else "with"
            return f"It holds {other} frames a story: as many as are expected {option} --skip-first-frame."
        dropped = ", also those of a last batch that is not full (`drop_last`)" if rule.drops_last else ""
        return f"Draw all test stories of this data folder{dropped}."


def write_images(
    folder: str | Path,
    layout: str,
    story_ids: Sequence[str],
    frames_of: Callable[[str], np.ndarray],
    skip_first_frame: bool = False,
) -> None:
    """Writes stories' frames as PNG in one of the layouts: beside the folder's place, which is taken when all is there.

    Args:
        folder: to be made; it may be there if it is empty.
        layout: one of `LAYOUTS` but `auto`.
        story_ids: all test stories as stored.
        frames_of: gives a story's T frames, uint8 `[T, h, w, 3]`; called once a story, in the layout's order.
        skip_first_frame: whether to leave out the first frame of each, as story continuation does.

    Raises:
        DataError: for an unknown layout, a folder that holds something, stories of unlike length, or a full disk.
    """
    target = Path(folder)
    _check_request(layout, tuple(_LAYOUTS), story_ids)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(f"images {target}: found something there already; expected a folder to be made. Give another.")
    aside = target.with_name(f".{target.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        aside.mkdir(parents=True)
        _write_stories(aside / _LAYOUTS[layout].below, _LAYOUTS[layout], story_ids, frames_of, int(skip_first_frame))
        aside.replace(target)
    except OSError as error:
        raise unwritable_error(target, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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


def _recognised(folder: Path) -> str:
    names = [name for name, rule in _LAYOUTS.items() if rule.found(folder)]
    if len(names) == 1:
        return names[0]
    looked_for = f"expected the frames of one layout: {_expected_names('auto')}"
    if not names:
        raise DataError(f"images {folder}: found {_contents(folder)}; {looked_for}.")
    raise DataError(f"images {folder}: found frames of {' and '.join(names)}; {looked_for}. Name it: --images-layout.")


def _expected_names(layout: str) -> str:
    return " or ".join(f"{rule.like} ({name})" for name, rule in _LAYOUTS.items() if layout in ("auto", name))


def _contents(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return _listed(names) or "nothing in it"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join([*names[:_NAMED], *([f"and {more} more"] if more > 0 else [])])


def _some(what: str, names: Sequence[str]) -> str:
    return f"{what}: {_listed(names)}. " if names else ""


def _load(path: Path) -> np.ndarray:
    try:
        return load_frame(path)
    except BadFrameError as error:
        raise DataError(f"images {path}: found {error.reason}, expected a picture; draw this frame again.") from error
