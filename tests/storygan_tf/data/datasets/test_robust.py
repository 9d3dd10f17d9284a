"""Whatever pictures and texts are, a story is accepted or set aside with its name, a file and a reason."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from storygan_tf.data.datasets import Reject, Story, open_dataset
from storygan_tf.data.datasets.convert import convert
from storygan_tf.data.datasets.dataset_report import examine_dataset
from storygan_tf.data.datasets.reader import BadValueError, check_sentence
from storygan_tf.data.datasets.reject_summary import describe_rejects
from storygan_tf.data.datasets.restricted_unpickler import load_dict
from storygan_tf.data.datasets.story import BadFrameError, load_frame

RED = (200, 30, 40)


def saved(image, kind, **options):
    image.save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


def flat(mode="RGB", size=(8, 6)):
    return Image.new("RGB", size, RED).convert(mode)


def rgb_of_16_bits():
    """A PNG of 16 bits a channel, which Pillow does not write."""
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + struct.pack(">HHH", *(257 * level for level in RED)) * 2
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 2)) + chunk(b"IEND", b"")


def with_orientation(orientation):
    """A JPEG whose left half, once turned as it asks, is red."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.new("RGB", (64, 64))
    upright.paste(RED, (0, 0, 32, 64))
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180}[orientation]
    return saved(upright.transpose(back), "JPEG", exif=exif, quality=95)


ACCEPTED = {
    "CMYK JPEG": saved(flat("CMYK"), "JPEG", quality=95),
    "CMYK TIFF": saved(flat("CMYK"), "TIFF"),
    "16-bit colour": rgb_of_16_bits(),
    "palette with transparency": saved(flat().quantize(4), "PNG", transparency=0),
    "palette with levels of transparency": saved(flat().quantize(4), "PNG", transparency=bytes([0, 90, 180, 255])),
    "RGBA": saved(flat("RGBA"), "PNG"),
    "animated GIF": saved(flat(), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 6))] * 3),
    "animated PNG": saved(flat(), "PNG", save_all=True, append_images=[Image.new("RGB", (8, 6))] * 3),
    "animated WebP": saved(flat(), "WEBP", save_all=True, append_images=[Image.new("RGB", (8, 6))] * 3, lossless=True),
    "1x1": saved(flat(size=(1, 1)), "PNG"),
    "1x5000": saved(flat(size=(1, 5000)), "PNG"),
    "BMP": saved(flat(), "BMP"),
    "PPM": saved(flat(), "PPM"),
}


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize("ending", ["png", "jpg", "txt"])
def test_a_picture_is_what_it_holds_whatever_its_ending(tmp_path, name, ending):
    path = tmp_path / f"image.{ending}"
    path.write_bytes(ACCEPTED[name])
    frame = load_frame(path)
    assert (frame.shape, frame.dtype) == ((64, 64, 3), np.uint8)
    # Palettes and JPEG's colours are near, not exact.
    assert np.abs(frame.astype(int) - RED).max() <= 30


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_picture_is_turned_as_it_asks(tmp_path, orientation):
    (tmp_path / "image.jpg").write_bytes(with_orientation(orientation))
    frame = load_frame(tmp_path / "image.jpg").astype(int)
    assert np.abs(frame[:, :28] - RED).max() < 20
    assert frame[:, 36:].max() < 20


