"""Stories of an Examples artifact are read in any order, and damaged records are refused."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.common.errors import DataError
from storygan_tf.data import example_schema
from storygan_tf.data.example_reader import StoryRecords, open_split, read_json

OBJECTS = [[{"shape": "cube", "x": 3}], []]


def record(number: int, frames: int = 2, size: int = 64, labels=None, objects=None) -> bytes:
    """Returns the record of a story whose frames are grey, of level `number`."""
    png = tf.io.encode_png(np.full([size, size, 3], number, np.uint8)).numpy()
    sentences = [f"sentence {frame}" for frame in range(frames)]
    example = example_schema.story_example(f"story-{number:03d}", sentences, [png] * frames, labels, objects)
    return example.SerializeToString()


@pytest.fixture
def artifact(tmp_path):
    """Returns a function that writes files of records as the split `test` of an artifact."""

    def write(*files, label_names=()):
        folder = tmp_path / "examples" / "Split-test"
        folder.mkdir(parents=True)
        for index, records in enumerate(files):
            with tf.io.TFRecordWriter(str(folder / f"{index}.gz"), "GZIP") as writer:
                for content in records:
                    writer.write(content)
        if label_names:
            (folder.parent / example_schema.LABELS_FILE).write_text(json.dumps(label_names))
        return folder.parent

    return write


def grey_levels(batch) -> list[int]:
    return batch.images[:, 0, 0, 0, 0].tolist()


def test_stories_are_read_in_any_order(artifact):
    stories = open_split(artifact([record(5), record(1), record(7)], [record(3)]), "test")
    assert stories.ids == ["story-001", "story-003", "story-005", "story-007"]
    assert (len(stories), stories.frames, stories.has_objects) == (4, 2, False)
    batch = stories.read(np.array([2, 0, 1, 2]))
    assert batch.ids == ["story-005", "story-001", "story-003", "story-005"]
    assert grey_levels(batch) == [5, 1, 3, 5]
    assert batch.sentences == [["sentence 0", "sentence 1"]] * 4
    assert (batch.images.dtype, batch.images.shape) == (np.uint8, (4, 2, 64, 64, 3))
    assert (batch.labels, batch.objects) == (None, None)


def test_batches(artifact):
    stories = open_split(artifact([record(number) for number in range(5)]), "test")
    assert [grey_levels(batch) for batch in stories.batches([4, 3, 2, 1, 0], size=2)] == [[4, 3], [2, 1], [0]]
    assert list(stories.batches([])) == []


def test_labels_and_objects(artifact):
    labels = [[0, 1, 0], [1, 1, 0]]
    examples = artifact([record(1, labels=labels, objects=OBJECTS)], label_names=["red", "blue", "cube"])
    stories = open_split(examples, "test")
    assert (stories.label_names, stories.has_objects) == (("red", "blue", "cube"), True)
    batch = stories.read([0])
    assert batch.labels.dtype == bool
    np.testing.assert_array_equal(batch.labels[0], labels)
    assert batch.objects == [OBJECTS]


def test_objects_are_read_only_if_all_stories_have_them(artifact):
    stories = open_split(artifact([record(1, objects=OBJECTS), record(2)]), "test")
    assert not stories.has_objects
    assert stories.read([0]).objects is None


def test_a_reader_can_be_sent_to_another_process(artifact):
    stories = open_split(artifact([record(1), record(2)]), "test")
    assert grey_levels(pickle.loads(pickle.dumps(stories)).read([1])) == [2]


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "found no story"),
        ([record(1), record(1)], "found story 'story-001' twice"),
        ([record(1), record(2, frames=3)], "story-002: found 3 frames, expected 2 as in story-001"),
    ],
)
def test_unusable_records_are_refused(artifact, records, words):
    with pytest.raises(DataError, match=words):
        open_split(artifact(records), "test")


def test_a_missing_split_is_refused(tmp_path):
    with pytest.raises(DataError, match="found no records of split 'train'"):
        open_split(tmp_path, "train")


def test_a_truncated_file_is_refused(artifact):
    examples = artifact([record(number) for number in range(9)])
    (file,) = examples.glob("Split-test/*")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged"):
        open_split(examples, "test")


def test_a_frame_of_another_size_is_refused(artifact):
    stories = open_split(artifact([record(1, size=32)]), "test")
    with pytest.raises(DataError, match="story-001: found a frame of 32x32 pixels, expected 64x64"):
        stories.read([0])


def test_a_record_without_labels_is_refused(artifact):
    examples = artifact([record(1, labels=[[1], [0]]), record(2)], label_names=["red"])
    with pytest.raises(DataError, match=r"stories story-001 to story-002: .* labels \['red'\]"):
        open_split(examples, "test").read([0, 1])


def test_read_json(tmp_path):
    assert read_json(str(tmp_path / "missing.json")) is None
    (tmp_path / "file.json").write_text("[1]")
    assert read_json(str(tmp_path / "file.json")) == [1]


def test_files_can_be_named(artifact):
    (file,) = artifact([record(1)]).glob("Split-test/*")
    assert StoryRecords([file]).ids == ["story-001"]
