"""Pictures of stories: files, and parts of files.

A picture is the path of a file that holds it and nothing else, or a `ImagePart`: a square of a strip, a frame of a
clip, an entry of a table. Either holds names and numbers alone, so that it can travel to workers; nothing is read
before it is asked for.

Which frame of a strip or a clip stands for it is drawn once and for all: `seeded_bits` depends on a seed and on
names, never on an order or on what was drawn before.
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
"""A picture that claims to be larger is refused before any of it is decoded."""

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What Pillow may read here. Its readers for documents and the like start other programs."""

TOO_LARGE = f"more than {MAX_PIXELS:,} pixels"

_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}
"""Usual endings of files, where they are not the format's name."""


class UnusablePictureError(Exception):
    """What is wrong with a picture, in words that do not differ from story to story."""


@dataclasses.dataclass(frozen=True)
class ImagePart(abc.ABC):
    """A picture that is part of a file.

    Attributes:
        file: the file.
    """

    file: Path

    @property
    def place(self) -> str:
        """Where in the file, for messages; empty where the file's name says enough."""
        return ""

    @property
    def frame(self) -> int | None:
        """Number of the frame that was drawn, from 0; None where there was nothing to draw."""
        return None

    @abc.abstractmethod
    def opened(self) -> contextlib.AbstractContextManager[Image.Image]:
        """Gives the picture, upright, for as long as the context lasts.

        Raises:
            UnusablePictureError, OSError, and nearly anything from decoders of damaged files.
        """

    @abc.abstractmethod
    def exported(self) -> tuple[bytes, str]:
        """Returns the picture as a file of its own, without any loss: its content and its ending."""

    def identity(self) -> bytes:
        """Returns a digest that two pictures share when they come from the same bytes."""
        return digest(self.file.read_bytes())


Picture: TypeAlias = Path | ImagePart


@dataclasses.dataclass(frozen=True)
class StripFrame(ImagePart):
    """One square of a vertical strip of squares; what is left below the last whole one is no frame.

    Attributes:
        draw: 64 random bits that choose the square.
    """

    draw: int

    @property
    def frame(self) -> int:
        """Number of the square, from 0 at the top."""
        with _checked(self.file) as strip:
            return self._chosen(strip)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Image.Image]:
        """Gives the square."""
        with _checked(self.file) as strip:
            top = self._chosen(strip) * strip.width
            yield strip.crop((0, top, strip.width, top + strip.width))

    def exported(self) -> tuple[bytes, str]:
        """Returns the square as PNG."""
        with self.opened() as image:
            return to_png(to_rgb(image)), ".png"

    def _chosen(self, strip: Image.Image) -> int:
        squares = strip.height // max(strip.width, 1)
        if not squares:
            raise UnusablePictureError("strip lower than wide, expected square frames one below the other")
        return choice_from_bits(self.draw, squares)


@dataclasses.dataclass(frozen=True)
class ClipFrame(ImagePart):
    """One frame of a clip: a `.npy` file, uint8 `[frames, height, width, 3]`, of which no more than it needs is read.

    Attributes:
        draw: 64 random bits that choose the frame.
    """

    draw: int

    @property
    def frame(self) -> int:
        """Number of the frame, from 0."""
        return choice_from_bits(self.draw, len(self._clip()))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Image.Image]:
        """Gives the frame."""
        clip = self._clip()
        yield Image.fromarray(np.array(clip[choice_from_bits(self.draw, len(clip))]))

    def exported(self) -> tuple[bytes, str]:
        """Returns the frame as PNG."""
        with self.opened() as image:
            return to_png(image), ".png"

    def identity(self) -> bytes:
        """Returns a digest of the clip's file name: clips are too long to be read for this."""
        return digest(self.file.name.encode(errors="surrogateescape"))

    def _clip(self) -> np.ndarray:
        try:
            clip = np.lib.format.open_memmap(self.file, mode="r")
        except OSError:
            raise
        # A damaged header raises nearly anything: it is parsed as Python.
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
    """Returns 64 random bits that depend on a seed and names alone."""
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def choice_from_bits(drawn: int, count: int) -> int:
    """Returns a number from 0 to `count - 1`, all as likely, from what `seeded_bits` gave."""
    return drawn * count >> 64


def file_of(picture: Picture) -> Path:
    """Returns the file that a picture lies in."""
    return picture.file if isinstance(picture, ImagePart) else picture


@contextlib.contextmanager
def open_picture(picture: Picture) -> Iterator[Image.Image]:
    """Gives a picture, turned as its EXIF data says.

    Raises:
        UnusablePictureError, OSError, and nearly anything from decoders of damaged files.
    """
    with picture.opened() if isinstance(picture, ImagePart) else open_image(picture) as image:
        yield image


@contextlib.contextmanager
def open_image(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Gives the picture that a file holds, turned as its EXIF data says; raises as `open_picture`."""
    with _checked(source) as image:
        yield ImageOps.exif_transpose(image)


@contextlib.contextmanager
def _checked(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Gives a picture that is not decoded yet, if it is none too large."""
    try:
        image = Image.open(source, formats=IMAGE_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusablePictureError(TOO_LARGE) from None
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise UnusablePictureError(TOO_LARGE)
        yield image


def size_of(picture: Picture) -> tuple[int, int]:
    """Returns a picture's width and height, as its file gives them."""
    if isinstance(picture, ImagePart):
        with picture.opened() as image:
            return image.size
    with Image.open(picture, formats=IMAGE_FORMATS) as image:
        return image.size


def identity_of(picture: Picture) -> bytes:
    """Returns a digest that two pictures share when they come from the same bytes.

    Of a square of a strip the whole strip counts, of a frame of a clip the clip's name.
    """
    return picture.identity() if isinstance(picture, ImagePart) else digest(picture.read_bytes())


def export_picture(picture: Picture) -> tuple[bytes, str]:
    """Returns a picture as a file of its own, without any loss: its content and its ending."""
    return picture.exported() if isinstance(picture, ImagePart) else as_file(picture.read_bytes())


def as_file(content: bytes) -> tuple[bytes, str]:
    """Returns a picture file's content, and the ending that its format has."""
    with _checked(io.BytesIO(content)) as image:
        kind = image.format or ""
        return content, _ENDINGS.get(kind, f".{kind.lower()}")


def picture_source(picture: Picture, folder: Path) -> dict[str, Any]:
    """Returns where a picture came from: {file: relative to the folder, frame: as drawn, or None}."""
    file, root = file_of(picture), folder.resolve()
    name = file.relative_to(root) if file.is_relative_to(root) else file
    return {"file": name.as_posix(), "frame": picture.frame if isinstance(picture, ImagePart) else None}


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns a picture as RGB: 16-bit grey scaled to 8, any transparency dropped."""
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


def to_png(image: Image.Image) -> bytes:
    """Returns a picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def digest(content: bytes) -> bytes:
    """Returns 16 bytes that stand for a content."""
    return hashlib.blake2b(content, digest_size=16).digest()
