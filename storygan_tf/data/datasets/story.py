"""A story as the readers give it, and its frames as records hold them."""

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
from storygan_tf.config.schema import IMAGE_SIZE
from storygan_tf.data.datasets.image_sources import (
    ImagePart,
    Picture,
    UnusablePictureError,
    file_of,
    open_picture,
    to_png,
    to_rgb,
)

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Story:
    """A story whose pictures have not been read yet.

    Attributes:
        story_id: its name, unique in the data set.
        split: one of `SPLITS`, or None where the data does not say.
        sentences: T sentences.
        images: T pictures: files, or parts of files (`storygan_tf.data.datasets.image_sources`).
        labels: for each of T frames the names of what it shows, or None.
        objects: for each of T frames {shape, colour, material, size, x, y}, x and y in pixels of the 64x64 frame, or
            None.
        listed: the file that tells of it, relative to the data folder.
    """

    story_id: str
    split: str | None
    sentences: tuple[str, ...]
    images: tuple[Picture, ...]
    labels: tuple[tuple[str, ...], ...] | None = None
    objects: tuple[tuple[dict[str, Any], ...], ...] | None = None
    listed: str = ""


@dataclasses.dataclass(frozen=True, order=True)
class Reject:
    """A story that was set aside.

    Attributes:
        story_id: its name, or where it stands if it has none.
        file: the file at fault, relative to the data folder where it lies in it.
        reason: what is wrong, in words that do not differ from story to story.
    """

    story_id: str
    file: str
    reason: str


class StoryDataset(Protocol):
    """A folder of stories, read through one of the layouts."""

    @property
    def folder(self) -> Path:
        """The folder."""

    @property
    def format(self) -> str:
        """Name of the layout."""

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The labels' names in a fixed order; None without labels."""

    @property
    def published(self) -> Mapping[str, int] | None:
        """Stories that the published set has, by split; None where there is none."""

    @property
    def notes(self) -> Sequence[str]:
        """What is worth knowing of the data set as a whole, a line each."""

    def stories(self) -> Iterator[Story | Reject]:
        """Yields every story, or why it cannot be used. Pictures are looked for, not read."""

    def owns(self, path: PurePath) -> bool:
        """Tells whether a file, relative to the folder, is part of the layout, whether a story uses it or not."""


class BadFrameError(DataError):
    """A picture cannot be used.

    Args:
        file: its path.
        reason: what is wrong with it.
        place: where in the file it is, where that is not all of it.
    """

    def __init__(self, file: Path, reason: str, place: str = "") -> None:
        super().__init__(f"{_placed(str(file), place)}: {reason}.")
        self.file = file
        self.reason = reason
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.reason, self.place)

    def as_reject(self, story_id: str, folder: Path) -> Reject:
        """Returns the story set aside for this, the file relative to the data folder."""
        root = folder.resolve()
        inside = self.file.is_relative_to(root)
        name = str(self.file.relative_to(root) if inside else self.file)
        return Reject(story_id, _placed(name, self.place), self.reason)


def _placed(file: str, place: str) -> str:
    return f"{file}: {place}" if place else file


def split_of(story: Story, test_fraction: float) -> str:
    """Returns a story's own split, or `train` or `test` by a hash of its name.

    Args:
        story: the story.
        test_fraction: of stories without a split that become test stories. A story keeps its split whatever other
            stories there are.
    """
    if story.split is not None:
        return story.split
    digest = hashlib.sha256(story.story_id.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < test_fraction * 2**64 else "train"


def wrong_length_reject(story: Story, frames: int) -> Reject | None:
    """Returns why a story's length does not fit, None where it has `frames` frames."""
    if len(story.images) == frames:
        return None
    return Reject(story.story_id, story.listed, f"{len(story.images)} frames, expected {frames}")


def load_frames(story: Story) -> list[bytes]:
    """Returns the frames of a story as PNG, 64x64 RGB; same pictures, same bytes.

    Raises:
        BadFrameError: where a picture is missing, truncated, not a picture or too large.
    """
    return [to_png(Image.fromarray(load_frame(picture))) for picture in story.images]


def chosen_frame_numbers(story: Story) -> list[int] | None:
    """Returns which frame of its strip or clip each of a story's pictures is, from 0; None where none was drawn.

    Raises:
        BadFrameError: as `load_frames`.
    """
    drawn = []
    for picture in story.images:
        with as_bad_frame_error(picture):
            frame = picture.frame if isinstance(picture, ImagePart) else None
        if frame is None:
            return None
        drawn.append(frame)
    return drawn


def load_frame(picture: Picture) -> np.ndarray:
    """Returns a picture as uint8 `[64, 64, 3]`.

    It is turned as its EXIF data says, any transparency is dropped, and it is squeezed to a square by Pillow's bilinear
    filter with antialiasing.

    Raises:
        BadFrameError: as `load_frames`.
    """
    with as_bad_frame_error(picture), open_picture(picture) as image:
        return np.asarray(to_rgb(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))


@contextlib.contextmanager
def as_bad_frame_error(picture: Picture) -> Iterator[None]:
    """Turns whatever goes wrong with a picture into a `BadFrameError` that names it."""
    try:
        yield
    except (MemoryError, BadFrameError):
        raise
    # Pillow's decoders raise nearly anything for damaged files: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        place = picture.place if isinstance(picture, ImagePart) else ""
        raise BadFrameError(file_of(picture), _why_unreadable(error), place) from error


def _why_unreadable(error: Exception) -> str:
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