REFUSED = {
    "empty": (b"", "not a picture of a known format"),
    "text": (b"<svg></svg>", "not a picture of a known format"),
    "PDF": (b"%PDF-1.4\n%\n", "not a picture of a known format"),
    "half a PNG": (ACCEPTED["1x5000"][:60], "truncated image"),
    "half a JPEG": (ACCEPTED["CMYK JPEG"][:-20], "truncated image"),
    "20000x20000": (saved(Image.new("1", (20_000, 20_000)), "PNG"), "more than 64,000,000 pixels"),
    "9000x9000": (saved(Image.new("1", (9_000, 9_000)), "PNG"), "more than 64,000,000 pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_picture_sets_its_story_aside_with_name_file_and_reason(tmp_path, story_folder, name):
    folder = story_folder(tmp_path / "data", train=2, test=1)
    content, reason = REFUSED[name]
    (folder / "images/s001_3.png").write_bytes(content)
    findings = examine_dataset(open_dataset(folder))
    assert findings.rejects == [Reject("s001", "images/s001_3.png", reason)]
    assert (findings.total, findings.accepted) == (3, 2)


@pytest.fixture
def one_picture(tmp_path, story_folder, clevr_folder, pororo_folder):
    """Makes a folder in some layout with one picture file that holds the given bytes; says whose it is, and where."""

    def make(layout, content):
        folder = tmp_path / "data"
        if layout == "parquet":
            parquet = pytest.importorskip("pyarrow.parquet")
            convert(open_dataset(story_folder(tmp_path / "stories", train=2, test=1)), folder, "parquet")
            change_rows(parquet, folder, lambda rows: rows[1]["images"].__setitem__(2, content))
            return folder, "s001", "stories.parquet: row 2, image 3"
        make_folder, story_id, name = {
            "clevr-sv": (clevr_folder, "CLEVR_new_000001", "images/CLEVR_new_000001_3.png"),
            "pororo-sv": (pororo_folder, "pororo_00000", "Pororo_ENGLISH1_1/Pororo_ENGLISH1_1_ep1/0.png"),
        }[layout]
        make_folder(folder)
        (folder / name).write_bytes(content)
        return folder, story_id, name

    return make


def change_rows(parquet, folder, change):
    import pyarrow

    table = parquet.read_table(folder / "stories.parquet")
    rows = table.to_pylist()
    change(rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows, table.schema), folder / "stories.parquet")


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("layout", ["parquet", "clevr-sv", "pororo-sv"])
def test_a_bad_picture_has_the_same_reason_in_every_layout(one_picture, layout, name):
    content, reason = REFUSED[name]
    folder, story_id, file = one_picture(layout, content)
    findings = examine_dataset(open_dataset(folder))
    reason = "no bytes" if (layout, name) == ("parquet", "empty") else reason
    assert findings.rejects == [Reject(story_id, file, reason)]
    assert findings.accepted == findings.total - 1


TALL = {
    "CMYK JPEG": saved(flat("CMYK", (8, 24)), "JPEG", quality=95),
    "palette with transparency": saved(flat(size=(8, 24)).quantize(4), "PNG", transparency=0),
    "RGBA": saved(flat("RGBA", (8, 24)), "PNG"),
    "16-bit grey": saved(Image.fromarray(np.full((24, 8), 257 * 90, np.uint16)), "PNG"),
    "animated GIF": saved(flat(size=(8, 24)), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 24))] * 3),
    "1x1": saved(flat(size=(1, 1)), "PNG"),
}


@pytest.mark.parametrize("name", TALL)
@pytest.mark.parametrize("layout", ["parquet", "clevr-sv", "pororo-sv"])
def test_an_unusual_picture_is_taken_in_every_layout(one_picture, layout, name):
    folder, story_id, _ = one_picture(layout, TALL[name])
    assert examine_dataset(open_dataset(folder)).rejects == []
    story = next(story for story in open_dataset(folder).stories() if story.story_id == story_id)
    picture = story.images[0 if layout == "pororo-sv" else 2]
    colour = (90, 90, 90) if name == "16-bit grey" else RED
    assert np.abs(load_frame(picture).astype(int) - colour).max() <= 30


def test_a_huge_picture_is_not_decoded(tmp_path, monkeypatch):
    (tmp_path / "huge.png").write_bytes(REFUSED["9000x9000"][0])
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(BadFrameError, match="more than"):
        load_frame(tmp_path / "huge.png")


def reason_of(sentence, longest=1000):
    try:
        check_sentence(sentence, longest)
    except BadValueError as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    "sentence",
    [
        "A red cube.",
        "🟥 is red 👩‍👩‍👧",
        "😀",
        "مكعب أحمر",
        "קובייה אדומה \u200f!",
        "赤い立方体",
        "e\u0301",
        " tab\tand\r\nline end\n",
        "x" * 1000,
        "\ufeffA byte order mark.",
    ],
)
def test_texts_of_every_kind_are_accepted(tmp_path, story_folder, story_lines, sentence):
    assert reason_of(sentence) is None
    folder = story_folder(tmp_path / "data", train=1, test=1)
    story_lines(folder).edit(0, sentences=[sentence] * 4)
    story = next(open_dataset(folder).stories())
    assert isinstance(story, Story)
    assert story.sentences == (sentence,) * 4


BAD_TEXTS = [
    ("", "blank sentence"),
    (" \t\n\u00a0\u3000", "blank sentence"),
    ("\u200b\u200f\ufeff", "blank sentence"),
    ("\0", "blank sentence"),
    ("x" * 10_000, "sentence of more than 1000 characters"),
    ("A\0B", "control characters in a sentence"),
    ("\x1b[31mred", "control characters in a sentence"),
    ("bell\x07", "control characters in a sentence"),
    ("It\x92s", "control characters in a sentence"),
    ("half \ud83d", "not UTF-8"),
]


