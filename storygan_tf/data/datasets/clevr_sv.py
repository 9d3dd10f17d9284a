"""Reader of CLEVR-SV's public layout: `CLEVR_dict.npy` and `images/CLEVR_new_<story>_<frame>.png`.

The set has no sentences; they are written from its vectors (`storygan_tf.data.blocks.sentences`), and so are labels and
objects. Vectors without pictures and pictures without vectors, of which the public sample has some, are set aside.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from storygan_tf.common.errors import DataError
from storygan_tf.data.blocks import clevr
from storygan_tf.data.blocks.clevr import SceneObject
from storygan_tf.data.blocks.sentences import story_sentences
from storygan_tf.data.datasets.reader import BadValueError, PublishedReader, check_sentence, is_rendered, resolve_inside
from storygan_tf.data.datasets.restricted_unpickler import load_dict
from storygan_tf.data.datasets.story import Reject, Story

DICT_FILE = "CLEVR_dict.npy"
IMAGES = "images"
FIRST_TEST_STORY = 10_000
"""Stories 0 to 9,999 are for training, those from here on for testing."""

PUBLISHED = {"train": 10_000, "test": 3_000}
"""Stories of the published set."""

_NAME = re.compile(r"CLEVR_new_(\d{6})_([1-4])\.png")


def story_name(index: int) -> str:
    """Returns the name of story `index`."""
    return f"CLEVR_new_{index:06d}"


def image_name(index: int, frame: int) -> str:
    """Returns the file name of frame `frame`, from 1, of story `index`."""
    return f"{story_name(index)}_{frame}.png"


def split_name(index: int) -> str:
    """Returns the published split of story `index`."""
    return "train" if index < FIRST_TEST_STORY else "test"


class ClevrSV(PublishedReader):
    """Reader of a folder in CLEVR-SV's public layout.

    Args:
        folder: the folder with `CLEVR_dict.npy`.
        max_sentence_length: characters a sentence may have.
    """

    format = "clevr-sv"
    label_names: tuple[str, ...] | None = clevr.LABELS

    @property
    def published(self) -> Mapping[str, int] | None:
        """Stories of the published set by split; None for rendered ones, which have its layout alone."""
        return None if is_rendered(self.folder) else PUBLISHED

    def split_named(self, story_id: str) -> str:
        """Returns the published split of a story."""
        return split_name(int(story_id.rpartition("_")[2]))

    def owns(self, path: PurePath) -> bool:
        """Tells whether a file is `CLEVR_dict.npy` or a picture; masks, as CP-CSV lays beside them, are none."""
        picture = str(path.parent) == IMAGES and _NAME.fullmatch(path.name) is not None
        return picture or str(path) == DICT_FILE or super().owns(path)

    def stories(self) -> Iterator[Story | Reject]:
        """Yields a story or a reject for each number that has a vector or a picture, in their order.

        Raises:
            DataError: where `CLEVR_dict.npy` is damaged, or names code to run.
        """
        vectors, images = self._vectors, self._images
        for index in sorted({*vectors, *images}):
            reason, file = self._gap(vectors.get(index, {}), images.get(index, set()), index)
            yield Reject(story_name(index), file, reason) if reason else self._story(index, vectors[index])

    @functools.cached_property
    def _vectors(self) -> dict[int, dict[int, Any]]:
        """The vectors by story and frame."""
        found: defaultdict[int, dict[int, Any]] = defaultdict(dict)
        for key, vector in load_dict(self.folder / DICT_FILE).items():
            name = key.decode("latin1") if isinstance(key, bytes) else str(key)
            match = _NAME.fullmatch(name.rpartition("/")[2])
            if match:
                found[int(match[1])][int(match[2])] = vector
        if not found:
            raise DataError(f"{self.folder / DICT_FILE}: no entry is called like {image_name(0, 1)!r}.")
        return found

    @functools.cached_property
    def _images(self) -> dict[int, set[int]]:
        """The frames of which there are pictures, by story."""
        found: defaultdict[int, set[int]] = defaultdict(set)
        folder = self.folder / IMAGES
        for path in folder.iterdir() if folder.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            if match:
                found[int(match[1])].add(int(match[2]))
        return found

    def _gap(self, vectors: dict[int, Any], images: set[int], index: int) -> tuple[str, str]:
        """Returns what a story lacks and the file at fault, both empty where it lacks nothing."""
        if not vectors:
            return f"images without entries in {DICT_FILE}", f"{IMAGES}/{image_name(index, min(images))}"
        if missing := {*range(1, max(vectors) + 1)} - {*vectors}:
            return f"frames without entries in {DICT_FILE}", f"{IMAGES}/{image_name(index, min(missing))}"
        if missing := {*vectors} - images:
            return "missing image", f"{IMAGES}/{image_name(index, min(missing))}"
        return "", ""

    def _story(self, index: int, vectors: dict[int, Any]) -> Story | Reject:
        name = story_name(index)
        frames = []
        for frame in sorted(vectors):
            try:
                frames.append(self._objects(vectors[frame], frame))
            except ValueError as error:
                return Reject(name, f"{DICT_FILE}: {image_name(index, frame)}", str(error))
        sentences = story_sentences(frames[-1], index)
        try:
            for sentence in sentences:
                check_sentence(sentence, self._max_sentence_length)
            names = (f"{IMAGES}/{image_name(index, frame)}" for frame in sorted(vectors))
            paths = tuple(resolve_inside(self._root, path) for path in names)
        except BadValueError as error:
            return Reject(name, error.file or DICT_FILE, error.reason)
        return Story(
            story_id=name,
            split=split_name(index),
            sentences=sentences,
            images=paths,
            labels=tuple(map(clevr.labels_of, frames)),
            objects=tuple(tuple(map(clevr.describe, items)) for items in frames),
            listed=DICT_FILE,
        )

    @staticmethod
    def _objects(vector: Any, frame: int) -> tuple[SceneObject, ...]:
        items = clevr.from_vector(vector)
        if len(items) != frame:
            raise ValueError("a frame's vector holds another number of objects than the frame shows")
        return items
