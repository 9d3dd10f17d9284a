"""Reader of FlintstonesSV's public layout (Maharana and Bansal, arXiv:2110.10834).

The clips were published by Gupta et al. (arXiv:1804.03608).

| file | what it holds |
|---|---|
| `train-val-test_split.json` | {train, val, test}: the clips of each, such as `s_02_e_21_shot_010826_010900` |
| `flintstones_annotations_v1-0.json` | a list of {globalID, description, characters: [{entityLabel}]} |
| `video_frames_sampled/<clip>.npy` | uint8 `[frames, height, width, 3]`; or in another of `FRAMES_FOLDERS` |
| `following_cache4.pkl` | the four clips that follow each; optional |
| `labels.pkl` | which of `LABELS` each clip shows; optional |

A story is a clip with the four that follow it in the same season and episode, and belongs to its first clip's split.
The published splits were drawn clip by clip, so a test story can contain training clips.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets.clip_reader import FOLLOWING, ClipReader
from storygan_tf.data.datasets.image_sources import ClipFrame, seeded_bits
from storygan_tf.data.datasets.reader import check_sentence, require, resolve_inside
from storygan_tf.data.datasets.restricted_unpickler import load_dict
from storygan_tf.data.datasets.story import SPLITS, Story
from storygan_tf.data.datasets.story_fields import labels_from_flags

SPLIT_FILE = "train-val-test_split.json"
ANNOTATIONS_FILE = "flintstones_annotations_v1-0.json"
FOLLOWING_FILE = "following_cache4.pkl"
LABELS_FILE = "labels.pkl"

FRAMES_FOLDERS = ("video_frames_sampled", "video_frames", "video_frames_sampled_4x")
"""Folders that may contain the clips; the first that exists is used."""

LABELS = ("Wilma", "Fred", "Betty", "Barney", "Dino", "Pebbles", "Mr Slate")
"""The characters, in the order of their flags."""

_FILES = {SPLIT_FILE, ANNOTATIONS_FILE, FOLLOWING_FILE, LABELS_FILE}


class FlintstonesSV(ClipReader[str]):
    """Reader of a folder in FlintstonesSV's public layout.

    Args:
        folder: the folder with `train-val-test_split.json`.
        max_sentence_length: largest number of characters in a sentence.
        frame_seed: seed of the choice of frames.
        drop_leaks: whether to leave out validation and test stories that contain training clips.
    """

    format = "flintstones-sv"
    index_file = FOLLOWING_FILE
    label_names: tuple[str, ...] | None = LABELS
    _split_file = SPLIT_FILE

    def __init__(
        self, folder: Path, max_sentence_length: int = 1000, frame_seed: int = 0, drop_leaks: bool = False
    ) -> None:
        super().__init__(folder, max_sentence_length, frame_seed)
        self._drop_leaks = drop_leaks

    @property
    def notes(self) -> Sequence[str]:
        """Notes with the numbers of clips that begin no story, and of stories that contain training clips."""
        return [*self._notes_on_ends(), *self._notes_on_leaks()]

    def published_split(self, story_id: str) -> str | None:
        """Returns the split of a story's first clip, or None."""
        return self._split_of_clip.get(story_id)

    def is_layout_file(self, path: PurePath) -> bool:
        """Returns whether a file is one of the layout's tables or lies in a folder of clips."""
        clip = path.suffix == ".npy" and str(path.parent) in FRAMES_FOLDERS
        return clip or str(path) in _FILES or super().is_layout_file(path)

    def _begins_story(self, key: str, split: str) -> bool:
        return key in self._following and not (self._drop_leaks and self._leaks(key, split))

    def _story_id(self, key: str) -> str:
        return key

    def _story(self, key: str, split: str) -> Story:
        clips = (key, *self._following[key])
        return Story(
            story_id=key,
            split=split,
            sentences=tuple(map(self._sentence, clips)),
            images=tuple(
                ClipFrame(self._resolve(clip), seeded_bits(self._frame_seed, "frame", key, clip)) for clip in clips
            ),
            labels=tuple(map(self._labels, clips)),
            index_file=SPLIT_FILE,
        )

    def _sentence(self, clip: str) -> str:
        file = f"{ANNOTATIONS_FILE}: {clip}"
        require(clip in self._annotations, f"clip without an entry in {ANNOTATIONS_FILE}", file)
        sentence = self._annotations[clip].get("description")
        require(isinstance(sentence, str), "description is not a text", file)
        check_sentence(str(sentence), self._max_sentence_length, file)
        return str(sentence)

    def _labels(self, clip: str) -> tuple[str, ...]:
        """Returns the labels of a clip, from `labels.pkl` if there is one, else from the annotations."""
        if self._flags is not None:
            return labels_from_flags(self._flags, clip, LABELS, LABELS_FILE)
        characters = self._annotations[clip].get("characters")
        names = {_character(entry) for entry in characters} if isinstance(characters, list) else {None}
        require(None not in names, "characters are no list of {entityLabel}", f"{ANNOTATIONS_FILE}: {clip}")
        return tuple(label for label in LABELS if label.lower() in names)

    def _resolve(self, clip: str) -> Path:
        """Returns the path of a clip."""
        return resolve_inside(self._root, f"{self._frames_folder}/{clip}.npy")

    def _leaks(self, first: str, split: str) -> bool:
        """Returns whether a validation or test story, given by its first clip, contains training clips."""
        return split != "train" and any(self._split_of_clip.get(clip) == "train" for clip in self._following[first])

    def _notes_on_ends(self) -> Iterator[str]:
        clips = [clip for clips in self._splits.values() for clip in clips]
        if ends := sum(clip not in self._following for clip in clips):
            yield f"{ends} of {len(clips)} clips begin no story: fewer than {FOLLOWING} follow them in their episode"

    def _notes_on_leaks(self) -> Iterator[str]:
        for split in ("val", "test"):
            stories = [clip for clip in self._splits[split] if clip in self._following]
            leaks = sum(self._leaks(clip, split) for clip in stories)
            action = "left out" if self._drop_leaks else "data.drop_leaks=true or --drop-leaks leaves them out"
            if leaks:
                yield f"{leaks} of {len(stories)} {split} stories hold clips of the training split: {action}"

    @functools.cached_property
    def _frames_folder(self) -> str:
        """Name of the folder that contains the clips."""
        for name in FRAMES_FOLDERS:
            if (self.folder / name).is_dir():
                return name
        raise DataError(f"data folder {self.folder}: found no folder of clips, expected {' or '.join(FRAMES_FOLDERS)}.")

    @functools.cached_property
    def _splits(self) -> dict[str, list[str]]:
        path = self._require_file(SPLIT_FILE)
        splits = _load_json(path)
        if not isinstance(splits, dict) or not all(_is_texts(splits.get(split)) for split in SPLITS):
            raise DataError(f"{path}: expected an object of three lists of clips: {', '.join(SPLITS)}.")
        return {split: splits[split] for split in SPLITS}

    @functools.cached_property
    def _split_of_clip(self) -> dict[str, str]:
        """The split of each clip; of a clip in several splits, the first in `SPLITS`."""
        return {clip: split for split in reversed(SPLITS) for clip in self._splits[split]}

    @functools.cached_property
    def _annotations(self) -> dict[str, dict[str, Any]]:
        """The annotation of each clip, its fields not checked yet."""
        path = self._require_file(ANNOTATIONS_FILE)
        entries = _load_json(path)
        if not isinstance(entries, list):
            raise DataError(f"{path}: holds a {type(entries).__name__}, expected a list of clips.")
        named = (entry for entry in entries if isinstance(entry, dict))
        return {entry["globalID"]: entry for entry in named if isinstance(entry.get("globalID"), str)}

    @functools.cached_property
    def _flags(self) -> Mapping[Any, Any] | None:
        """The label flags of each clip, not checked yet; None without `labels.pkl`."""
        path = self.folder / LABELS_FILE
        return load_dict(path) if path.is_file() else None

    @functools.cached_property
    def _following(self) -> Mapping[str, Sequence[str]]:
        """For each clip that begins a story, the four clips that follow it."""
        path = self.folder / FOLLOWING_FILE
        if not path.is_file():
            return _following_clips(sorted(self._split_of_clip))
        following = {str(clip): _names(clips) for clip, clips in load_dict(path).items()}
        if not following:
            raise DataError(f"{path}: holds no clip; remove it to have it computed from the clips' names.")
        return {clip: clips for clip, clips in following.items() if len(clips) == FOLLOWING}


