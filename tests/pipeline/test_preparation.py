"""Preparation writes prepared stories with the pipeline's vectors, reuses what is unchanged, and refuses bad input."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_transform as tft

from components.story_example_gen import executor
from pipeline import beam_preparation
from pipeline.preparation import Preparation, PreparationFailedError, prepare
from storygan_tf.common.errors import ConfigError, DataError
from storygan_tf.config.schema import Settings
from storygan_tf.data import example_schema
from storygan_tf.data.datasets import load_frames, open_dataset
from storygan_tf.data.prepared_data import PreparedData
from storygan_tf.text.hashed_ngram_encoder import embed

SIZE = 6
SETTINGS = Settings().override(["model.frames=4", f"model.sentence_size={SIZE}", "data.encoder=embedded"])
TRAIN, TEST = 10, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory, story_folder):
    return story_folder(tmp_path_factory.mktemp("stories") / "data", train=TRAIN, test=TEST)


@pytest.fixture(scope="module", autouse=True)
def small_parts():
    """Makes several files per split, and several batches per file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "SHARD_STORIES", 4)
        patch.setattr(beam_preparation, "BATCH", 3)
        yield


class Lines(list):
    """Collects the reported lines."""

    def __call__(self, line):
        self.append(line)


@pytest.fixture(scope="module")
def prepared(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "out"
    counts = prepare(Preparation(data, out, SETTINGS), report := Lines())
    assert report == ["[1/2] examples", "[2/2] vectors"]
    assert counts["splits"] == {"train": TRAIN, "test": TEST}
    return out


def stories(files) -> list[tf.train.Example]:
    contents = tf.data.TFRecordDataset(sorted(map(str, files)), compression_type="GZIP").as_numpy_iterator()
    return list(map(tf.train.Example.FromString, contents))


def values(story: tf.train.Example, name: str):
    feature = story.features.feature[name]
    return list(getattr(feature, feature.WhichOneof("kind")).value)


def test_a_training_can_read_it(prepared):
    found = PreparedData.find(prepared)
    assert [path.name for path in found.train] == [f"data_tfrecord-0000{number}-of-00003.gz" for number in range(3)]
    assert [path.name for path in found.test] == ["data_tfrecord-00000-of-00001.gz"]
    assert found.vectorizer == prepared / "vectorizer"
    assert found.labels == ("blue", "green", "red", "yellow")
    assert found.settings == (
        "model.frames=4",
        f"model.sentence_size={SIZE}",
        'data.encoder="embedded"',
        "data.max_sentence_length=1000",
    )


def test_every_story_is_there_as_it_was(prepared, data):
    found = {values(story, "story_id")[0].decode(): story for story in stories(prepared.glob("Split-*/*"))}
    read = {story.story_id: story for story in open_dataset(data).stories()}
    assert found.keys() == read.keys()
    for name, story in read.items():
        assert values(found[name], "sentences") == [sentence.encode() for sentence in story.sentences]
        assert values(found[name], "images") == load_frames(story)
        assert len(values(found[name], "labels")) == 4 * 4


def test_vectors_are_the_principal_components_of_the_training_split(prepared):
    train, test = (stories(prepared.glob(f"Split-{split}/*")) for split in ("train", "test"))
    encode = lambda group: embed(tf.constant([text for story in group for text in values(story, "sentences")])).numpy()  # noqa: E731
    raw = encode(train).astype(np.float64)
    _, _, directions = np.linalg.svd(raw - raw.mean(axis=0), full_matrices=False)
    scale = np.sqrt((((raw - raw.mean(axis=0)) @ directions[:SIZE].T) ** 2).mean())
    for group in (train, test):
        found = np.array([values(story, example_schema.VECTORS) for story in group]).reshape(-1, SIZE)
        expected = (encode(group) - raw.mean(axis=0)) @ directions[:SIZE].T / scale
        np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)


