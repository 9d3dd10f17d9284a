"""Pictures that are parts of files: which part is chosen, what is read, and what is refused."""

from __future__ import annotations

import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from storygan_tf.data.datasets import Story, load_frames
from storygan_tf.data.datasets.image_sources import (
    ClipFrame,
    StripFrame,
    choice_from_bits,
    export_picture,
    picture_size,
    picture_source,
    seeded_bits,
    source_digest,
)
from storygan_tf.data.datasets.story import BadFrameError, load_frame

FIRST, LAST = 0, 2**64 - 1
"""Random bits that choose the first and the last frame, however many there are."""


def write_strip(path, squares=3, side=8, rest=0, mode="RGB"):
    pixels = np.zeros([squares * side + rest, side, 3], np.uint8)
    pixels[..., 1] = np.arange(len(pixels))[:, None] // side * 50
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def write_clip(path, shape=(3, 6, 8, 3), kind=np.uint8, **options):
    frames = np.zeros(shape, kind)
    if frames.ndim:
        frames[...] = (50 * np.arange(len(frames))).reshape([-1] + [1] * (frames.ndim - 1))
    np.save(path, frames, **options)
    return path


def write_hole(path, shape):
    """Writes a clip of zeros as a sparse file, which takes no space on the disk."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + int(np.prod(shape, dtype=np.int64)))
    return path


def reason_of(picture):
    with pytest.raises(BadFrameError) as caught:
        load_frame(picture)
    assert caught.value.file == picture.file
    assert str(picture.file) in str(caught.value)
    return caught.value.reason


def test_a_draw_depends_on_seed_and_names_alone():
    # A golden value: if it changes, every user gets other frames.
    assert seeded_bits(0, "frame", "pororo_00000", "a/b/1.png") == 0xD52FAB797617A640
    assert len({seeded_bits(seed, *names) for seed in (0, 1) for names in (("a", "b"), ("ab",), ("b", "a"))}) == 6


def test_each_frame_is_as_likely():
    counts = np.bincount([choice_from_bits(seeded_bits(7, str(number)), 5) for number in range(5000)], minlength=5)
    assert counts.sum() == 5000
    assert counts.min() > 900
    assert (choice_from_bits(FIRST, 3), choice_from_bits(LAST, 3), choice_from_bits(LAST, 1)) == (0, 2, 0)


@pytest.mark.parametrize("rest", [0, 1, 7])
def test_a_square_of_a_strip_is_cut_out(tmp_path, rest):
    strip = write_strip(tmp_path / "1.png", rest=rest)
    for drawn, square in ((FIRST, 0), (2**63, 1), (LAST, 2)):
        picture = StripFrame(strip, drawn)
        assert picture.frame == square
        assert np.unique(load_frame(picture)[..., 1]).tolist() == [50 * square]
        assert picture_size(picture) == (8, 8)
        assert picture_source(picture, tmp_path) == {"file": "1.png", "frame": square}


def test_a_strip_lower_than_wide_is_refused(tmp_path):
    Image.new("RGB", (9, 8)).save(tmp_path / "1.png")
    assert reason_of(StripFrame(tmp_path / "1.png", 0)).startswith("strip lower than wide, expected square frames")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_a_strip_may_have_any_mode(tmp_path, mode):
    strip = write_strip(tmp_path / "1.png", mode=mode)
    assert load_frame(StripFrame(strip, LAST)).shape == (64, 64, 3)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_frame_of_a_clip_is_read(tmp_path, order):
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    np.save(tmp_path / "a.npy", np.asarray(frames, order=order))
    for drawn, frame in ((FIRST, 0), (LAST, 2)):
        picture = ClipFrame(tmp_path / "a.npy", drawn)
        assert picture.frame == frame
        np.testing.assert_array_equal(load_frame(picture), frames[frame])
        assert picture_size(picture) == (64, 64)


def test_no_more_of_a_clip_is_read_than_its_frame(tmp_path):
    """The clip is a sparse file of 40 GB, more than fits in memory."""
    clip = write_hole(tmp_path / "long.npy", (43_000, 480, 640, 3))
    assert load_frame(ClipFrame(clip, LAST)).max() == 0


@pytest.mark.parametrize(
    ("shape", "kind", "found"),
    [
        ((3, 6, 8), np.uint8, "uint8 [3, 6, 8]"),
        ((3, 6, 8, 4), np.uint8, "uint8 [3, 6, 8, 4]"),
        ((0, 6, 8, 3), np.uint8, "uint8 [0, 6, 8, 3]"),
        ((3, 6, 0, 3), np.uint8, "uint8 [3, 6, 0, 3]"),
        ((3, 6, 8, 3), np.float32, "float32 [3, 6, 8, 3]"),
        ((), np.uint8, "uint8 []"),
    ],
)
def test_a_clip_of_another_shape_or_type_is_refused(tmp_path, shape, kind, found):
    clip = write_clip(tmp_path / "a.npy", shape, kind)
    assert reason_of(ClipFrame(clip, 0)) == f"clip of {found}, expected uint8 [frames, height, width, 3]"


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b[:70], lambda b: b"", lambda b: b"PK\3\4" + b])
def test_a_damaged_clip_is_refused(tmp_path, change):
    clip = write_clip(tmp_path / "a.npy")
    clip.write_bytes(change(clip.read_bytes()))
    assert reason_of(ClipFrame(clip, 0)) == "damaged or truncated clip"


def test_a_clip_of_objects_is_not_unpickled(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "touched"),)

    np.save(tmp_path / "a.npy", np.array([Hostile()], dtype=object), allow_pickle=True)
    assert reason_of(ClipFrame(tmp_path / "a.npy", 0)) == "damaged or truncated clip"
    assert not (tmp_path / "touched").exists()


def test_a_huge_frame_of_a_clip_is_refused(tmp_path):
    clip = write_hole(tmp_path / "a.npy", (1, 1, 64_000_001, 3))
    assert reason_of(ClipFrame(clip, 0)) == "more than 64,000,000 pixels"


@pytest.mark.parametrize("kind", [StripFrame, ClipFrame])
def test_a_file_that_was_removed_is_missing(tmp_path, kind):
    assert reason_of(kind(tmp_path / "none", 0)) == "missing image"


def test_parts_travel_to_workers(tmp_path):
    pictures = (StripFrame(write_strip(tmp_path / "1.png"), LAST), ClipFrame(write_clip(tmp_path / "a.npy"), FIRST))
    story = Story("s", "train", ("a", "b"), pictures)
    copy = pickle.loads(pickle.dumps(story))
    assert copy == story
    assert load_frames(copy) == load_frames(story)
    error = BadFrameError(tmp_path / "a.parquet", "no bytes", "row 3, image 1")
    again = pickle.loads(pickle.dumps(error))
    assert again.as_reject("s", tmp_path) == error.as_reject("s", tmp_path)
    assert error.as_reject("s", tmp_path).file == "a.parquet: row 3, image 1"


def test_an_exported_part_gives_the_same_frame(tmp_path):
    for picture in (
        StripFrame(write_strip(tmp_path / "1.png", rest=3), 2**63),
        ClipFrame(write_clip(tmp_path / "a.npy"), LAST),
    ):
        content, ending = export_picture(picture)
        assert ending == ".png"
        (tmp_path / "out.png").write_bytes(content)
        np.testing.assert_array_equal(load_frame(tmp_path / "out.png"), load_frame(picture))


def test_an_exported_file_keeps_its_bytes_and_gets_its_true_ending(tmp_path):
    Image.new("RGB", (8, 8)).save(buffer := io.BytesIO(), "JPEG")
    (tmp_path / "wrong.png").write_bytes(buffer.getvalue())
    assert export_picture(tmp_path / "wrong.png") == (buffer.getvalue(), ".jpg")


def test_the_same_bytes_are_the_same_picture_whatever_was_drawn(tmp_path):
    strip, other = write_strip(tmp_path / "1.png"), write_strip(tmp_path / "2.png", squares=4)
    (tmp_path / "copy.png").write_bytes(strip.read_bytes())
    assert source_digest(StripFrame(strip, FIRST)) == source_digest(StripFrame(tmp_path / "copy.png", LAST))
    assert source_digest(strip) == source_digest(tmp_path / "copy.png") != source_digest(other)
    clips = [write_clip(tmp_path / name) for name in ("a.npy", "b.npy")]
    assert source_digest(ClipFrame(clips[0], FIRST)) == source_digest(ClipFrame(clips[0], LAST))
    assert source_digest(ClipFrame(clips[0], FIRST)) != source_digest(ClipFrame(clips[1], FIRST))
