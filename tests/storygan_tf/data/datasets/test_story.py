"""Frames of any kind are read, or refused with a reason; a story stays in its split."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from storygan_tf.config.schema import DataConfig
from storygan_tf.data.datasets import Story, load_frames, set_aside, split_of
from storygan_tf.data.datasets.story import BadFrameError, load_frame

RED = (200, 30, 40)


def story(*paths, name="s", split=None):
    return Story(name, split, ("a",) * len(paths), paths)


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_frames_become_png_of_64x64_rgb(tmp_path):
    for name, size in (("a.png", (320, 240)), ("b.jpg", (20, 90))):
        Image.new("RGB", size, RED).save(tmp_path / name)
    frames = load_frames(story(tmp_path / "a.png", tmp_path / "b.jpg"))
    assert [Image.open(io.BytesIO(frame)).mode for frame in frames] == ["RGB", "RGB"]
    assert np.abs(decoded(frames[0]).astype(int) - RED).max() == 0
    assert np.abs(decoded(frames[1]).astype(int) - RED).max() <= 2
    assert decoded(frames[1]).shape == (64, 64, 3)
    assert frames == load_frames(story(tmp_path / "a.png", tmp_path / "b.jpg"))


def test_the_resize_is_pillows_with_antialiasing(tmp_path):
    checks = np.indices((256, 256)).sum(axis=0) % 2 * 255
    Image.fromarray(checks.astype(np.uint8)).save(tmp_path / "checks.png")
    assert np.abs(load_frame(tmp_path / "checks.png").astype(int) - 127)[2:-2, 2:-2].max() <= 2


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1"])
def test_every_mode_is_converted(tmp_path, mode):
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(path)
    assert load_frame(path).min() >= 254


def test_a_palette_with_transparency_is_converted(tmp_path):
    Image.new("P", (8, 8), 3).save(tmp_path / "p.png", transparency=bytes([0, 0, 0, 128]))
    assert load_frame(tmp_path / "p.png").shape == (64, 64, 3)


def test_16_bit_grey_keeps_its_levels(tmp_path):
    Image.fromarray(np.full((8, 8), 32896, np.uint16)).save(tmp_path / "deep.png")
    assert np.unique(load_frame(tmp_path / "deep.png")).tolist() == [128]


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    frame = load_frame(tmp_path / "turned.png")
    assert frame[:30].max() == 0
    assert frame[34:].min() == 255


def damaged(tmp_path, change):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content[: len(content) // 2], "truncated image"),
        (lambda content: b"", "not a picture of a known format"),
        (lambda content: b"hello" * 100, "not a picture of a known format"),
        (lambda content: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture of a known format"),
        (lambda content: content[:60] + bytes(200) + content[260:], "damaged image"),
    ],
)
def test_a_damaged_picture_has_its_reason(tmp_path, change, reason):
    path = damaged(tmp_path, change)
    with pytest.raises(BadFrameError) as caught:
        load_frames(story(path))
    assert reason in caught.value.reason
    assert caught.value.file == path
    assert caught.value.as_reject("s", tmp_path).file == "image.png"


def claim(width, height):
    """Returns a PNG whose header claims a large size, and which contains no pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8001, 8000), (10_000, 10_000), (60_000, 60_000)])
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, size):
    (tmp_path / "huge.png").write_bytes(claim(*size))
    with pytest.raises(BadFrameError, match="more than 64,000,000 pixels"):
        load_frame(tmp_path / "huge.png")


def test_a_picture_that_was_removed_is_missing(tmp_path):
    with pytest.raises(BadFrameError, match="missing image"):
        load_frame(tmp_path / "none.png")


def test_a_storys_own_split_is_used():
    assert split_of(story(split="val"), 1.0) == "val"
    assert split_of(story(split="train"), 1.0) == "train"


def test_without_a_split_a_hash_decides():
    names = [f"story {number}" for number in range(2000)]
    tested = {name for name in names if split_of(story(name=name), 0.1) == "test"}
    assert 150 <= len(tested) <= 250
    assert tested < {name for name in names if split_of(story(name=name), 0.2) == "test"}
    assert split_of(story(name="story 0"), 0.0) == "train"
    assert split_of(story(name="story 0"), 1.0) == "test"


def test_a_seeded_fraction_of_the_training_stories_is_set_aside():
    train = [story(name=f"story {number}") for number in range(210)]
    rest, held_out = set_aside(train, DataConfig())
    assert len(held_out) == 10
    assert sorted([*rest, *held_out], key=train.index) == train
    assert [rest, held_out] == [sorted(part, key=train.index) for part in (rest, held_out)]
    assert set_aside(train[::-1], DataConfig())[1] == held_out[::-1]
    assert set_aside(train, DataConfig(val_seed=1))[1] != held_out
    assert set_aside(train[:19], DataConfig()) == (train[:19], [])
    assert set_aside(train, DataConfig(val_fraction=1.0)) == ([], train)
    assert set_aside([], DataConfig(val_fraction=1.0)) == ([], [])
