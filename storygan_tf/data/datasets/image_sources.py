"""Pictures of stories: whole files, and parts of files.

A picture is either the path of a file that holds nothing else, or an `ImagePart`: a square of a strip, a frame of a
clip, an entry of a table. Both hold only names and numbers, so they can be sent to Beam workers. The file is read when
the picture is opened, not before.

One frame of a strip or a clip represents it. The choice (`seeded_bits`) depends only on a seed and on names, not on the
order of the stories or on other choices, so it is the same in every run.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 64_000_000
"""A picture whose header claims more pixels is refused before it is decoded."""

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""The formats that Pillow may read. Its readers for other formats, such as EPS, start other programs."""

TOO_LARGE = f"more than {MAX_PIXELS:,} pixels"

_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}
"""Usual file endings of formats whose ending is not the format's name."""


class UnusablePictureError(Exception):
    """A picture cannot be used. The message is the reason; it contains no names, so that equal reasons can be counted.

    `storygan_tf.data.datasets.story.as_bad_frame_error` adds the file's name.
    """


@dataclasses.dataclass(frozen=True)
class ImagePart(abc.ABC):
    """A picture that is part of a file.

    Attributes:
        file: the file.
    """

    file: Path

    @property
    def location(self) -> str:
        """Where the picture is in the file, for error messages; empty if the file's name is enough."""
        return ""

    @property
    def frame(self) -> int | None:
        """Number of the chosen frame, from 0; None if the file has no frames to choose from."""
        return None

    @abc.abstractmethod
    def open(self) -> contextlib.AbstractContextManager[Image.Image]:
        """Returns a context manager that gives the picture, upright.

        Raises:
            UnusablePictureError: if the picture cannot be used.
            Exception: nearly any other, including OSError, from the decoder of a damaged file.
        """

    @abc.abstractmethod
    def export(self) -> tuple[bytes, str]:
        """Returns the picture as a file of its own, without loss: the file's content and its ending."""

    def source_digest(self) -> bytes:
        """Returns a digest of the whole file, so that parts of equal files have equal digests."""
        return digest(self.file.read_bytes())


Picture: TypeAlias = Path | ImagePart


@dataclasses.dataclass(frozen=True)
class _ChosenFrame(ImagePart):
    """One frame of a file that holds several.

    Attributes:
        draw: 64 random bits that choose the frame.
    """

    draw: int

    def export(self) -> tuple[bytes, str]:
        """Returns the frame as PNG."""
        with self.open() as image:
            return to_png(to_rgb(image)), ".png"


@dataclasses.dataclass(frozen=True)
class StripFrame(_ChosenFrame):
    """One square of a vertical strip of squares.

    Pixels below the last whole square belong to no frame.

    Attributes:
        file: the picture file that holds the strip.
        draw: 64 random bits that choose the square.
    """

    @property
    def frame(self) -> int:
        """Number of the chosen square, from 0 at the top."""
        with _open_checked(self.file) as strip:
            return self._chosen_square(strip)

    @contextlib.contextmanager
    def open(self) -> Iterator[Image.Image]:
        """Gives the chosen square."""
        with _open_checked(self.file) as strip:
            top = self._chosen_square(strip) * strip.width
            yield strip.crop((0, top, strip.width, top + strip.width))

    def _chosen_square(self, strip: Image.Image) -> int:
        squares = strip.height // max(strip.width, 1)
        if not squares:
            raise UnusablePictureError("strip lower than wide, expected square frames one below the other")
        return choice_from_bits(self.draw, squares)


@dataclasses.dataclass(frozen=True)
class ClipFrame(_ChosenFrame):
    """One frame of a clip: a `.npy` file, uint8 `[frames, height, width, 3]`.

    The file is mapped into memory, so that only the chosen frame is read.

    Attributes:
        file: the `.npy` file.
        draw: 64 random bits that choose the frame.
    """

    @property
    def frame(self) -> int:
        """Number of the chosen frame, from 0."""
        return choice_from_bits(self.draw, len(self._map_clip()))

    @contextlib.contextmanager
    def open(self) -> Iterator[Image.Image]:
        """Gives the chosen frame."""
        clip = self._map_clip()
        yield Image.fromarray(np.array(clip[choice_from_bits(self.draw, len(clip))]))

    def source_digest(self) -> bytes:
        """Returns a digest of the clip's file name: reading whole clips would take too long."""
        return digest(self.file.name.encode(errors="surrogateescape"))

    def _map_clip(self) -> np.ndarray:
        """Returns the clip, uint8 `[frames, height, width, 3]`, mapped into memory."""
        try:
            clip = np.lib.format.open_memmap(self.file, mode="r")
        except OSError:
            raise
        # A damaged header can raise nearly any exception, because numpy parses it as Python.
        except Exception as error:
            raise UnusablePictureError("damaged or truncated clip") from error
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3 or 0 in clip.shape:
            raise UnusablePictureError(
                f"clip of {clip.dtype} {list(clip.shape)}, expected uint8 [frames, height, width, 3]"
            )
        if clip.shape[1] * clip.shape[2] > MAX_PIXELS:
            raise UnusablePictureError(TOO_LARGE)
        return clip


