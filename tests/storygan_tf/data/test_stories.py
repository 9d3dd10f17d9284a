"""Records are decoded into memory, or copied into a file from which any story can be read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import PhaseConfig, StoryGANConfig
from storygan_tf.data import example_schema, indexed_stories
from storygan_tf.data.indexed_stories import IndexedStories, index_records
from storygan_tf.data.stories import Stories, read_stories
from storygan_tf.data.training_input import training_dataset
from storygan_tf.text.tokenization import words

CONFIG = StoryGANConfig(frames=2, sentence_size=3)


# Reading


def example(number: int, frames: int = 2, size: int = 64, labels=None) -> bytes:
    pictures = [tf.io.encode_png(np.full([size, size, 3], number + n, np.uint8)).numpy() for n in range(frames)]
    sentences = [f"s{n} \u00e9" for n in range(frames)]
    story = example_schema.story_example(f"story-{number:03d}", sentences, pictures, labels)
    story.features.feature[example_schema.VECTORS].float_list.value.extend(np.arange(3 * frames) + number)
    return story.SerializeToString()


def write(path: Path, examples: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for one in examples:
            writer.write(one)
    return path


def test_stories_are_read_in_the_order_of_their_ids(tmp_path):
    paths = [write(tmp_path / "a.gz", [example(5), example(2)]), write(tmp_path / "b.gz", [example(9), example(0)])]
    stories = read_stories(paths, CONFIG)
    assert stories.ids == ["story-000", "story-002", "story-005", "story-009"]
    assert stories.sentences == [["s0 \u00e9", "s1 \u00e9"]] * 4
    assert (stories.images.shape, stories.images.dtype) == ((4, 2, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(stories.images[:, 0, 0, 0, 0], [0, 2, 5, 9])
    np.testing.assert_array_equal(stories.images[:, 1, 63, 63, 2], [1, 3, 6, 10])
    np.testing.assert_array_equal(stories.vectors[1], [[2, 3, 4], [5, 6, 7]])
    assert stories.vectors.dtype == np.float32


def test_a_limit_takes_the_first_by_id(tmp_path):
    path = write(tmp_path / "a.gz", [example(n) for n in (7, 1, 4)])
    assert read_stories([path], CONFIG, limit=2).ids == ["story-001", "story-004"]


def test_labels_are_read_if_the_model_has_labels(tmp_path):
    path = write(tmp_path / "a.gz", [example(2, labels=[[0, 0, 1], [1, 0, 1]]), example(1, labels=[[0, 1, 0]] * 2)])
    labels = read_stories([path], dataclasses.replace(CONFIG, labels=3)).labels
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[[0, 1, 0], [0, 1, 0]], [[0, 0, 1], [1, 0, 1]]]
    assert read_stories([path], CONFIG).labels.shape == (2, 2, 0)


def test_another_number_of_labels_is_refused(tmp_path):
    path = write(tmp_path / "a.gz", [example(2, labels=[[0, 1], [1, 0]])])
    with pytest.raises(DataError, match=r"and 3 labels \(model.frames, model.sentence_size, model.labels\)"):
        read_stories([path], dataclasses.replace(CONFIG, labels=3))


def test_the_first_stories_are_a_part_of_each_field(tmp_path):
    path = write(tmp_path / "a.gz", [example(n, labels=[[1], [0]]) for n in range(3)])
    first = read_stories([path], dataclasses.replace(CONFIG, labels=1)).first(2)
    assert [len(getattr(first, field.name)) for field in dataclasses.fields(first)] == [2] * 5
    assert first.ids == ["story-000", "story-001"]


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([], "no story found"),
        (
            [example(1, frames=3)],
            r"expected stories of 2 frames, vectors of 3 and 0 labels \(model.frames",
        ),
        ([example(1), example(2, size=32)], "32,32,3"),
    ],
)
def test_records_that_do_not_fit_are_refused(tmp_path, examples, words):
    path = write(tmp_path / "a.gz", examples)
    with pytest.raises(DataError, match=words):
        read_stories([path], CONFIG)


def test_a_damaged_picture_is_refused(tmp_path):
    broken = example(1).replace(b"IHDR", b"IHAR")
    path = write(tmp_path / "a.gz", [example(0), broken])
    with pytest.raises(DataError, match=r"a\.gz"):
        read_stories([path], CONFIG)


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "a.gz", [example(n) for n in range(20)])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.gz"):
        read_stories([path], CONFIG)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"missing\.gz"):
        read_stories([tmp_path / "missing.gz"], CONFIG)


# Any story from a file


def fields(stories: Stories) -> list:
    return [getattr(stories, field.name) for field in dataclasses.fields(stories)]


def assert_equal(one: Stories, other: Stories) -> None:
    for a, b in zip(fields(one), fields(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def labelled() -> StoryGANConfig:
    return dataclasses.replace(CONFIG, labels=1)


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """Returns two files of seven stories, whose order is not that of their ids."""
    numbers = [[5, 2, 11], [9, 0, 7, 3]]
    return [
        write(tmp_path / f"{name}.gz", [example(n, labels=[[1], [n % 2]]) for n in part])
        for name, part in zip("ab", numbers, strict=True)
    ]


@pytest.fixture
def indexed(paths, labelled, tmp_path) -> IndexedStories:
    return index_records(paths, labelled, tmp_path / "work" / "records", words)


def test_indexed_stories_are_those_in_memory(paths, indexed, labelled):
    stories = read_stories(paths, labelled)
    assert (len(indexed), indexed.frames) == (7, 2)
    assert_equal(indexed.read(range(7)), stories)
    assert_equal(indexed.read([6, 0, 6]), stories.read([6, 0, 6]))
    assert indexed.words == ("s0", "s1", "\u00e9")


@pytest.mark.parametrize("schedule", ["algorithm1", "joint"])
def test_mini_batches_from_the_file_are_those_from_memory(paths, indexed, labelled, schedule):
    phase = PhaseConfig(schedule=schedule, image_batch=4, story_batch=2, image_steps=1, story_steps=2)
    arguments = {"phase": phase, "key": (7, 1), "start": 5, "steps": 6, "replicas": 2}
    from_file, from_memory = (
        training_dataset(stories, **arguments) for stories in (indexed, read_stories(paths, labelled))
    )
    assert from_file.element_spec == from_memory.element_spec
    pairs = list(zip(from_file.as_numpy_iterator(), from_memory.as_numpy_iterator(), strict=True))
    assert len(pairs) == 12
    for pair in pairs:
        one, other = map(tf.nest.flatten, pair)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_small_sets_are_held_in_memory(paths, indexed, labelled, monkeypatch):
    assert_equal(indexed.cached, read_stories(paths, labelled))
    monkeypatch.setattr(indexed_stories, "CACHED_BYTES", 7 * 2 * 64 * 64 * 3 - 1)
    assert indexed.cached is indexed


def test_records_are_copied_once(paths, indexed, labelled):
    """The same files are not copied again; files with other content are."""
    modified = (indexed.folder / "records.tfrecord").stat().st_mtime_ns
    again = index_records(paths, labelled, indexed.folder, words)
    assert again == indexed
    assert (indexed.folder / "records.tfrecord").stat().st_mtime_ns == modified
    write(paths[0], [example(n, labels=[[1], [0]]) for n in range(20, 40)])
    assert len(index_records(paths, labelled, indexed.folder, words)) == 24


def test_the_hash_depends_on_the_records(paths, indexed, labelled, tmp_path):
    write(paths[0], [example(5, labels=[[1], [0]])])
    assert index_records(paths, labelled, tmp_path / "other", words).sha256 != indexed.sha256


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no story found"),
        ([example(1, frames=3)], r"a\.gz: expected stories of 2 frames"),
        ([example(1), example(2, size=32)], "32,32,3"),
        ([example(0), example(1).replace(b"IHDR", b"IHAR")], r"a\.gz"),
    ],
)
def test_records_that_do_not_fit_leave_no_copy(tmp_path, records, message):
    path = write(tmp_path / "a.gz", records)
    with pytest.raises(DataError, match=message):
        index_records([path], CONFIG, tmp_path / "records", words)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.gz"]


def test_a_cut_copy_is_refused(indexed, labelled):
    offsets = indexed.folder / "offsets.npy"
    np.save(offsets, np.load(offsets)[:-1])
    with pytest.raises(DataError, match=r"offsets\.npy: found 6 stories, expected 7"):
        IndexedStories.open(indexed.folder, labelled)
    (indexed.folder / "summary.json").write_text(json.dumps({"stories": 6}))
    with pytest.raises(DataError, match="remove the folder and start again"):
        IndexedStories.open(indexed.folder, labelled)


def test_a_damaged_copy_is_refused(indexed):
    records = indexed.folder / "records.tfrecord"
    content = bytearray(records.read_bytes())
    content[-40] ^= 1
    records.write_bytes(content)
    with pytest.raises(DataError, match=r"records\.tfrecord"):
        indexed.read(range(len(indexed)))


def test_a_folder_that_cannot_be_written_is_named(paths, labelled, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be written"):
        index_records(paths, labelled, tmp_path / "file" / "records", words)