@pytest.mark.parametrize(("sentence", "reason"), BAD_TEXTS)
def test_a_text_that_says_nothing_or_harms_has_its_reason(sentence, reason):
    assert reason_of(sentence) == reason


def test_a_story_of_another_length_is_told_with_the_file_that_lists_it(
    tmp_path, story_folder, clevr_folder, pororo_folder, flintstones_folder
):
    for make, file in (
        (story_folder, "stories.jsonl"),
        (clevr_folder, "CLEVR_dict.npy"),
        (pororo_folder, "img_cache4.npy"),
        (flintstones_folder, "train-val-test_split.json"),
    ):
        findings = examine_dataset(open_dataset(make(tmp_path / file)), frames=3)
        assert {reject.file for reject in findings.rejects} == {file}
        assert len(findings.rejects) == findings.total > 0


def with_text(layout, folder, text, make):
    """Makes a folder in some layout in which one text is the given one; returns the story that it is in."""
    if layout == "pororo-sv":
        make["pororo"](folder)
        captions = load_dict(folder / "descriptions.npy")
        captions["Pororo_ENGLISH1_1/Pororo_ENGLISH1_1_ep1/0"] = [text]
        np.save(folder / "descriptions.npy", np.array(captions, dtype=object), allow_pickle=True)
        return "pororo_00000"
    if layout == "flintstones-sv":
        make["flintstones"](folder)
        path = folder / "flintstones_annotations_v1-0.json"
        annotations = json.loads(path.read_text())
        annotations[0]["description"] = text
        path.write_text(json.dumps(annotations))
        return annotations[0]["globalID"]
    parquet = pytest.importorskip("pyarrow.parquet")
    convert(open_dataset(make["stories"](folder.with_name("stories"), train=2, test=1)), folder, "parquet")
    change_rows(parquet, folder, lambda rows: rows[1]["sentences"].__setitem__(0, text))
    return "s001"


@pytest.fixture
def makers(story_folder, pororo_folder, flintstones_folder):
    return {"stories": story_folder, "pororo": pororo_folder, "flintstones": flintstones_folder}


# Old captions whose Windows bytes were taken for Latin-1 are mended, and a table holds no half characters.
MENDED = {("pororo-sv", "It\x92s"), ("parquet", "half \ud83d")}


@pytest.mark.parametrize(
    ("layout", "sentence", "reason"),
    [
        (layout, *text)
        for layout in ("parquet", "pororo-sv", "flintstones-sv")
        for text in BAD_TEXTS
        if (layout, text[0]) not in MENDED
    ],
)
def test_a_bad_text_has_the_same_reason_in_every_layout(tmp_path, makers, layout, sentence, reason):
    story_id = with_text(layout, tmp_path / "data", sentence, makers)
    rejects = [entry for entry in open_dataset(tmp_path / "data").stories() if isinstance(entry, Reject)]
    assert [(reject.story_id, reject.reason) for reject in rejects] == [(story_id, reason)]
    assert rejects[0].file


@pytest.mark.parametrize(
    "sentence", ["🟥 is red 👩‍👩‍👧", "مكعب أحمر", "赤い立方体", "x" * 1000, "tab\tand\r\nline end\n"]
)
@pytest.mark.parametrize("layout", ["parquet", "pororo-sv", "flintstones-sv"])
def test_a_text_of_any_kind_is_taken_in_every_layout(tmp_path, makers, layout, sentence):
    story_id = with_text(layout, tmp_path / "data", sentence, makers)
    entries = {entry.story_id: entry for entry in open_dataset(tmp_path / "data").stories()}
    assert entries[story_id].sentences[0] == sentence


@settings(max_examples=100, deadline=None)
@given(st.text("aé雪🟥 \t\n\0\x1b\x85\u0301\u200b\u2028\ud83d\ue000", max_size=30))
def test_a_sentence_that_is_accepted_can_be_written(sentence):
    if reason_of(sentence, 20) is None:
        assert sentence.encode().decode() == sentence
        assert sentence.strip()
        assert len(sentence) <= 20


def test_names_of_stories_cannot_harm_a_terminal():
    (line,) = describe_rejects([Reject("s\x1b[2J\n1\u202e", "images/\x07.png", "missing image")])
    assert line == "1 x missing image: s?[2J 1? (images/?.png)"
