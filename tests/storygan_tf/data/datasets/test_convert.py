"""Conversions lose nothing, write down the chosen frames, and write either a complete folder or nothing."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import DataConfig
from storygan_tf.data.blocks import clevr
from storygan_tf.data.blocks.clevr import SceneObject
from storygan_tf.data.datasets import Story, load_frames, open_configured, open_dataset, source_name
from storygan_tf.data.datasets.convert import TARGETS, convert
from storygan_tf.data.datasets.image_sources import picture_source

ITEMS = tuple(
    SceneObject(shape, "red", "metal", "large", *clevr.place(step, step)) for step, shape in enumerate(clevr.SHAPES)
)

NEEDS_PARQUET = pytest.mark.skipif(find_spec("pyarrow") is None, reason="the extra `parquet` is not installed")

EVERY_TARGET = [pytest.param(to, marks=NEEDS_PARQUET if to == "parquet" else ()) for to in TARGETS]


def clevr_folder(folder):
    vectors = {}
    (folder / "images").mkdir(parents=True)
    for index in (7, 10_000):
        for frame in (1, 2, 3):
            name = f"CLEVR_new_{index:06d}_{frame}.png"
            vectors[name] = clevr.to_vector(ITEMS[:frame])
            Image.new("RGBA", (16, 12), (frame, index % 200, 0, 255)).save(folder / "images" / name)
    np.save(folder / "CLEVR_dict.npy", np.array(vectors, dtype=object), allow_pickle=True)
    return folder


@pytest.fixture
def folders(tmp_path, story_folder, pororo_folder, flintstones_folder):
    makers = {
        "story-folder": story_folder,
        "clevr-sv": clevr_folder,
        "pororo-sv": pororo_folder,
        "flintstones-sv": flintstones_folder,
    }
    return lambda layout: makers[layout](tmp_path / layout)


def stories_of(folder, **settings):
    return [entry for entry in open_configured(folder, DataConfig(**settings)).stories() if isinstance(entry, Story)]


def content_of(story, *, labels=True):
    return story.story_id, story.split, story.sentences, story.labels if labels else None, story.objects


@pytest.mark.parametrize("to", EVERY_TARGET)
@pytest.mark.parametrize("layout", ["story-folder", "clevr-sv", "pororo-sv", "flintstones-sv"])
def test_every_layout_is_converted_without_loss(folders, tmp_path, layout, to):
    folder, out = folders(layout), tmp_path / "out"
    steps = []
    dataset = open_configured(folder, DataConfig(frame_seed=5))
    converted = convert(dataset, out, to, lambda done, total: steps.append((done, total)))
    before, after = stories_of(folder, frame_seed=5), stories_of(out, format=to)
    assert converted.stories == len(before) == len(after)
    assert steps == [(done, len(before)) for done in range(1, len(before) + 1)]
    for old, new in zip(before, after, strict=True):
        assert content_of(new) == content_of(old)
        assert load_frames(new) == load_frames(old)
    assert (out / "SOURCE").read_text().startswith(f"{layout}: converted from the layout {layout} by storygan")
    assert not list(tmp_path.glob(".*"))


def test_the_frames_that_were_drawn_are_written(folders, tmp_path):
    folder = folders("pororo-sv")
    dataset = open_configured(folder, DataConfig(frame_seed=5))
    convert(dataset, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/stories.jsonl").read_text().splitlines()]
    for story, line in zip(stories_of(folder, frame_seed=5), lines, strict=True):
        assert line["sources"] == [picture_source(picture, folder) for picture in story.images]
        for source, image in zip(line["sources"], line["images"], strict=True):
            strip = np.asarray(Image.open(folder / source["file"]))
            top = 8 * source["frame"]
            np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / image)), strip[top : top + 8])


def test_picture_files_keep_their_bytes(folders, tmp_path):
    folder = folders("clevr-sv")
    convert(open_dataset(folder), tmp_path / "out")
    for old, new in zip(stories_of(folder), stories_of(tmp_path / "out"), strict=True):
        assert [picture.read_bytes() for picture in new.images] == [picture.read_bytes() for picture in old.images]


def test_same_data_same_bytes(folders, tmp_path):
    folder = folders("flintstones-sv")
    for name in ("one", "two"):
        convert(open_dataset(folder), tmp_path / name)
    contents = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    ]
    assert contents[0] == contents[1]


def test_rejects_are_returned_and_written(folders, tmp_path):
    folder = folders("story-folder")
    (folder / "images/s001_2.png").write_bytes(b"no picture")
    (folder / "images/s002_2.png").unlink()
    whole = folder / "images/s003_1.png"
    whole.write_bytes(whole.read_bytes()[:-30])
    converted = convert(open_dataset(folder), tmp_path / "out")
    assert converted.stories == 5
    written = [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    assert written == [
        {"story_id": "s001", "file": "images/s001_2.png", "reason": "not a picture of a known format"},
        {"story_id": "s002", "file": "images/s002_2.png", "reason": "missing image"},
        {"story_id": "s003", "file": "images/s003_1.png", "reason": "truncated image"},
    ]
    assert [vars(reject) for reject in converted.rejects] == written


def test_converted_blocks_are_still_blocks(folders, tmp_path):
    folder = folders("clevr-sv")
    assert open_dataset(folder).published == {"train": 10_000, "test": 3_000}
    (folder / "SOURCE").write_text("blocks: rendered\nseed: 3\n")
    assert open_dataset(folder).published is None
    convert(open_dataset(folder), tmp_path / "out")
    assert source_name(open_dataset(tmp_path / "out")) == "blocks"
    assert "seed: 3\n" in (tmp_path / "out/SOURCE").read_text()


def test_names_of_stories_need_not_be_names_of_files(folders, tmp_path, story_lines):
    folder = folders("story-folder")
    name = "../s/\u202e" + "x" * 400
    story_lines(folder).edit(0, story_id=name)
    convert(open_dataset(folder), tmp_path / "out")
    assert stories_of(tmp_path / "out")[0].story_id == name


@pytest.mark.parametrize("to", EVERY_TARGET)
def test_an_interruption_leaves_nothing(folders, tmp_path, to):
    folder = folders("story-folder")

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(open_dataset(folder), tmp_path / "out", to, interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["story-folder"]
    assert convert(open_dataset(folder), tmp_path / "out", to).stories == 8


def test_nothing_is_overwritten(folders, tmp_path):
    folder = folders("story-folder")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("x")
    with pytest.raises(
        DataError, match="found something there already; expected a path that does not exist, or an empty folder"
    ):
        convert(open_dataset(folder), tmp_path / "out")
    assert (tmp_path / "out/mine").read_text() == "x"
    with pytest.raises(DataError, match="lies in the data folder"):
        convert(open_dataset(folder), folder / "out")
    with pytest.raises(DataError, match="found something there already"):
        convert(open_dataset(folder), folder / "stories.jsonl")


def test_another_target_and_a_folder_without_stories_are_reported(folders, tmp_path):
    folder = folders("story-folder")
    with pytest.raises(DataError, match="--to parket: expected story-folder or parquet; did you mean 'parquet'"):
        convert(open_dataset(folder), tmp_path / "out", "parket")
    (folder / "stories.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="no story can be used"):
        convert(open_dataset(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_reported(folders, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be written"):
        convert(open_dataset(folders("story-folder")), Path(tmp_path / "file/out"))
