"""Prepared stories are found in their own folder and in a run directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import Settings
from storygan_tf.data.prepared_data import PreparedData


@pytest.fixture(scope="module")
def shared_folder(prepared_folder, tmp_path_factory) -> Path:
    """Returns a folder of prepared stories that tests must not change."""
    return prepared_folder(tmp_path_factory.mktemp("shared") / "data")


@pytest.fixture
def folder(shared_folder, tmp_path) -> Path:
    return shutil.copytree(shared_folder, tmp_path / "data")


@pytest.fixture
def run(shared_folder, tmp_path) -> Path:
    """Returns a run directory in which Transform ran as executions 9 and 10 and was killed in execution 11."""
    run = tmp_path / "run"
    transform = run / "pipeline" / "Transform"
    for number in ("9", "10"):
        for split in ("Split-train", "Split-val", "Split-test"):
            shutil.copytree(shared_folder / split, transform / "transformed_examples" / number / split)
        shutil.copytree(shared_folder / "vectorizer", transform / "transform_graph" / number / "transform_fn")
    (transform / "transformed_examples" / "11" / "Split-train").mkdir(parents=True)
    labels = run / "pipeline" / "StoryExampleGen" / "examples" / "1" / "labels.json"
    labels.parent.mkdir(parents=True)
    labels.write_text('["blue", "red"]')
    settings = Settings().override(["data.encoder=embedded", "model.frames=2", "model.sentence_size=8"])
    (run / "settings.json").write_text(json.dumps({"settings": json.loads(settings.to_json()), "data": "elsewhere"}))
    return run


def test_a_folder_of_prepared_stories(folder):
    prepared = PreparedData.find(folder)
    assert [path.parent.name for path in (*prepared.train, *prepared.test)] == ["Split-train", "Split-test"]
    assert prepared.vectorizer == folder / "vectorizer"
    assert prepared.transform_graph is None
    assert prepared.can_export
    assert prepared.labels == ()
    assert prepared.settings == ("model.frames=2", "model.sentence_size=8", 'data.encoder="embedded"')
    assert Settings().override(prepared.settings).model.frames == 2


def test_all_but_the_records_may_be_missing(folder):
    shutil.rmtree(folder / "vectorizer")
    (folder / "settings.json").unlink()
    (folder / "labels.json").write_text('["red"]')
    prepared = PreparedData.find(folder)
    assert not prepared.can_export
    assert prepared.settings == ()
    assert prepared.labels == ("red",)


def test_the_newest_whole_output_of_a_runs_transform(run):
    prepared = PreparedData.find(run)
    assert {path.parents[1].name for path in (*prepared.train, *prepared.test)} == {"10"}
    assert prepared.transform_graph == run / "pipeline" / "Transform" / "transform_graph" / "10"
    assert prepared.vectorizer is None
    assert prepared.can_export
    assert prepared.labels == ("blue", "red")
    assert 'data.encoder="embedded"' in prepared.settings
    assert "data.max_sentence_length=1000" in prepared.settings


def test_an_older_output_can_be_named(run):
    older = PreparedData.find(run / "pipeline" / "Transform" / "transformed_examples" / "9")
    assert older.transform_graph.name == "9"
    assert older.labels == ("blue", "red")
    assert older.settings == PreparedData.find(run).settings


def test_the_fingerprint_depends_on_the_records_only(shared_folder, folder, run):
    fingerprint = PreparedData.find(shared_folder).fingerprint()
    assert PreparedData.find(folder).fingerprint() == PreparedData.find(run).fingerprint() == fingerprint
    file = PreparedData.find(folder).test[0]
    file.write_bytes(file.read_bytes() + b"\0")
    assert PreparedData.find(folder).fingerprint() != fingerprint


def test_validation_stories_may_be_absent(folder):
    assert [path.parent.name for path in PreparedData.find(folder).val] == ["Split-val"]
    shutil.rmtree(folder / "Split-val")
    assert PreparedData.find(folder).val == ()


def test_a_relative_path_is_kept_as_an_absolute_one(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert PreparedData.find("data") == PreparedData.find(folder)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder; expected a folder with Split-train/\*\.gz"):
        PreparedData.find(tmp_path / "none")


@pytest.mark.parametrize("missing", ["Split-train", "Split-test"])
def test_a_folder_without_records_is_refused(folder, missing):
    shutil.rmtree(folder / missing)
    with pytest.raises(DataError, match=r"holds no prepared stories; expected .* `storygan run`"):
        PreparedData.find(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("settings.json", "{", "cannot be read"),
        ("settings.json", "[]", "found no settings"),
        ("settings.json", '{"settings": 3}', "found no settings"),
        ("labels.json", "", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(folder, name, content, words):
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=f"{name}: {words}"):
        PreparedData.find(folder)