def _following_clips(clips: Sequence[str]) -> dict[str, Sequence[str]]:
    """Returns, for each clip that has four more in its episode, these four.

    Args:
        clips: the clips of all splits together, sorted, as in the published file.
    """
    following = {}
    for place, clip in enumerate(clips):
        next_clips = clips[place + 1 : place + 1 + FOLLOWING]
        if len(next_clips) == FOLLOWING and {_episode(clip)} == {*map(_episode, next_clips)}:
            following[clip] = next_clips
    return following


def _episode(clip: str) -> tuple[str, ...]:
    """Returns season and episode, fields 1 and 3 of a clip's name; a name without these fields is its own episode."""
    fields = clip.split("_")
    return (fields[1], fields[3]) if len(fields) > 3 else (clip,)


def _load_json(path: Path) -> Any:
    """Returns the content of a JSON file; raises DataError if it cannot be read or parsed."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, or not JSON ({type(error).__name__}: {error}). Copy it again.") from error


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _names(values: Any) -> list[str]:
    """Returns a list of clip names; entries that are not texts become names that no clip has."""
    names = values.tolist() if isinstance(values, np.ndarray) else values
    return list(map(str, names)) if isinstance(names, list | tuple) else []


def _character(entry: Any) -> str | None:
    """Returns the name of a character in lower case, or None if an entry of `characters` has none."""
    label = entry.get("entityLabel") if isinstance(entry, dict) else None
    return label.strip().lower() if isinstance(label, str) else None
