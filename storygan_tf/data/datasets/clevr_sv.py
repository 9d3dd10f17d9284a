"""Reader of CLEVR-SV's public layout: `CLEVR_dict.npy` and `images/CLEVR_new_<story>_<frame>.png`.

The data set has no sentences; they are written from its vectors (`storygan_tf.data.blocks.sentences`), as are labels
and objects. Stories with a vector but no picture, or a picture but no vector, are rejected; the public sample has some.
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
"""Number of the first test story; stories 0 to 9,999 are training stories."""

FIRST_VAL_STORY = 900_000
"""Number of the first validation story of a rendered data set; the published one has no validation stories."""

PUBLISHED = {"train": 10_000, "test": 3_000}
"""Number of stories in each split of the published data set."""

_NAME = re.compile(r"CLEVR_new_(\d{6})_([1-4])\.png")


def story_name(index: int) -> str:
    """Returns the name of story `index`."""
    return f"CLEVR_new_{index:06d}"


def image_name(index: int, frame: int) -> str:
    """Returns the file name of a frame of story `index`; `frame` counts from 1."""
    return f"{story_name(index)}_{frame}.png"


def split_name(index: int) -> str:
    """Returns the split of story `index`."""
    if index >= FIRST_VAL_STORY:
        return "val"
    return "train" if index < FIRST_TEST_STORY else "test"


class ClevrSV(PublishedReader):
    """Reader of a folder in CLEVR-SV's public layout.

    Args:
        folder: the folder with `CLEVR_dict.npy`.
        max_sentence_length: largest number of characters in a sentence.
    """

    format = "clevr-sv"
    label_names: tuple[str, ...] | None = clevr.LABELS

    @property
    def published(self) -> Mapping[str, int] | None:
        """Number of stories in each published split; None for rendered stories, which only use the layout."""
        return None if is_rendered(self.folder) else PUBLISHED

    def published_split(self, story_id: str) -> str:
        """Returns the published split of a story."""
        return split_name(int(story_id.rpartition("_")[2]))

    def is_layout_file(self, path: PurePath) -> bool:
        """Returns whether a file is `CLEVR_dict.npy` or a story's picture; the masks in CP-CSV's copy are not."""
        picture = str(path.parent) == IMAGES and _NAME.fullmatch(path.name) is not None
        return picture or str(path) == DICT_FILE or super().is_layout_file(path)

    def stories(self) -> Iterator[Story | Reject]:
        """Yields a story or a reject for each number that has a vector or a picture, in ascending order.

        Raises:
            DataError: if `CLEVR_dict.npy` is damaged, or is a pickle that could run code.
        """
        vectors, images = self._vectors, self._images
        for index in sorted({*vectors, *images}):
            reject = self._incomplete(vectors.get(index, {}), images.get(index, set()), index)
            yield reject or self._story(index, vectors[index])

    @functools.cached_property
    def _vectors(self) -> dict[int, dict[int, Any]]:
        """The vectors by story number and frame number, not checked yet."""
        found: defaultdict[int, dict[int, Any]] = defaultdict(dict)
        for key, vector in load_dict(self.folder / DICT_FILE).items():
            name = key.decode("latin1") if isinstance(key, bytes) else str(key)
            match = _NAME.fullmatch(name.rpartition("/")[2])
            if match:
                found[int(match[1])][int(match[2])] = vector
        if not found:
            raise DataError(f"{self.folder / DICT_FILE}: found no entry with a name like {image_name(0, 1)!r}.")
        return found

    @functools.cached_property
    def _images(self) -> dict[int, set[int]]:
        """The numbers of the frames that have a picture, by story number."""
        found: defaultdict[int, set[int]] = defaultdict(set)
        folder = self.folder / IMAGES
        for path in folder.iterdir() if folder.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            if match:
                found[int(match[1])].add(int(match[2]))
        return found

    def _incomplete(self, vectors: Mapping[int, Any], images: set[int], index: int) -> Reject | None:
        """Returns a reject if a vector or picture of story `index` is missing, else None."""
        if not vectors:
            reason, frame = f"images without entries in {DICT_FILE}", min(images)
        elif missing := {*range(1, max(vectors) + 1), *images} - {*vectors}:
            reason, frame = f"frames without entries in {DICT_FILE}", min(missing)
        elif missing := {*vectors} - images:
            reason, frame = "missing image", min(missing)
        else:
            return None
        return Reject(story_name(index), f"{IMAGES}/{image_name(index, frame)}", reason)

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
            index_file=DICT_FILE,
        )

    @staticmethod
    def _objects(vector: Any, frame: int) -> tuple[SceneObject, ...]:
        """Returns the objects of a frame; raises ValueError if the vector does not hold exactly `frame` objects."""
        items = clevr.from_vector(vector)
        if len(items) != frame:
            raise ValueError("a frame's vector holds another number of objects than the frame shows")
        return items
