"""Reader of Pororo-SV's public layout (Li et al., arXiv:1812.02784, from PororoQA by Kim et al., arXiv:1707.00836).

| file | what it holds |
|---|---|
| `<series>/<episode>/<n>.png` | a clip: a vertical strip of square frames |
| `img_cache4.npy`, `following_cache4.npy` | each story's first clip, and the four that follow it |
| `descriptions.npy` | captions of each clip, by its path without `.png` |
| `labels.npy` | which of `LABELS` each clip shows, likewise |
| `train_seen_unseen_ids.npy`, `train_test_ids.npy` | splits: positions in `img_cache4.npy` |

One frame of a clip, and one of its captions where it has several, is drawn by a seed for each story. The dicts were
pickled by Python 2, names are byte strings, and some copies hold the text `b'...'` instead.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets.image_sources import StripFrame, choice_from_bits, seeded_bits
from storygan_tf.data.datasets.reader import BadValueError, PublishedReader, check_sentence, require, resolve_inside
from storygan_tf.data.datasets.restricted_unpickler import load_dict, load_npy
from storygan_tf.data.datasets.story import SPLITS, Reject, Story
from storygan_tf.data.datasets.story_fields import flagged_labels

IMAGES_FILE = "img_cache4.npy"
FOLLOWING_FILE = "following_cache4.npy"
DESCRIPTIONS_FILE = "descriptions.npy"
LABELS_FILE = "labels.npy"

SPLIT_FILES = {"seen-unseen": "train_seen_unseen_ids.npy", "train-test": "train_test_ids.npy"}
"""The split of the field, and the older one."""

PUBLISHED = {"train": 10_191, "val": 2_334, "test": 2_208}
"""Stories of the split `seen-unseen`."""

LABELS = ("Pororo", "Loopy", "Crong", "Eddy", "Poby", "Petty", "Tongtong", "Rody", "Harry")
"""The characters, in the order of their flags."""

FOLLOWING = 4
"""Clips that follow a story's first."""

_FILES = {IMAGES_FILE, FOLLOWING_FILE, DESCRIPTIONS_FILE, "descriptions.csv", LABELS_FILE, *SPLIT_FILES.values()}
_CLIP = re.compile(r"[^/]+/[^/]+/\d+\.png")
_QUOTED = re.compile(r"""b(['"])(.*)\1""", re.DOTALL)


def story_name(index: int) -> str:
    """Returns the name of the story at a position of `img_cache4.npy`."""
    return f"pororo_{index:05d}"


