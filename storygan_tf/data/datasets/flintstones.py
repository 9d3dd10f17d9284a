"""Reader of FlintstonesSV's public layout (Maharana and Bansal, arXiv:2110.10834).

The clips are by Gupta et al. (arXiv:1804.03608).

| file | what it holds |
|---|---|
| `train-val-test_split.json` | {train, val, test}: the clips of each, such as `s_02_e_21_shot_010826_010900` |
| `flintstones_annotations_v1-0.json` | a list of {globalID, description, characters: [{entityLabel}]} |
| `video_frames_sampled/<clip>.npy` | uint8 `[frames, height, width, 3]`; or in another of `FRAMES_FOLDERS` |
| `following_cache4.pkl` | the four clips that follow each; optional |
| `labels.pkl` | which of `LABELS` each clip shows; optional |

A story is a clip with the four that follow it in the same season and episode, and belongs to its first clip's split.
The splits were drawn clip by clip, so a test story can hold clips for training.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets.image_sources import ClipFrame, seeded_bits
from storygan_tf.data.datasets.reader import BadValueError, PublishedReader, check_sentence, require, resolve_inside
from storygan_tf.data.datasets.restricted_unpickler import load_dict
from storygan_tf.data.datasets.story import SPLITS, Reject, Story
from storygan_tf.data.datasets.story_fields import flagged_labels

SPLIT_FILE = "train-val-test_split.json"
ANNOTATIONS_FILE = "flintstones_annotations_v1-0.json"
FOLLOWING_FILE = "following_cache4.pkl"
LABELS_FILE = "labels.pkl"

FRAMES_FOLDERS = ("video_frames_sampled", "video_frames", "video_frames_sampled_4x")
"""Where clips may lie; the first that is there counts."""

LABELS = ("Wilma", "Fred", "Betty", "Barney", "Dino", "Pebbles", "Mr Slate")
"""The characters, in the order of their flags."""

FOLLOWING = 4
"""Clips that follow a story's first."""

_FILES = {SPLIT_FILE, ANNOTATIONS_FILE, FOLLOWING_FILE, LABELS_FILE}


