"""Stories with pictures and texts of any kind are accepted, or rejected with a name, a file and a reason."""

from __future__ import annotations

import io
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

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


@pytest.fixture(scope="module")
def whole(tmp_path_factory, story_folder, clevr_folder, pororo_folder, flintstones_folder):
    """Returns undamaged data sets by layout, to be read or copied, not changed."""
    root = tmp_path_factory.mktemp("whole")
    folders = {
        "story-folder": story_folder(root / "stories", train=2, test=1),
        "clevr-sv": clevr_folder(root / "clevr"),
        "pororo-sv": pororo_folder(root / "pororo"),
        "flintstones-sv": flintstones_folder(root / "flintstones"),
    }
    if find_spec("pyarrow"):
        folders["parquet"] = root / "table"
        convert(open_dataset(folders["story-folder"]), folders["parquet"], "parquet")
    return folders


@pytest.fixture
def copied(whole, tmp_path):
    """Returns a function that copies the undamaged data set of a layout and returns the copy."""

    def copy(layout):
        if layout not in whole:
            pytest.skip("the extra `parquet` is not installed")
        return Path(shutil.copytree(whole[layout], tmp_path / "data"))

    return copy


def saved(image, kind, **options):
    image.save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


def flat(mode="RGB", size=(8, 6)):
    return Image.new("RGB", size, RED).convert(mode)


def rgb_of_16_bits():
    """Returns a PNG of 16 bits a channel, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + struct.pack(">HHH", *(257 * level for level in RED)) * 2
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 2)) + chunk(b"IEND", b"")


def with_orientation(orientation):
    """Returns a JPEG whose left half is red after rotating it as its EXIF data says."""
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
def test_a_picture_is_read_by_its_content_not_its_ending(tmp_path, name, ending):
    path = tmp_path / f"image.{ending}"
    path.write_bytes(ACCEPTED[name])
    frame = load_frame(path)
    assert (frame.shape, frame.dtype) == ((64, 64, 3), np.uint8)
    # The colours of palettes and JPEG are not exact.
    assert np.abs(frame.astype(int) - RED).max() <= 30


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_picture_is_rotated_as_its_exif_data_says(tmp_path, orientation):
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
def test_a_bad_picture_rejects_its_story_with_name_file_and_reason(copied, name):
    folder = copied("story-folder")
    content, reason = REFUSED[name]
    (folder / "images/s001_3.png").write_bytes(content)
    findings = examine_dataset(open_dataset(folder))
    assert findings.rejects == [Reject("s001", "images/s001_3.png", reason)]
    assert (findings.total, findings.accepted) == (3, 2)


PICTURES = {
    "clevr-sv": ("CLEVR_new_000001", "images/CLEVR_new_000001_3.png"),
    "pororo-sv": ("pororo_00000", "Pororo_ENGLISH1_1/Pororo_ENGLISH1_1_ep1/0.png"),
    "parquet": ("s001", "stories.parquet: row 2, image 3"),
}
"""A picture of each layout that only one story uses: the story, and the picture's file and location."""


@pytest.fixture
def one_picture(copied):
    """Returns a function that writes a data set in which one picture, that of `PICTURES`, has the given content."""

    def make(layout, content):
        folder = copied(layout)
        if layout == "parquet":
            change_rows(folder, lambda rows: rows[1]["images"].__setitem__(2, content))
        else:
            (folder / PICTURES[layout][1]).write_bytes(content)
        return folder

    return make


def change_rows(folder, change):
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(folder / "stories.parquet")
    rows = table.to_pylist()
    change(rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows, table.schema), folder / "stories.parquet")


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("layout", ["parquet", "clevr-sv", "pororo-sv"])
def test_a_bad_picture_has_the_same_reason_in_every_layout(one_picture, layout, name):
    content, reason = REFUSED[name]
    folder = one_picture(layout, content)
    findings = examine_dataset(open_dataset(folder))
    reason = "no bytes" if (layout, name) == ("parquet", "empty") else reason
    assert findings.rejects == [Reject(*PICTURES[layout], reason)]
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
def test_an_unusual_picture_is_accepted_in_every_layout(one_picture, layout, name):
    folder = one_picture(layout, TALL[name])
    assert examine_dataset(open_dataset(folder)).rejects == []
    story = next(story for story in open_dataset(folder).stories() if story.story_id == PICTURES[layout][0])
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
def test_texts_of_every_kind_are_accepted(copied, story_lines, sentence):
    assert reason_of(sentence) is None
    folder = copied("story-folder")
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
def test_a_blank_or_harmful_text_has_its_reason(sentence, reason):
    assert reason_of(sentence) == reason


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("story-folder", "stories.jsonl"),
        ("clevr-sv", "CLEVR_dict.npy"),
        ("pororo-sv", "img_cache4.npy"),
        ("flintstones-sv", "train-val-test_split.json"),
    ],
)
def test_a_shorter_story_is_rejected_with_the_file_that_lists_it(whole, layout, file):
    findings = examine_dataset(open_dataset(whole[layout]), frames=9)
    assert {reject.file for reject in findings.rejects} == {file}
    assert len(findings.rejects) == findings.total > 0


def set_text(layout, folder, text):
    """Replaces one text of a data set; returns the name of the story that it belongs to."""
    if layout == "pororo-sv":
        captions = load_dict(folder / "descriptions.npy")
        captions["Pororo_ENGLISH1_1/Pororo_ENGLISH1_1_ep1/0"] = [text]
        np.save(folder / "descriptions.npy", np.array(captions, dtype=object), allow_pickle=True)
        return "pororo_00000"
    if layout == "flintstones-sv":
        path = folder / "flintstones_annotations_v1-0.json"
        annotations = json.loads(path.read_text())
        annotations[0]["description"] = text
        path.write_text(json.dumps(annotations))
        return annotations[0]["globalID"]
    change_rows(folder, lambda rows: rows[1]["sentences"].__setitem__(0, text))
    return "s001"


# Pororo's reader repairs old captions whose encoding is Windows-1252, and a table cannot contain surrogates.
REPAIRED = {("pororo-sv", "It\x92s"), ("parquet", "half \ud83d")}


@pytest.mark.parametrize(
    ("layout", "sentence", "reason"),
    [
        (layout, *text)
        for layout in ("parquet", "pororo-sv", "flintstones-sv")
        for text in BAD_TEXTS
        if (layout, text[0]) not in REPAIRED
    ],
)
def test_a_bad_text_has_the_same_reason_in_every_layout(copied, layout, sentence, reason):
    folder = copied(layout)
    story_id = set_text(layout, folder, sentence)
    rejects = [entry for entry in open_dataset(folder).stories() if isinstance(entry, Reject)]
    assert [(reject.story_id, reject.reason) for reject in rejects] == [(story_id, reason)]
    assert rejects[0].file


@pytest.mark.parametrize(
    "sentence", ["🟥 is red 👩‍👩‍👧", "مكعب أحمر", "赤い立方体", "x" * 1000, "tab\tand\r\nline end\n"]
)
@pytest.mark.parametrize("layout", ["parquet", "pororo-sv", "flintstones-sv"])
def test_a_text_of_any_kind_is_accepted_in_every_layout(copied, layout, sentence):
    folder = copied(layout)
    story_id = set_text(layout, folder, sentence)
    entries = {entry.story_id: entry for entry in open_dataset(folder).stories()}
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
