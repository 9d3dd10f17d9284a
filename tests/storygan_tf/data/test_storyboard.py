"""Sheets of stories and GIFs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageSequence

from storygan_tf.common.errors import DataError
from storygan_tf.data.storyboard import StoryRow, story_gif, storyboard, storyboard_image

SENTENCES = ("A red square.", "A much longer sentence, which has to be wrapped in order to fit under its frame.", "C.")


def plain(*levels):
    return np.stack([np.full((64, 64, 3), level, np.uint8) for level in levels])


def row(name="s1", sentences=SENTENCES, **frames):
    return StoryRow(name, sentences, frames or {"generated": plain(40, 90, 140), "true": plain(50, 100, 150)})


def levels(image):
    """Returns the grey levels that fill a whole frame of the sheet."""
    values, counts = np.unique(np.asarray(image.convert("L")), return_counts=True)
    return {int(value) for value, count in zip(values, counts, strict=True) if count >= 150 * 150}


def test_every_frame_is_on_the_sheet():
    assert {40, 90, 140, 50, 100, 150} <= levels(storyboard_image([row()]))


def test_the_sheet_grows_with_stories_captions_and_lines():
    one = storyboard_image([row()])
    assert storyboard_image([row(), row("s2")]).height > 1.9 * one.height
    assert storyboard_image([row(true=plain(1, 2, 3))]).height == one.height - 168
    assert storyboard_image([row(sentences=("a", "b", "c"))]).height < one.height
    assert storyboard_image([row(sentences=("a", "b", "c"))]).width == one.width


def test_words_are_wrapped_inside_their_column():
    """A word wider than a frame does not reach into the next one."""
    image = storyboard_image([row(sentences=("w" * 300, "", ""), true=plain(200, 200, 200))])
    assert image.size[0] == storyboard_image([row(true=plain(200, 200, 200))]).size[0]
    below = np.asarray(image.convert("L"))[220:, :]
    columns = np.flatnonzero((below < 128).any(axis=0))
    assert columns.max() < 16 + 60 + 160
    assert columns.size


@pytest.mark.parametrize("text", ["", "Grüße, мир, 世界 🎈", "a\nb\tc", "\u202eturned", "\0", "a" * 5000], ids=range(6))
def test_any_text_can_be_drawn(text):
    assert storyboard_image([row(name=text, sentences=(text, "b", "c"))]).mode == "RGB"


def test_rows_may_differ_in_length_and_there_may_be_none():
    assert storyboard_image([row(), row("s2", ("a",), true=plain(7))]).width == storyboard_image([row()]).width
    assert storyboard_image([]).width > 0
    assert storyboard_image([StoryRow("s", (), {})]).width > 0


def test_the_file_is_a_png_with_the_same_bytes_each_time(tmp_path):
    storyboard([row()], tmp_path / "new" / "a.png")
    storyboard([row()], tmp_path / "b.png")
    assert (tmp_path / "new" / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "b.png") as image:
        assert image.format == "PNG"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_a_gif_holds_every_frame(tmp_path):
    story_gif(plain(0, 100, 200), tmp_path / "story.gif", seconds=0.5)
    with Image.open(tmp_path / "story.gif") as gif:
        frames = [frame.convert("L").getpixel((9, 9)) for frame in ImageSequence.Iterator(gif)]
        assert (gif.size, gif.info["duration"], gif.info["loop"]) == ((256, 256), 500, 0)
    assert frames == [0, 100, 200]


def test_a_gif_of_equal_frames_keeps_its_time(tmp_path):
    story_gif(plain(9, 9, 9), tmp_path / "story.gif", seconds=0.5)
    with Image.open(tmp_path / "story.gif") as gif:
        total = sum(frame.info["duration"] for frame in ImageSequence.Iterator(gif))
    assert total == 1500


def test_frames_of_another_type_are_refused():
    with pytest.raises(ValueError, match=r"frames 'true': found float32 \[1, 64, 64, 3\], expected uint8"):
        row(true=np.zeros((1, 64, 64, 3), np.float32))


def test_an_unwritable_path_is_an_error():
    with pytest.raises(DataError, match=r"/proc/board\.png: could not be written"):
        storyboard([row()], "/proc/board.png")
