"""A story as the readers give it, and its frames as records hold them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from storygan_tf.config import IMAGE_SIZE
from storygan_tf.errors import DataError

SPLITS = ("train", "val", "test")

MAX_PIXELS = 64_000_000
"""A picture that claims to be larger is refused before any of it is decoded."""

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What Pillow may read here. Its readers for documents and the like start other programs."""


@dataclasses.dataclass(frozen=True)
class Story:
    """A story whose pictures have not been read yet.

    Attributes:
        story_id: its name, unique in the data set.
        split: one of `SPLITS`, or None where the data does not say.
        sentences: T sentences.
        images: T files.
        labels: for each of T frames the names of what it shows, or None.
        objects: for each of T frames {shape, colour, material, size, x, y}, x and y in pixels of the 64x64 frame, or
            None.
    """

    story_id: str
    split: str | None
    sentences: tuple[str, ...]
    images: tuple[Path, ...]
    labels: tuple[tuple[str, ...], ...] | None = None
    objects: tuple[tuple[dict[str, Any], ...], ...] | None = None


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

    def stories(self) -> Iterator[Story | Reject]:
        """Yields every story, or why it cannot be used. Pictures are looked for, not read."""


class BadFrameError(DataError):
    """A picture cannot be used.

    Args:
        file: its path.
        reason: what is wrong with it.
    """

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}.")
        self.file = file
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.reason)

    def as_reject(self, story_id: str, folder: Path) -> Reject:
        """Returns the story set aside for this, the file relative to the data folder."""
        root = folder.resolve()
        inside = self.file.is_relative_to(root)
        return Reject(story_id, str(self.file.relative_to(root) if inside else self.file), self.reason)


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


def count_reject(story: Story, frames: int) -> Reject | None:
    """Returns why a story's length does not fit, None where it has `frames` frames."""
    if len(story.images) == frames:
        return None
    return Reject(story.story_id, "", f"{len(story.images)} frames, expected {frames}")


def load_frames(story: Story) -> list[bytes]:
    """Returns the frames of a story as PNG, 64x64 RGB; same pictures, same bytes.

    Raises:
        BadFrameError: where a picture is missing, truncated, not a picture or too large.
    """
    return [_to_png(load_frame(path)) for path in story.images]


def load_frame(path: Path) -> np.ndarray:
    """Returns a picture as uint8 `[64, 64, 3]`.

    It is turned as its EXIF data says, any transparency is dropped, and it is squeezed to a square by Pillow's bilinear
    filter with antialiasing.

    Raises:
        BadFrameError: as `load_frames`.
    """
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadFrameError(path, f"more than {MAX_PIXELS:,} pixels")
            turned = ImageOps.exif_transpose(image)
            return np.asarray(_to_rgb(turned).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))
    except BadFrameError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadFrameError(path, f"more than {MAX_PIXELS:,} pixels") from None
    except FileNotFoundError:
        raise BadFrameError(path, "missing image") from None
    except MemoryError:
        raise
    # Pillow's decoders raise nearly anything for damaged files: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise BadFrameError(path, _why_unreadable(error)) from error


def _why_unreadable(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture of a known format"
    if "truncated" in str(error).lower():
        return "truncated image"
    if isinstance(error, PermissionError):
        return "image may not be read"
    return f"damaged image ({type(error).__name__})"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _from_deep_grey(image).convert("RGB")
    # A palette goes by RGBA, as Pillow asks for where it holds transparency.
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits; Pillow's own conversion would clip it."""
    grey = np.asarray(image).astype(np.float64)
    if image.mode == "F" or grey.min() < 0 or grey.max() > 65535:
        raise ValueError("grey levels beyond 16 bits")
    return Image.fromarray(np.round(grey / 257).astype(np.uint8))


def _to_png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()
