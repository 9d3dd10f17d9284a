"""Draws stories: as a sheet of frames with their sentences (PNG), or as an animation (GIF)."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from storygan_tf.common.atomic_files import write_atomically

FRAME = 160
"""Side of a frame on a sheet, in pixels."""

GIF_SIDE = 256
"""Side of a GIF, in pixels."""

_GAP = 8
_MARGIN = 16
_FONT_SIZE = 13
_LINE = 17
_LONGEST = 60
_INK, _SOFT, _PAPER = (25, 25, 28), (110, 110, 118), (255, 255, 255)


@dataclasses.dataclass(frozen=True)
class StoryRow:
    """A story on a sheet: its id, its sentences, and one or more rows of frames.

    Attributes:
        story_id: title of the story; empty for none.
        sentences: T sentences.
        frames: rows of frames by caption (`generated`, `true`), each uint8 `[T, h, w, 3]`.
    """

    story_id: str
    sentences: tuple[str, ...]
    frames: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        for caption, frames in self.frames.items():
            if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[-1] != 3:
                raise ValueError(
                    f"frames {caption!r}: found {frames.dtype} {list(frames.shape)}, expected uint8 [T, h, w, 3]."
                )


def storyboard(rows: Sequence[StoryRow], path: str | Path) -> None:
    """Writes a sheet of stories as a PNG file.

    Args:
        rows: the stories, from top to bottom.
        path: the file, whose folder is created if needed.

    Raises:
        DataError: if the file cannot be written.
    """
    buffer = io.BytesIO()
    storyboard_image(rows).save(buffer, "PNG")
    write_atomically(Path(path), buffer.getvalue())


def storyboard_image(rows: Sequence[StoryRow]) -> Image.Image:
    """Returns a sheet of stories as an RGB image.

    Each story has its id as a title, a row of frames for each caption, and each sentence under its frame.

    Args:
        rows: the stories, from top to bottom.
    """
    left = _MARGIN + max((_width(_cut(caption)) for row in rows for caption in row.frames), default=0) + _GAP
    columns = max((_columns(row) for row in rows), default=0)
    heights = [_height(row) for row in rows]
    size = left + columns * (FRAME + _GAP) + _MARGIN, sum(heights) + 2 * _MARGIN
    sheet = Image.new("RGB", size, _PAPER)
    top = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        _draw_row(sheet, row, left, top)
        top += height
    return sheet


def story_gif(frames: np.ndarray, path: str | Path, seconds: float = 0.8) -> None:
    """Writes the frames of a story as a GIF file that repeats forever.

    Args:
        frames: uint8 `[T, h, w, 3]`.
        path: the file, whose folder is created if needed.
        seconds: duration of a frame.

    Raises:
        DataError: if the file cannot be written.
    """
    pictures = [_enlarged(frame, GIF_SIDE) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 * seconds), loop=0, optimize=False
    )
    write_atomically(Path(path), buffer.getvalue())


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=_FONT_SIZE)


def _width(text: str) -> int:
    return math.ceil(_font().getlength(text))


def _cut(text: str) -> str:
    """Returns a title or caption on one line, shortened to `_LONGEST` characters."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def _columns(row: StoryRow) -> int:
    """Returns the number of frames or sentences of a story, whichever is greater."""
    return max([len(row.sentences), *(len(frames) for frames in row.frames.values())])


def _wrapped(sentence: str) -> list[str]:
    """Returns a sentence as lines that fit under a frame. A word that is wider than a frame is broken."""
    lines = [""]
    for word in _pieces(sentence):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _width(longer) > FRAME:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _pieces(sentence: str) -> Iterator[str]:
    """Yields the words of a sentence, in pieces that are not wider than a frame."""
    for word in sentence.split():
        piece = ""
        for character in word:
            if piece and _width(piece + character) > FRAME:
                yield piece
                piece = ""
            piece += character
        yield piece


def _height(row: StoryRow) -> int:
    """Returns the height of a story on the sheet in pixels."""
    text = max((len(_wrapped(sentence)) for sentence in row.sentences), default=0)
    return _title_height(row) + len(row.frames) * (FRAME + _GAP) + text * _LINE + 2 * _GAP


def _title_height(row: StoryRow) -> int:
    return _LINE + _GAP // 2 if row.story_id else 0


def _draw_row(sheet: Image.Image, row: StoryRow, left: int, top: int) -> None:
    pen, font = ImageDraw.Draw(sheet), _font()
    if row.story_id:
        pen.text((_MARGIN, top), _cut(row.story_id), _INK, font)
        top += _title_height(row)
    for caption, frames in row.frames.items():
        pen.text((_MARGIN, top + FRAME // 2 - _LINE // 2), _cut(caption), _SOFT, font)
        for column, frame in enumerate(frames):
            sheet.paste(_enlarged(frame, FRAME), (left + column * (FRAME + _GAP), top))
        top += FRAME + _GAP
    for column, sentence in enumerate(row.sentences):
        for number, line in enumerate(_wrapped(sentence)):
            pen.text((left + column * (FRAME + _GAP), top + number * _LINE), line, _INK, font)


def _enlarged(frame: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(frame).resize((side, side), Image.Resampling.LANCZOS)