def seeded_bits(seed: int, *names: str) -> int:
    """Returns 64 random bits that depend only on `seed` and `names`."""
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def choice_from_bits(bits: int, count: int) -> int:
    """Returns a number from 0 to `count - 1`, each equally likely, chosen by the 64 bits from `seeded_bits`."""
    return bits * count >> 64


def picture_file(picture: Picture) -> Path:
    """Returns the file that holds a picture."""
    return picture.file if isinstance(picture, ImagePart) else picture


@contextlib.contextmanager
def open_picture(picture: Picture) -> Iterator[Image.Image]:
    """Opens a picture, rotated as its EXIF data says.

    Raises:
        UnusablePictureError: if the picture cannot be used.
        Exception: nearly any other, including OSError, from the decoder of a damaged file.
    """
    with picture.open() if isinstance(picture, ImagePart) else open_image(picture) as image:
        yield image


@contextlib.contextmanager
def open_image(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Opens a picture file, rotated as its EXIF data says; raises the same exceptions as `open_picture`."""
    with _open_checked(source) as image:
        yield ImageOps.exif_transpose(image)


@contextlib.contextmanager
def _open_checked(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Opens a picture file without decoding it; raises UnusablePictureError if it is larger than `MAX_PIXELS`."""
    try:
        image = Image.open(source, formats=IMAGE_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusablePictureError(TOO_LARGE) from None
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise UnusablePictureError(TOO_LARGE)
        yield image


def picture_size(picture: Picture) -> tuple[int, int]:
    """Returns a picture's width and height in pixels, before any rotation by its EXIF data."""
    if isinstance(picture, ImagePart):
        with picture.open() as image:
            return image.size
    with Image.open(picture, formats=IMAGE_FORMATS) as image:
        return image.size


def source_digest(picture: Picture) -> bytes:
    """Returns a digest of what a picture was taken from; it is equal for pictures from the same source.

    The source is the whole strip for a square of a strip, and the file name for a frame of a clip.
    """
    return picture.source_digest() if isinstance(picture, ImagePart) else digest(picture.read_bytes())


def export_picture(picture: Picture) -> tuple[bytes, str]:
    """Returns a picture as a file of its own, without loss: the file's content and its ending."""
    return picture.export() if isinstance(picture, ImagePart) else export_file(picture.read_bytes())


def export_file(content: bytes) -> tuple[bytes, str]:
    """Returns the content of a picture file unchanged, together with the usual ending of its format."""
    with _open_checked(io.BytesIO(content)) as image:
        format_name = image.format or ""
        return content, _ENDINGS.get(format_name, f".{format_name.lower()}")


def picture_source(picture: Picture, folder: Path) -> dict[str, Any]:
    """Returns where a picture was taken from.

    Args:
        picture: the picture.
        folder: the data folder.

    Returns:
        {file, frame}: the file's path relative to `folder`, and the number of the chosen frame or None.
    """
    file, root = picture_file(picture), folder.resolve()
    name = file.relative_to(root) if file.is_relative_to(root) else file
    return {"file": name.as_posix(), "frame": picture.frame if isinstance(picture, ImagePart) else None}


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns a picture as RGB: 16-bit grey is scaled to 8 bits, transparency is dropped."""
    if image.mode.startswith(("I", "F")):
        return _from_deep_grey(image).convert("RGB")
    # Pillow warns if a palette with transparency is not converted by way of RGBA.
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey to 8 bits; Pillow's own conversion would clip it."""
    grey = np.asarray(image).astype(np.float64)
    if image.mode == "F" or grey.min() < 0 or grey.max() > 65535:
        raise ValueError("grey levels beyond 16 bits")
    return Image.fromarray(np.round(grey / 257).astype(np.uint8))


def to_png(image: Image.Image) -> bytes:
    """Returns a picture as the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def digest(content: bytes) -> bytes:
    """Returns a BLAKE2b digest of 16 bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()
