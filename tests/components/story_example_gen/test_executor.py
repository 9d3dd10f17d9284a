"""StoryExampleGen's executor on Beam: the files that it writes, rejects, and errors."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tfx.components.util import examples_utils
from tfx.types import artifact_utils, standard_artifacts

from components.story_example_gen import executor
from storygan_tf.common.errors import ConfigError, DataError
from storygan_tf.config.schema import DataConfig, Settings
from storygan_tf.data import example_schema
from storygan_tf.data.blocks import clevr
from storygan_tf.data.blocks.clevr import SceneObject
from storygan_tf.data.datasets import flintstones, load_frames, open_configured, pororo
from storygan_tf.data.datasets.convert import convert


class Run:
    """The Examples artifact of one run, and access to its content."""

    def __init__(self, uri: Path) -> None:
        self.uri = uri
        self.artifact = standard_artifacts.Examples()
        self.artifact.uri = str(uri)

    @property
    def splits(self) -> list[str]:
        return artifact_utils.decode_split_names(self.artifact.split_names)

    def json(self, name):
        return json.loads((self.uri / name).read_text())

    @property
    def rejects(self):
        return [json.loads(line) for line in (self.uri / "rejects.jsonl").read_text().splitlines()]

    def raw(self, split):
        files = sorted(map(str, (self.uri / f"Split-{split}").iterdir()))
        return list(tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())

    def stories(self, split, **spec):
        return [tf.io.parse_single_example(content, example_schema.feature_spec(**spec)) for content in self.raw(split)]

    def ids(self, split):
        return [story["story_id"].numpy().decode() for story in self.stories(split, frames=4)]


@pytest.fixture
def run(tmp_path, beam_executor):
    """Returns a function that runs the executor with settings, such as `model.frames=5`, and returns the `Run`."""

    def go(data, *assignments, name="examples", rejects_path=""):
        return execute(beam_executor, tmp_path / name, data, *assignments, rejects_path=rejects_path)

    return go


def execute(beam_executor, uri, data, *assignments, rejects_path=""):
    result = Run(uri)
    properties = {
        "data_dir": str(data),
        "settings": Settings().override(assignments).to_json(),
        "data_fingerprint": "d",
        "code_fingerprint": "c",
        "rejects_path": str(rejects_path),
    }
    beam_executor(executor.Executor).Do({}, {"examples": [result.artifact]}, properties)
    return result


@pytest.fixture(scope="module")
def good(tmp_path_factory, beam_executor, story_folder):
    """Returns a folder of good stories and its `Run`; tests must not change them."""
    root = tmp_path_factory.mktemp("good")
    folder = story_folder(root / "data", train=6, test=2)
    return folder, execute(beam_executor, root / "examples", folder)


@pytest.fixture
def folder(tmp_path, story_folder):
    return story_folder(tmp_path / "data", train=6, test=2)


def test_every_good_story_becomes_a_record(good, story_lines):
    folder, result = good
    assert result.splits == ["train", "test"]
    assert result.ids("train") == ["s000", "s001", "s002", "s003", "s004", "s005"]
    assert result.ids("test") == ["s006", "s007"]
    assert result.json("labels.json") == ["blue", "green", "red", "yellow"]
    assert result.json("counts.json") == {
        "source": "story-folder",
        "given": 8,
        "accepted": 8,
        "rejected": {},
        "splits": {"train": 6, "test": 2},
        "val_from_train": 0,
        "longer": 0,
        "extra_parts": 0,
    }
    assert result.rejects == []
    line = story_lines(folder).read()[2]
    story = result.stories("train", frames=4, label_count=4, objects=True)[2]
    assert [text.decode() for text in story["sentences"].numpy()] == line["sentences"]
    flags = [[int(name in frame) for name in ("blue", "green", "red", "yellow")] for frame in line["labels"]]
    assert story["labels"].numpy().tolist() == flags
    assert [json.loads(frame) for frame in story["objects"].numpy()] == line["objects"]
    with Image.open(io.BytesIO(story["images"].numpy()[3])) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (64, 64), "RGB")


def test_a_part_of_the_training_stories_validates_if_the_data_has_no_validation_stories(run, folder, story_lines):
    result = run(folder, "data.val_fraction=0.4")
    assert result.splits == ["train", "val", "test"]
    assert sorted([*result.ids("train"), *result.ids("val")]) == [f"s{number:03d}" for number in range(6)]
    counts = result.json("counts.json")
    assert (counts["splits"], counts["val_from_train"]) == ({"train": 4, "val": 2, "test": 2}, 2)
    assert story_lines(folder).edit(3, split="val")["story_id"] == "s003"
    result = run(folder, "data.val_fraction=0.4", name="own")
    assert result.ids("val") == ["s003"]
    assert result.json("counts.json")["val_from_train"] == 0


@pytest.mark.parametrize(
    ("layout", "labels", "train"), [("pororo", pororo.LABELS, 6), ("flintstones", flintstones.LABELS, 6)]
)
def test_the_layouts_of_published_data_sets(run, tmp_path, pororo_folder, flintstones_folder, layout, labels, train):
    data = {"pororo": pororo_folder, "flintstones": flintstones_folder}[layout](tmp_path / "data")
    result = run(data, "model.frames=5", "data.frame_seed=4")
    assert result.json("labels.json") == list(labels)
    assert result.json("counts.json")["splits"] == {"train": train, "val": 1, "test": 1}
    read = {story.story_id: story for story in open_configured(data, DataConfig(frame_seed=4)).stories()}
    for record in result.stories("train", frames=5, label_count=len(labels)):
        story = read[record["story_id"].numpy().decode()]
        assert tuple(text.decode() for text in record["sentences"].numpy()) == story.sentences
        assert list(record["images"].numpy()) == load_frames(story)
        assert record["labels"].numpy().sum() == 5
    for content in result.raw("train"):
        features = tf.train.Example.FromString(content).features.feature
        story = read[features["story_id"].bytes_list.value[0].decode()]
        assert list(features["drawn_frames"].int64_list.value) == [picture.frame for picture in story.images]


def test_a_table_has_the_same_records_as_its_story_folder(run, good, tmp_path):
    pytest.importorskip("pyarrow")
    folder, one = good
    convert(open_configured(folder, DataConfig()), tmp_path / "table", "parquet")
    two = run(tmp_path / "table")
    for split in ("train", "test"):
        assert two.raw(split) == one.raw(split)


def test_an_unreadable_picture_is_rejected(run, tmp_path, pororo_folder):
    data = pororo_folder(tmp_path / "data")
    bad = "Pororo_ENGLISH1_1/Pororo_ENGLISH1_1_ep1/0.png"
    (data / bad).write_bytes(b"")
    result = run(data, "model.frames=5", "data.max_reject_fraction=0.5")
    assert result.rejects == [{"story_id": "pororo_00000", "file": bad, "reason": "not a picture of a known format"}]


def test_formats_and_names_of_files_are_those_of_tfx(good):
    _, result = good
    assert examples_utils.get_file_format(result.artifact) == "tfrecords_gzip"
    assert examples_utils.get_payload_format_string(result.artifact) == "FORMAT_TF_EXAMPLE"
    names = sorted(str(path.relative_to(result.uri)) for path in result.uri.rglob("*") if path.is_file())
    assert names == [
        "Split-test/data_tfrecord-00000-of-00001.gz",
        "Split-train/data_tfrecord-00000-of-00001.gz",
        "counts.json",
        "labels.json",
        "rejects.jsonl",
    ]
    assert sorted(path.name for path in result.uri.iterdir() if path.is_dir()) == ["Split-test", "Split-train"]


def test_the_same_stories_in_any_order_give_the_same_bytes(run, folder):
    first = run(folder, name="first")
    lines = (folder / "stories.jsonl").read_text().splitlines(keepends=True)
    (folder / "stories.jsonl").write_text("".join(reversed(lines)))
    second = run(folder, name="second")
    for name in ("Split-train", "Split-test"):
        one, other = (
            {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (result.uri / name).iterdir()}
            for result in (first, second)
        )
        assert one == other


def test_large_splits_are_cut_into_files_in_order(run, folder, monkeypatch):
    monkeypatch.setattr(executor, "SHARD_STORIES", 2)
    result = run(folder)
    names = sorted(path.name for path in (result.uri / "Split-train").iterdir())
    assert names == [f"data_tfrecord-0000{index}-of-00003.gz" for index in range(3)]
    assert result.ids("train") == ["s000", "s001", "s002", "s003", "s004", "s005"]


def test_without_splits_stories_are_split_by_their_names(run, tmp_path, story_folder):
    folder = story_folder(tmp_path / "data", train=12, test=0, split=False, labels=False, objects=False)
    result = run(folder, "data.test_fraction=0.4")
    train, test = result.ids("train"), result.ids("test")
    assert sorted([*train, *test]) == [f"s{number:03d}" for number in range(12)]
    assert result.json("labels.json") == []
    assert "labels" not in tf.train.Example.FromString(result.raw("train")[0]).features.feature
    more = run(story_folder(tmp_path / "more", train=20, test=0, split=False), "data.test_fraction=0.4", name="more")
    assert set(train) <= set(more.ids("train"))
    assert set(test) <= set(more.ids("test"))


def test_a_third_split_is_kept(run, folder, story_lines):
    story_lines(folder).edit(1, split="val")
    result = run(folder)
    assert result.splits == ["train", "val", "test"]
    assert result.ids("val") == ["s001"]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_bad_stories_are_rejected_and_counted(run, folder, story_lines, tmp_path):
    truncate(folder / "images/s001_2.png")
    (folder / "images/s002_4.png").unlink()
    story_lines(folder).edit(3, sentences=["a", "b", "c", " "])
    result = run(folder, "data.max_reject_fraction=0.5", rejects_path=tmp_path / "rejects.jsonl")
    assert result.ids("train") == ["s000", "s004", "s005"]
    assert result.rejects == [
        {"story_id": "s001", "file": "images/s001_2.png", "reason": "truncated image"},
        {"story_id": "s002", "file": "images/s002_4.png", "reason": "missing image"},
        {"story_id": "s003", "file": "stories.jsonl:4", "reason": "blank sentence"},
    ]
    assert (tmp_path / "rejects.jsonl").read_text() == (result.uri / "rejects.jsonl").read_text()
    counts = result.json("counts.json")
    assert counts["accepted"] + sum(counts["rejected"].values()) == counts["given"] == 8
    assert counts["rejected"] == {"blank sentence": 1, "missing image": 1, "truncated image": 1}


def test_too_many_rejects_are_an_error_and_are_listed(run, folder, tmp_path):
    for number in (0, 1):
        truncate(folder / f"images/s00{number}_1.png")
    (folder / "images/s004_1.png").unlink()
    with pytest.raises(DataError) as caught:
        run(folder, rejects_path=tmp_path / "rejects.jsonl")
    message = str(caught.value)
    assert "3 of 8 stories were rejected" in message
    assert "data.max_reject_fraction allows (now 0.01)" in message
    assert "2 x truncated image: s000 (images/s000_1.png); s001 (images/s001_1.png)" in message
    assert "1 x missing image: s004 (images/s004_1.png)" in message
    assert "--max-reject-fraction" in message
    assert len((tmp_path / "rejects.jsonl").read_text().splitlines()) == 3


def test_the_allowed_fraction_is_a_bound(run, folder):
    truncate(folder / "images/s000_1.png")
    assert len(run(folder, "data.max_reject_fraction=0.125", name="one").rejects) == 1
    with pytest.raises(DataError, match="1 of 8"):
        run(folder, "data.max_reject_fraction=0.124", name="two")


def test_an_error_about_another_length_of_all_stories_names_the_setting(run, tmp_path, story_folder):
    folder = story_folder(tmp_path / "data", train=3, test=1, frames=3)
    with pytest.raises(DataError, match=r"All stories have 3 frames, not 4: run again with --set model\.frames=3"):
        run(folder)
    assert run(folder, "model.frames=3", name="three").json("counts.json")["accepted"] == 4


def test_longer_stories_are_cut_or_split(run, tmp_path, story_folder):
    """Four stories of five frames, three for training."""
    folder = story_folder(tmp_path / "data", train=3, test=1, frames=5)
    cut, split = (run(folder, "model.frames=2", f"data.long_stories={how}", name=how) for how in ("cut", "split"))
    figures = ("given", "accepted", "longer", "extra_parts")
    assert [cut.json("counts.json")[name] for name in figures] == [4, 4, 4, 0]
    assert [split.json("counts.json")[name] for name in figures] == [4, 8, 4, 4]
    first = [story["sentences"].numpy().tolist() for story in cut.stories("train", frames=2)]
    parts = split.stories("train", frames=2)
    assert [story["sentences"].numpy().tolist() for story in parts[::2]] == first
    ids = [f"s{number:03d}-part{part}" for number in range(3) for part in (1, 2)]
    assert [story["story_id"].numpy().decode() for story in parts] == ids


def test_a_shorter_story_is_rejected(run, folder, story_lines):
    line = story_lines(folder).read()[0]
    short = {key: line[key][:3] for key in ("sentences", "images", "labels", "objects")}
    story_lines(folder).edit(0, **short)
    result = run(folder, "data.max_reject_fraction=0.2")
    assert result.rejects == [{"story_id": "s000", "file": "stories.jsonl", "reason": "3 frames, expected 4"}]
    with pytest.raises(DataError) as caught:
        run(folder, name="again")
    assert "model.frames=" not in str(caught.value)


@pytest.mark.parametrize(("split", "use"), [("train", "testing"), ("test", "training")])
def test_a_split_without_stories_is_an_error(run, folder, story_lines, split, use):
    for index in range(8):
        story_lines(folder).edit(index, split=split)
    with pytest.raises(DataError, match=f"found no story for {use} among 8"):
        run(folder)


def test_a_folder_without_stories_is_an_error(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"nothing in it; expected stories\.jsonl"):
        run(tmp_path / "empty")
    (tmp_path / "empty" / "stories.jsonl").write_text("\n")
    with pytest.raises(DataError, match="found no stories in it"):
        run(tmp_path / "empty", name="again")


def test_a_folder_with_only_bad_stories_is_an_error(run, folder):
    (folder / "stories.jsonl").write_text("nonsense\n" * 12)
    with pytest.raises(DataError, match="12 x not JSON: line 1"):
        run(folder)


def test_invalid_settings_are_an_error(run, folder, tmp_path):
    properties = {"data_dir": str(folder), "settings": '{"data": {"fromat": "auto"}}'}
    with pytest.raises(ConfigError, match="did you mean 'format'"):
        executor.Executor().Do({}, {"examples": [Run(tmp_path / "x").artifact]}, properties)


def test_clevr_sv(run, tmp_path):
    items = [
        SceneObject("cube", "red", "metal", "large", *clevr.place(2, 2)),
        SceneObject("sphere", "blue", "rubber", "small", *clevr.place(-2, 0)),
        SceneObject("cylinder", "cyan", "metal", "small", *clevr.place(-2, 4)),
        SceneObject("cube", "gray", "rubber", "large", *clevr.place(0, -3)),
    ]
    (tmp_path / "data/images").mkdir(parents=True)
    vectors = {}
    for index in (0, 1, 2, 10_000):
        for frame in range(1, 5):
            name = f"CLEVR_new_{index:06d}_{frame}.png"
            vectors[name] = clevr.to_vector(items[:frame])
            Image.new("RGBA", (32, 24), (10 * frame, 0, 0, 255)).save(tmp_path / "data/images" / name)
    del vectors["CLEVR_new_000002_4.png"], vectors["CLEVR_new_000002_3.png"]
    np.save(tmp_path / "data/CLEVR_dict.npy", np.array(vectors, dtype=object), allow_pickle=True)
    result = run(tmp_path / "data", "data.max_reject_fraction=0.3")
    assert result.ids("train") == ["CLEVR_new_000000", "CLEVR_new_000001"]
    assert result.ids("test") == ["CLEVR_new_010000"]
    assert result.json("labels.json") == list(clevr.LABELS)
    assert [reject["reason"] for reject in result.rejects] == ["frames without entries in CLEVR_dict.npy"]
    story = result.stories("test", frames=4, label_count=15, objects=True)[0]
    assert story["labels"].numpy()[0].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0]
    assert len(json.loads(story["objects"].numpy()[3])) == 4


def test_a_pickle_that_would_run_code_is_an_error(run, tmp_path):
    header = io.BytesIO()
    np.save(header, np.array({}, dtype=object), allow_pickle=True)
    start = header.getvalue().partition(b"\n")[0] + b"\n"
    (tmp_path / "data").mkdir()
    touched = tmp_path / "touched"
    (tmp_path / "data/CLEVR_dict.npy").write_bytes(start + f"cos\nmkdir\n(S'{touched}'\ntR.".encode())
    with pytest.raises(DataError, match=r"os\.mkdir, which could run code and was not run"):
        run(tmp_path / "data")
    assert not touched.exists()