class PororoSV(PublishedReader):
    """Reader of a folder in Pororo-SV's public layout.

    Args:
        folder: the folder with `img_cache4.npy`.
        max_sentence_length: characters a sentence may have.
        frame_seed: of the frames and captions that are drawn.
        split: which of `SPLIT_FILES` counts.
    """

    format = "pororo-sv"

    def __init__(
        self,
        folder: Path,
        max_sentence_length: int = 1000,
        frame_seed: int = 0,
        split: Literal["seen-unseen", "train-test"] = "seen-unseen",
    ) -> None:
        super().__init__(folder, max_sentence_length)
        self._frame_seed = frame_seed
        self._split_file = SPLIT_FILES[split]
        self._published = PUBLISHED if split == "seen-unseen" else None

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The characters' names; None without `labels.npy`."""
        return LABELS if (self.folder / LABELS_FILE).is_file() else None

    @property
    def published(self) -> Mapping[str, int] | None:
        """Stories of the published split; None for the older one."""
        return self._published

    @property
    def notes(self) -> Sequence[str]:
        """How many stories are in no split."""
        listed = {index for indices in self._splits.values() for index in indices}
        left = len({*range(len(self._firsts))} - listed)
        return [f"{left} stories of {IMAGES_FILE} are in no split of {self._split_file}: left out"] if left else []

    def stories(self) -> Iterator[Story | Reject]:
        """Yields the stories of each split, in the order of the split file.

        Raises:
            DataError: where one of the layout's files is missing or damaged, or names code to run.
        """
        seen: set[int] = set()
        for split, indices in self._splits.items():
            for index in indices:
                try:
                    require(index not in seen, "in the splits more than once", self._split_file)
                    seen.add(index)
                    yield self._story(index, split)
                except BadValueError as error:
                    yield Reject(story_name(index), error.file or IMAGES_FILE, error.reason)

    def split_named(self, story_id: str) -> str | None:
        """Returns the split that a story is in."""
        index = int(story_id.rpartition("_")[2])
        return next((split for split, indices in self._splits.items() if index in indices), None)

    def owns(self, path: PurePath) -> bool:
        """Tells whether a file is one of the layout's tables or named like a clip."""
        return str(path) in _FILES or _CLIP.fullmatch(path.as_posix()) is not None or super().owns(path)

    def _story(self, index: int, split: str) -> Story:
        require(0 <= index < len(self._firsts), f"no such position in {IMAGES_FILE}", self._split_file)
        following = _names(self._following[index])
        require(len(following) == FOLLOWING, f"{len(following)} clips follow, expected {FOLLOWING}", FOLLOWING_FILE)
        clips = (self._firsts[index], *following)
        name = story_name(index)
        return Story(
            story_id=name,
            split=split,
            sentences=tuple(self._sentence(name, clip) for clip in clips),
            images=tuple(
                StripFrame(self._file(clip), seeded_bits(self._frame_seed, "frame", name, clip)) for clip in clips
            ),
            labels=tuple(map(self._shown, clips)) if self._labels is not None else None,
            listed=IMAGES_FILE,
        )

    def _sentence(self, story: str, clip: str) -> str:
        key = clip.removesuffix(".png")
        file = f"{DESCRIPTIONS_FILE}: {key}"
        require(key in self._descriptions, f"clip without an entry in {DESCRIPTIONS_FILE}", file)
        captions = self._descriptions[key]
        captions = [captions] if isinstance(captions, str | bytes) else captions
        require(isinstance(captions, list | tuple | np.ndarray) and len(captions) > 0, "no list of captions", file)
        caption = captions[choice_from_bits(seeded_bits(self._frame_seed, "caption", story, clip), len(captions))]
        require(isinstance(caption, str | bytes), "caption is not a text", file)
        sentence = _repaired(caption)
        check_sentence(sentence, self._max_sentence_length, file)
        return sentence

    def _shown(self, clip: str) -> tuple[str, ...]:
        key = clip.removesuffix(".png")
        return flagged_labels((self._labels or {}).get(key), LABELS, f"{LABELS_FILE}: {key}")

    @functools.cached_property
    def _file(self) -> Callable[[str], Path]:
        # Stories overlap: a clip is in up to five of them.
        return functools.cache(functools.partial(resolve_inside, self._root))

    @functools.cached_property
    def _firsts(self) -> list[str]:
        path = self._needed(IMAGES_FILE)
        names = load_npy(path)
        try:
            return _names([names] if isinstance(names, str | bytes) else names)
        except BadValueError as error:
            raise DataError(f"{path}: {error.reason}, expected a list of them.") from error

    @functools.cached_property
    def _following(self) -> Any:
        path = self._needed(FOLLOWING_FILE)
        following = load_npy(path)
        if not isinstance(following, list | tuple | np.ndarray) or len(following) != len(self._firsts):
            found = len(following) if isinstance(following, list | tuple | np.ndarray) else "no list of"
            raise DataError(
                f"{path}: found {found} stories, expected {len(self._firsts)} as in {IMAGES_FILE}; take both files "
                "from the same copy."
            )
        return following

    @functools.cached_property
    def _descriptions(self) -> dict[str, Any]:
        return _by_name(load_dict(self._needed(DESCRIPTIONS_FILE)))

    @functools.cached_property
    def _labels(self) -> dict[str, Any] | None:
        return None if self.label_names is None else _by_name(load_dict(self.folder / LABELS_FILE))

    @functools.cached_property
    def _splits(self) -> dict[str, list[int]]:
        path = self._needed(self._split_file)
        parts = load_npy(path)
        names = {2: ("train", "test"), 3: SPLITS}
        if not isinstance(parts, list | tuple | np.ndarray) or len(parts) not in names:
            raise DataError(
                f"{path}: expected two or three lists of positions: train, val where there are three, test."
            )
        return {split: _positions(part, path) for split, part in zip(names[len(parts)], parts, strict=True)}


def _names(values: Any) -> list[str]:
    names = values.tolist() if isinstance(values, np.ndarray) else values
    plain = isinstance(names, list | tuple) and all(isinstance(name, str | bytes) for name in names)
    require(plain, "clips are not file names")
    return list(map(_name, names))


def _name(name: str | bytes) -> str:
    """Returns a name that may be a byte string, or the text that Python 3 writes for one."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    quoted = _QUOTED.fullmatch(text)
    return quoted[2] if quoted else text


def _by_name(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {_name(key): value for key, value in values.items() if isinstance(key, str | bytes)}


def _positions(values: Any, path: Path) -> list[int]:
    try:
        positions = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        positions = np.array(np.nan)
    if positions.ndim != 1 or not np.array_equal(positions, np.round(positions)):
        raise DataError(f"{path}: holds what are no whole numbers, expected positions in {IMAGES_FILE}.")
    return list(map(int, positions))


def _repaired(caption: str | bytes) -> str:
    """Returns a caption whose bytes were taken for Latin-1 when they were UTF-8, or Windows's, as what they were."""
    text = caption.decode("latin1") if isinstance(caption, bytes) else str(caption)
    for encoding in ("utf-8", "cp1252"):
        with contextlib.suppress(UnicodeError):
            return text.encode("latin1").decode(encoding)
    return text
