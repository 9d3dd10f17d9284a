"""Reader of Pororo-SV's public layout (Li et al., arXiv:1812.02784, from PororoQA by Kim et al., arXiv:1707.00836).

| file | what it holds |
|---|---|
| `<series>/<episode>/<n>.png` | a clip: a vertical strip of square frames |
| `img_cache4.npy`, `following_cache4.npy` | each story's first clip, and the four that follow it |
| `descriptions.npy` | captions of each clip, by its path without `.png` |
| `labels.npy` | which of `LABELS` each clip shows, by its path without `.png` |
| `train_seen_unseen_ids.npy`, `train_test_ids.npy` | splits: positions in `img_cache4.npy` |

For each story, a seed chooses one frame of each clip, and one of its captions if it has several. The dicts were pickled
by Python 2, so names are byte strings; in some copies they are texts such as `b'...'`.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets.clip_reader import FOLLOWING, ClipReader
from storygan_tf.data.datasets.image_sources import StripFrame, choice_from_bits, seeded_bits
from storygan_tf.data.datasets.reader import BadValueError, check_sentence, require, resolve_inside
from storygan_tf.data.datasets.restricted_unpickler import load_dict, load_npy
from storygan_tf.data.datasets.story import SPLITS, Story
from storygan_tf.data.datasets.story_fields import labels_from_flags

IMAGES_FILE = "img_cache4.npy"
FOLLOWING_FILE = "following_cache4.npy"
DESCRIPTIONS_FILE = "descriptions.npy"
LABELS_FILE = "labels.npy"

SPLIT_FILES = {"seen-unseen": "train_seen_unseen_ids.npy", "train-test": "train_test_ids.npy"}
"""Files of the split that published results use, and of an older one."""

PUBLISHED = {"train": 10_191, "val": 2_334, "test": 2_208}
"""Number of stories in the published split `seen-unseen`."""

LABELS = ("Pororo", "Loopy", "Crong", "Eddy", "Poby", "Petty", "Tongtong", "Rody", "Harry")
"""The characters, in the order of their flags."""

_FILES = {IMAGES_FILE, FOLLOWING_FILE, DESCRIPTIONS_FILE, "descriptions.csv", LABELS_FILE, *SPLIT_FILES.values()}
_CLIP = re.compile(r"[^/]+/[^/]+/\d+\.png")
_QUOTED = re.compile(r"""b(['"])(.*)\1""", re.DOTALL)


def story_name(index: int) -> str:
    """Returns the name of the story at a position in `img_cache4.npy`."""
    return f"pororo_{index:05d}"


class PororoSV(ClipReader[int]):
    """Reader of a folder in Pororo-SV's public layout.

    Args:
        folder: the folder with `img_cache4.npy`.
        max_sentence_length: largest number of characters in a sentence.
        frame_seed: seed of the choice of frames and captions.
        split: name of the split in `SPLIT_FILES`.
    """

    format = "pororo-sv"
    index_file = IMAGES_FILE

    def __init__(
        self,
        folder: Path,
        max_sentence_length: int = 1000,
        frame_seed: int = 0,
        split: Literal["seen-unseen", "train-test"] = "seen-unseen",
    ) -> None:
        super().__init__(folder, max_sentence_length, frame_seed)
        self._split_name = split

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The characters' names; None without `labels.npy`."""
        return LABELS if (self.folder / LABELS_FILE).is_file() else None

    @property
    def published(self) -> Mapping[str, int] | None:
        """Number of stories in each part of the published split; None for the older one."""
        return PUBLISHED if self._split_name == "seen-unseen" else None

    @property
    def notes(self) -> Sequence[str]:
        """A note with the number of stories that are in no split, if there are any."""
        listed = {index for indices in self._splits.values() for index in indices}
        left = len({*range(len(self._first_clips))} - listed)
        return [f"{left} stories of {IMAGES_FILE} are in no split of {self._split_file}: left out"] if left else []

    def published_split(self, story_id: str) -> str | None:
        """Returns the split that lists a story, or None."""
        index = int(story_id.rpartition("_")[2])
        return next((split for split, indices in self._splits.items() if index in indices), None)

    def is_layout_file(self, path: PurePath) -> bool:
        """Returns whether a file is one of the layout's tables or has a clip's name."""
        return str(path) in _FILES or _CLIP.fullmatch(path.as_posix()) is not None or super().is_layout_file(path)

    @property
    def _split_file(self) -> str:
        return SPLIT_FILES[self._split_name]

    def _story_id(self, key: int) -> str:
        return story_name(key)

    def _story(self, key: int, split: str) -> Story:
        require(0 <= key < len(self._first_clips), f"no such position in {IMAGES_FILE}", self._split_file)
        following = _names(self._following[key])
        require(len(following) == FOLLOWING, f"{len(following)} clips follow, expected {FOLLOWING}", FOLLOWING_FILE)
        clips = (self._first_clips[key], *following)
        name = story_name(key)
        return Story(
            story_id=name,
            split=split,
            sentences=tuple(self._sentence(name, clip) for clip in clips),
            images=tuple(
                StripFrame(self._resolve(clip), seeded_bits(self._frame_seed, "frame", name, clip)) for clip in clips
            ),
            labels=tuple(self._labels(clip) for clip in clips) if self._flags is not None else None,
            index_file=IMAGES_FILE,
        )

    def _sentence(self, story: str, clip: str) -> str:
        """Returns the caption of a clip that the seed chooses for a story."""
        key = clip.removesuffix(".png")
        file = f"{DESCRIPTIONS_FILE}: {key}"
        require(key in self._descriptions, f"clip without an entry in {DESCRIPTIONS_FILE}", file)
        captions = self._descriptions[key]
        captions = [captions] if isinstance(captions, str | bytes) else captions
        require(isinstance(captions, list | tuple | np.ndarray) and len(captions) > 0, "no list of captions", file)
        caption = captions[choice_from_bits(seeded_bits(self._frame_seed, "caption", story, clip), len(captions))]
        require(isinstance(caption, str | bytes), "caption is not a text", file)
        sentence = _repair_encoding(caption)
        check_sentence(sentence, self._max_sentence_length, file)
        return sentence

    def _labels(self, clip: str) -> tuple[str, ...]:
        return labels_from_flags(self._flags or {}, clip.removesuffix(".png"), LABELS, LABELS_FILE)

    @functools.cached_property
    def _resolve(self) -> Callable[[str], Path]:
        """Returns the path of a clip; cached, because stories overlap and a clip is in up to five of them."""
        return functools.cache(functools.partial(resolve_inside, self._root))

    @functools.cached_property
    def _first_clips(self) -> list[str]:
        """The first clip of each story."""
        path = self._require_file(IMAGES_FILE)
        names = load_npy(path)
        try:
            return _names([names] if isinstance(names, str | bytes) else names)
        except BadValueError as error:
            raise DataError(f"{path}: {error.reason}, expected a list of them.") from error

    @functools.cached_property
    def _following(self) -> Any:
        """For each story the names of the clips after the first, not checked yet."""
        path = self._require_file(FOLLOWING_FILE)
        following = load_npy(path)
        if not isinstance(following, list | tuple | np.ndarray) or len(following) != len(self._first_clips):
            found = len(following) if isinstance(following, list | tuple | np.ndarray) else "no list of"
            raise DataError(
                f"{path}: found {found} stories, expected {len(self._first_clips)} as in {IMAGES_FILE}; take both "
                "files from the same copy of the data set."
            )
        return following

    @functools.cached_property
    def _descriptions(self) -> dict[str, Any]:
        """The captions by clip, without `.png`, not checked yet."""
        return _decode_keys(load_dict(self._require_file(DESCRIPTIONS_FILE)))

    @functools.cached_property
    def _flags(self) -> dict[str, Any] | None:
        """The label flags by clip, without `.png`, not checked yet; None without `labels.npy`."""
        return None if self.label_names is None else _decode_keys(load_dict(self.folder / LABELS_FILE))

    @functools.cached_property
    def _splits(self) -> dict[str, list[int]]:
        path = self._require_file(self._split_file)
        parts = load_npy(path)
        names = {2: ("train", "test"), 3: SPLITS}
        if not isinstance(parts, list | tuple | np.ndarray) or len(parts) not in names:
            raise DataError(f"{path}: expected two lists of positions (train, test) or three (train, val, test).")
        return {split: _positions(part, path) for split, part in zip(names[len(parts)], parts, strict=True)}


def _names(values: Any) -> list[str]:
    """Returns a list of clip names as texts; raises BadValueError if `values` is anything else."""
    names = values.tolist() if isinstance(values, np.ndarray) else values
    valid = isinstance(names, list | tuple) and all(isinstance(name, str | bytes) for name in names)
    require(valid, "clips are not file names")
    return list(map(_decode_name, names))


def _decode_name(name: str | bytes) -> str:
    """Returns a name as text, decoded if it is a byte string or a text such as `b'...'`."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    quoted = _QUOTED.fullmatch(text)
    return quoted[2] if quoted else text


def _decode_keys(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the entries whose key is a name, with the key as text."""
    return {_decode_name(key): value for key, value in values.items() if isinstance(key, str | bytes)}


def _positions(values: Any, path: Path) -> list[int]:
    """Returns a list of positions; raises DataError, naming the file `path`, if `values` is anything else."""
    try:
        positions = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        positions = np.array(np.nan)
    if positions.ndim != 1 or not np.array_equal(positions, np.round(positions)):
        raise DataError(f"{path}: found values that are not whole numbers, expected positions in {IMAGES_FILE}.")
    return list(map(int, positions))


def _repair_encoding(caption: str | bytes) -> str:
    """Returns a caption with its encoding repaired.

    Python 2 left some captions as Latin-1 whose bytes are UTF-8 or Windows-1252.
    """
    text = caption.decode("latin1") if isinstance(caption, bytes) else str(caption)
    for encoding in ("utf-8", "cp1252"):
        with contextlib.suppress(UnicodeError):
            return text.encode("latin1").decode(encoding)
    return text