class FlintstonesSV(PublishedReader):
    """Reader of a folder in FlintstonesSV's public layout.

    Args:
        folder: the folder with `train-val-test_split.json`.
        max_sentence_length: characters a sentence may have.
        frame_seed: of the frames that are drawn.
        drop_leaks: whether to leave out stories for validation and testing that hold clips for training.
    """

    format = "flintstones-sv"
    label_names: tuple[str, ...] | None = LABELS

    def __init__(
        self, folder: Path, max_sentence_length: int = 1000, frame_seed: int = 0, drop_leaks: bool = False
    ) -> None:
        super().__init__(folder, max_sentence_length)
        self._frame_seed = frame_seed
        self._drop_leaks = drop_leaks

    @property
    def notes(self) -> Sequence[str]:
        """How many clips begin no story, and how many stories hold clips of another split."""
        return [*self._note_ends(), *self._note_leaks()]

    def stories(self) -> Iterator[Story | Reject]:
        """Yields the stories of each split, in the order of the split file.

        Raises:
            DataError: where one of the layout's files is missing or damaged, or names code to run.
        """
        seen: set[str] = set()
        for split, clips in self._splits.items():
            for clip in clips:
                if clip not in self._following or (self._drop_leaks and self._leaks(clip, split)):
                    continue
                try:
                    require(clip not in seen, "in the splits more than once", SPLIT_FILE)
                    seen.add(clip)
                    yield self._story(clip, split)
                except BadValueError as error:
                    yield Reject(clip, error.file or FOLLOWING_FILE, error.reason)

    def split_named(self, story_id: str) -> str | None:
        """Returns the split that a story's first clip is in."""
        return self._split_of.get(story_id)

    def owns(self, path: PurePath) -> bool:
        """Tells whether a file is one of the layout's tables or lies among the clips."""
        clip = path.suffix == ".npy" and str(path.parent) in FRAMES_FOLDERS
        return clip or str(path) in _FILES or super().owns(path)

    def _story(self, first: str, split: str) -> Story:
        clips = (first, *self._following[first])
        return Story(
            story_id=first,
            split=split,
            sentences=tuple(map(self._sentence, clips)),
            images=tuple(
                ClipFrame(self._file(clip), seeded_bits(self._frame_seed, "frame", first, clip)) for clip in clips
            ),
            labels=tuple(map(self._shown, clips)),
            listed=SPLIT_FILE,
        )

    def _sentence(self, clip: str) -> str:
        file = f"{ANNOTATIONS_FILE}: {clip}"
        require(clip in self._annotations, f"clip without an entry in {ANNOTATIONS_FILE}", file)
        sentence = self._annotations[clip].get("description")
        require(isinstance(sentence, str), "description is not a text", file)
        check_sentence(str(sentence), self._max_sentence_length, file)
        return str(sentence)

    def _shown(self, clip: str) -> tuple[str, ...]:
        if self._labels is not None:
            return flagged_labels(self._labels.get(clip), LABELS, f"{LABELS_FILE}: {clip}")
        characters = self._annotations[clip].get("characters")
        names = {_character(entry) for entry in characters} if isinstance(characters, list) else {None}
        require(None not in names, "characters are no list of {entityLabel}", f"{ANNOTATIONS_FILE}: {clip}")
        return tuple(label for label in LABELS if label.lower() in names)

    def _file(self, clip: str) -> Path:
        return resolve_inside(self._root, f"{self._frames_folder}/{clip}.npy")

    def _leaks(self, first: str, split: str) -> bool:
        """Tells whether a story that is not for training holds clips that are."""
        return split != "train" and any(self._split_of.get(clip) == "train" for clip in self._following[first])

    def _note_ends(self) -> Iterator[str]:
        clips = [clip for clips in self._splits.values() for clip in clips]
        if ends := sum(clip not in self._following for clip in clips):
            yield f"{ends} of {len(clips)} clips begin no story: fewer than {FOLLOWING} follow them in their episode"

    def _note_leaks(self) -> Iterator[str]:
        for split in ("val", "test"):
            stories = [clip for clip in self._splits[split] if clip in self._following]
            leaks = sum(self._leaks(clip, split) for clip in stories)
            done = "left out" if self._drop_leaks else "data.drop_leaks=true or --drop-leaks leaves them out"
            if leaks:
                yield f"{leaks} of {len(stories)} {split} stories hold clips of the training split: {done}"

    @functools.cached_property
    def _frames_folder(self) -> str:
        for name in FRAMES_FOLDERS:
            if (self.folder / name).is_dir():
                return name
        raise DataError(f"data folder {self.folder}: found no folder of clips, expected {' or '.join(FRAMES_FOLDERS)}.")

    @functools.cached_property
    def _splits(self) -> dict[str, list[str]]:
        path = self._needed(SPLIT_FILE)
        splits = _load_json(path)
        if not isinstance(splits, dict) or not all(_is_texts(splits.get(split)) for split in SPLITS):
            raise DataError(f"{path}: expected an object of three lists of clips: {', '.join(SPLITS)}.")
        return {split: splits[split] for split in SPLITS}

    @functools.cached_property
    def _split_of(self) -> dict[str, str]:
        return {clip: split for split in reversed(SPLITS) for clip in self._splits[split]}

    @functools.cached_property
    def _annotations(self) -> dict[str, dict[str, Any]]:
        path = self._needed(ANNOTATIONS_FILE)
        entries = _load_json(path)
        if not isinstance(entries, list):
            raise DataError(f"{path}: holds a {type(entries).__name__}, expected a list of clips.")
        named = (entry for entry in entries if isinstance(entry, dict))
        return {entry["globalID"]: entry for entry in named if isinstance(entry.get("globalID"), str)}

    @functools.cached_property
    def _labels(self) -> Mapping[Any, Any] | None:
        path = self.folder / LABELS_FILE
        return load_dict(path) if path.is_file() else None

    @functools.cached_property
    def _following(self) -> Mapping[str, Sequence[str]]:
        """The clips that follow those that begin a story."""
        path = self.folder / FOLLOWING_FILE
        if not path.is_file():
            return _built(sorted(self._split_of))
        following = {str(clip): _texts_of(clips) for clip, clips in load_dict(path).items()}
        if not following:
            raise DataError(f"{path}: holds no clip; remove it to have it built from the clips' names.")
        return {clip: clips for clip, clips in following.items() if len(clips) == FOLLOWING}


def _built(clips: Sequence[str]) -> dict[str, Sequence[str]]:
    """Returns the four clips that follow each, of all splits together as in the public file."""
    following = {}
    for place, clip in enumerate(clips):
        next_clips = clips[place + 1 : place + 1 + FOLLOWING]
        if len(next_clips) == FOLLOWING and {_episode(clip)} == {*map(_episode, next_clips)}:
            following[clip] = next_clips
    return following


def _episode(clip: str) -> tuple[str, ...]:
    """Returns season and episode: fields 1 and 3; a name that has no such fields is an episode of its own."""
    fields = clip.split("_")
    return (fields[1], fields[3]) if len(fields) > 3 else (clip,)


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, or not JSON ({type(error).__name__}: {error}). Copy it again.") from error


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _texts_of(values: Any) -> list[str]:
    """Returns the names in a list; whatever else is there becomes a name that no clip has."""
    names = values.tolist() if isinstance(values, np.ndarray) else values
    return list(map(str, names)) if isinstance(names, list | tuple) else []


def _character(entry: Any) -> str | None:
    label = entry.get("entityLabel") if isinstance(entry, dict) else None
    return label.strip().lower() if isinstance(label, str) else None
