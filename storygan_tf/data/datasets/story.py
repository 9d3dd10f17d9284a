"""`Story`: a story as the readers return it, and the functions that load its frames for the records."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np
from PIL import Image

from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import IMAGE_SIZE, DataConfig
from storygan_tf.data.datasets.image_sources import (
    ImagePart,
    Picture,
    UnusablePictureError,
    open_picture,
    picture_file,
    to_png,
    to_rgb,
)

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Story:
    """A story whose pictures have not been read yet.

    Attributes:
        story_id: the story's name, unique in the data set.
        split: one of `SPLITS`, or None if the data does not say.
        sentences: T sentences.
        images: T pictures: files, or parts of files (`storygan_tf.data.datasets.image_sources`).
        labels: for each of T frames the names of what it shows; None if the data has no labels.
        objects: for each of T frames {shape, colour, material, size, x, y} of every object, x and y in pixels of the
            64x64 frame; None if the data has no objects.
        index_file: the file that lists the story, relative to the data folder; for tables with the row's number.
    """

    story_id: str
    split: str | None
    sentences: tuple[str, ...]
    images: tuple[Picture, ...]
    labels: tuple[tuple[str, ...], ...] | None = None
    objects: tuple[tuple[dict[str, Any], ...], ...] | None = None
    index_file: str = ""


@dataclasses.dataclass(frozen=True, order=True)
class Reject:
    """A story that cannot be used.

    Attributes:
        story_id: the story's name, or its line or row if it has none.
        file: the file at fault; relative to the data folder if it lies in it.
        reason: what is wrong, without names, so that equal reasons can be counted.
    """

    story_id: str
    file: str
    reason: str


class StoryDataset(Protocol):
    """A folder of stories in any layout; `storygan_tf.data.datasets.open_dataset` returns one."""

    @property
    def folder(self) -> Path:
        """The data folder."""

    @property
    def format(self) -> str:
        """Name of the layout."""

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The names of the labels in a fixed order; None without labels."""

    @property
    def published(self) -> Mapping[str, int] | None:
        """Number of stories in each split of the published data set; None if there is no published data set."""

    @property
    def notes(self) -> Sequence[str]:
        """Remarks on the data set as a whole, one line each."""

    def stories(self) -> Iterator[Story | Reject]:
        """Yields every story, or a reject with the reason why it cannot be used.

        Checks that the picture files exist, but does not read them.
        """

    def is_layout_file(self, path: PurePath) -> bool:
        """Returns whether a file belongs to the layout, even if no story uses it.

        Args:
            path: the file's path relative to the folder.
        """


class BadFrameError(DataError):
    """A picture of a story cannot be used.

    Args:
        file: the picture's file.
        reason: what is wrong with it.
        location: where the picture is in the file; empty if it is the whole file.
    """

    def __init__(self, file: Path, reason: str, location: str = "") -> None:
        super().__init__(f"{_with_location(str(file), location)}: {reason}.")
        self.file = file
        self.reason = reason
        self.location = location

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.reason, self.location)

    def as_reject(self, story_id: str, folder: Path) -> Reject:
        """Returns a reject of the picture's story, with the file's path relative to the data folder."""
        root = folder.resolve()
        inside = self.file.is_relative_to(root)
        name = str(self.file.relative_to(root) if inside else self.file)
        return Reject(story_id, _with_location(name, self.location), self.reason)


def _with_location(file: str, location: str) -> str:
    return f"{file}: {location}" if location else file


def split_of(story: Story, test_fraction: float) -> str:
    """Returns the split of a story: its own, or else `train` or `test` by a hash of its name.

    Because of the hash, a story stays in its split when other stories are added or removed.

    Args:
        story: the story.
        test_fraction: part of the stories without a split of their own that become test stories, from 0 to 1.
    """
    if story.split is not None:
        return story.split
    digest = hashlib.sha256(story.story_id.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < test_fraction * 2**64 else "train"


def set_aside(train: Sequence[Story], data: DataConfig) -> tuple[list[Story], list[Story]]:
    """Divides training stories into stories to train on and stories to validate with.

    The stories to validate with are those with the smallest hashes of seed and name, so that most of them stay the same
    when other stories are added or removed.

    Args:
        train: the training stories.
        data: `val_fraction`, rounded down to whole stories, and `val_seed`.

    Returns:
        The stories to train on and those to validate with, each in the order of `train`.
    """
    count = int(data.val_fraction * len(train))
    by_hash = sorted(hashlib.sha256(f"{data.val_seed} {story.story_id}".encode()).digest() for story in train)
    limit = by_hash[count] if count < len(train) else b"\xff" * 33
    parts: tuple[list[Story], list[Story]] = [], []
    for story in train:
        parts[hashlib.sha256(f"{data.val_seed} {story.story_id}".encode()).digest() < limit].append(story)
    return parts


def load_frames(story: Story) -> list[bytes]:
    """Returns the frames of a story as PNG files, 64x64 RGB.

    Equal pictures give equal bytes.

    Raises:
        BadFrameError: if a picture is missing, damaged, too large or of an unknown format.
    """
    return [to_png(Image.fromarray(load_frame(picture))) for picture in story.images]


def chosen_frame_numbers(story: Story) -> list[int] | None:
    """Returns the number, from 0, of the frame that was chosen from the strip or clip of each of a story's pictures.

    Returns None if a picture is not taken from a strip or clip.

    Raises:
        BadFrameError: if a picture is missing, damaged, too large or of an unknown format.
    """
    numbers = []
    for picture in story.images:
        with as_bad_frame_error(picture):
            frame = picture.frame if isinstance(picture, ImagePart) else None
        if frame is None:
            return None
        numbers.append(frame)
    return numbers


def load_frame(picture: Picture) -> np.ndarray:
    """Returns a picture as RGB, uint8 `[64, 64, 3]`.

    The picture is rotated as its EXIF data says, transparency is dropped, and it is resized to a square, whatever its
    aspect ratio, by Pillow's bilinear filter with antialiasing.

    Raises:
        BadFrameError: if the picture is missing, damaged, too large or of an unknown format.
    """
    with as_bad_frame_error(picture), open_picture(picture) as image:
        return np.asarray(to_rgb(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))


@contextlib.contextmanager
def as_bad_frame_error(picture: Picture) -> Iterator[None]:
    """Converts any exception raised while reading `picture`, except MemoryError, to a BadFrameError that names it."""
    try:
        yield
    except (MemoryError, BadFrameError):
        raise
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more for damaged files.
    except Exception as error:
        location = picture.location if isinstance(picture, ImagePart) else ""
        raise BadFrameError(picture_file(picture), _reason(error), location) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnusablePictureError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "missing image"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture of a known format"
    if "truncated" in str(error).lower():
        return "truncated image"
    if isinstance(error, PermissionError):
        return "image may not be read"
    return f"damaged image ({type(error).__name__})"