def test_graph_schema_and_statistics_are_written(prepared):
    graph = tft.TFTransformOutput(str(prepared / "transform_graph"))
    assert graph.transformed_feature_spec()[example_schema.VECTORS].shape == [4 * SIZE]
    assert "red" in [word.decode() for word in graph.vocabulary_by_name("words")]
    schema = tfdv.load_schema_text(str(prepared / "schema.pbtxt"))
    shapes = {feature.name: feature.shape.dim[0].size for feature in schema.feature}
    assert shapes == {"story_id": 1, "sentences": 4, "images": 4, "labels": 16, "objects": 4}
    for split, count in (("train", TRAIN), ("test", TEST)):
        statistics = tfdv.load_stats_binary(str(prepared / f"statistics/Split-{split}/FeatureStats.pb"))
        assert statistics.datasets[0].num_examples == count
        assert not tfdv.validate_statistics(statistics, schema).anomaly_info


def test_no_temporary_files_remain(prepared):
    assert sorted(path.name for path in prepared.iterdir()) == [
        "Split-test",
        "Split-train",
        "counts.json",
        "examples",
        "labels.json",
        "made_of.json",
        "prepare.log",
        "rejects.jsonl",
        "schema.pbtxt",
        "settings.json",
        "statistics",
        "transform_graph",
        "vectorizer",
    ]
    assert [path for path in prepared.rglob("*") if path.name.startswith(("beam-temp", "storygan-"))] == []


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("Split-*/*")}


def test_what_is_unchanged_is_used_again(data, prepared):
    before = contents(prepared)
    prepare(Preparation(data, prepared, SETTINGS), report := Lines())
    assert report == ["[1/2] examples: unchanged", "[2/2] vectors: unchanged"]
    assert contents(prepared) == before


@pytest.mark.slow
def test_other_settings_make_the_vectors_anew(data, tmp_path):
    prepare(Preparation(data, tmp_path / "out", SETTINGS))
    other = SETTINGS.override(["model.sentence_size=5"])
    prepare(Preparation(data, tmp_path / "out", other), report := Lines())
    assert report == ["[1/2] examples: unchanged", "[2/2] vectors"]
    assert PreparedData.find(tmp_path / "out").settings[1] == "model.sentence_size=5"
    assert {len(values(story, example_schema.VECTORS)) for story in stories(tmp_path.glob("out/Split-*/*"))} == {20}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_two_workers_give_the_same_records(data, prepared, tmp_path, mode):
    beam_args = [f"--direct_running_mode={mode}", "--direct_num_workers=2"]
    prepare(Preparation(data, tmp_path / "out", SETTINGS, beam_args=beam_args))
    assert contents(tmp_path / "out").keys() == contents(prepared).keys()
    for one, other in zip(stories(tmp_path.glob("out/Split-*/*")), stories(prepared.glob("Split-*/*")), strict=True):
        left, right = (np.array(values(story, example_schema.VECTORS)) for story in (one, other))
        np.testing.assert_allclose(left, right, atol=1e-4)
        for story in (one, other):
            del story.features.feature[example_schema.VECTORS]
        assert one == other


def test_too_many_rejects_fail_before_anything_is_fitted(story_folder, tmp_path):
    data = story_folder(tmp_path / "data", train=3, test=1)
    (data / "images/s001_2.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 4 stories were rejected"):
        prepare(Preparation(data, tmp_path / "out", SETTINGS), report := Lines())
    assert report == ["[1/2] examples"]
    assert json.loads((tmp_path / "out/rejects.jsonl").read_text())["story_id"] == "s001"
    assert not list(tmp_path.glob("out/Split-*"))


def test_a_setting_that_does_not_fit_changes_no_files(data, prepared, tmp_path):
    out = shutil.copytree(prepared, tmp_path / "out")
    wrong = SETTINGS.override(["model.sentence_size=513"])
    with pytest.raises(ConfigError, match="gives vectors of 512"):
        prepare(Preparation(data, out, wrong))
    assert contents(out) == contents(prepared)


def test_folders_with_other_content_are_refused(data, tmp_path, prepared_folder):
    (tmp_path / "run/pipeline").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is a run directory"):
        prepare(Preparation(data, tmp_path / "run", SETTINGS))
    with pytest.raises(ConfigError, match="contains Split-train, which `storygan prepare` did not write"):
        prepare(Preparation(data, prepared_folder(tmp_path / "other"), SETTINGS))


def test_a_failure_within_beam_is_reported_in_one_line(data, tmp_path):
    broken = dataclasses.replace(Preparation(data, tmp_path / "out", SETTINGS), beam_args=["--runner=NoRunner"])
    with pytest.raises(PreparationFailedError, match=r"details in .*prepare\.log\)\. .*NoRunner"):
        prepare(broken)
