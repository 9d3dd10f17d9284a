"""Stories in memory, their order, and the mini-batches of a training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from storygan_tf.common.errors import DataError, TrainingError
from storygan_tf.config.schema import PhaseConfig, StoryGANConfig
from storygan_tf.data import example_schema
from storygan_tf.data.training_input import EndlessShuffle, Stories, read_stories, training_dataset
from storygan_tf.training.distribution import local_replica_ids

CONFIG = StoryGANConfig(frames=2, sentence_size=3)
PHASE = PhaseConfig(image_batch=4, story_batch=6, image_steps=2, story_steps=3)


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


# Order


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.lists(st.integers(0, 2**40), min_size=1, max_size=4), st.integers(0, 5))
def test_each_story_once_an_epoch(count, key, epoch):
    taken = EndlessShuffle(count, key).take(epoch * count, count)
    assert sorted(taken) == list(range(count))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(0, 100), st.integers(0, 50))
def test_any_position_can_be_taken(count, start, size):
    whole = EndlessShuffle(count, [3, 1]).take(0, start + size)
    np.testing.assert_array_equal(EndlessShuffle(count, [3, 1]).take(start, size), whole[start:])


def test_epochs_and_keys_differ():
    order = EndlessShuffle(50, [1, 2])
    assert not np.array_equal(order.take(0, 50), order.take(50, 50))
    assert not np.array_equal(order.take(0, 50), EndlessShuffle(50, [1, 3]).take(0, 50))
    np.testing.assert_array_equal(order.take(0, 50), EndlessShuffle(50, [1, 2]).take(0, 50))


# Mini-batches


@pytest.fixture(scope="module")
def stories() -> Stories:
    """Returns stories; story n has the grey level n and the vector n everywhere."""
    numbers = np.arange(30)
    images = np.broadcast_to(numbers[:, None, None, None, None], [30, 2, 64, 64, 3]).astype(np.uint8)
    vectors = np.broadcast_to(numbers[:, None, None], [30, 2, 3]).astype(np.float32)
    return Stories([f"{n:02d}" for n in numbers], [["a", "b"]] * 30, images, vectors, np.zeros([30, 2, 0], np.uint8))


def steps(stories: Stories, start: int, count: int, phase: PhaseConfig = PHASE, key=(7, 0), replicas: int = 1) -> list:
    return list(training_dataset(stories, phase, key, start, count, replicas=replicas).as_numpy_iterator())


def assert_same(one, other) -> None:
    tf.nest.assert_same_structure(one, other)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_array_equal(a, b)


def numbers_of(batch) -> list[int]:
    return [int(image[0, 0, 0, 0]) for image in batch["images"]]


def test_a_step_holds_the_mini_batches_of_its_updates(stories):
    (step,) = steps(stories, 0, 1)
    assert [len(batch["seed"]) for batch in step["image"]] == [4, 4]
    assert [len(batch["seed"]) for batch in step["story"]] == [6, 6, 6]
    for batch in (*step["image"], *step["story"]):
        np.testing.assert_array_equal(batch["images"][:, 0, 0, 0, 0], batch["vectors"][:, 0, 0])
        assert {name: array.dtype.name for name, array in batch.items()} == {
            "images": "uint8",
            "vectors": "float32",
            "seed": "int64",
            "labels": "uint8",
            "frame": "int32",
        }
        assert set(batch["frame"]) <= {0, 1}
        assert len(set(batch["seed"])) == len(batch["seed"])


def test_the_pixel_schedule_has_no_image_updates(stories):
    phase = PhaseConfig(schedule="pixel", story_batch=5, l1_weight=1.0, image_batch=7)
    (step,) = steps(stories, 0, 1, phase)
    assert step["image"] == ()
    assert len(step["story"]) == 1


def test_later_steps_do_not_need_earlier_ones(stories):
    assert_same(steps(stories, 0, 9)[5:], steps(stories, 5, 4))


def test_no_python_runs_in_the_input_pipeline(stories):
    """Deleting an iterator makes Python wait for a thread of tf.data, which must not wait for Python."""
    data = tf.data.experimental.to_variant(training_dataset(stories, PHASE, (7, 0), 0, 2))
    serialized = tf.raw_ops.DatasetToGraphV2(input_dataset=data)
    graph = tf.compat.v1.GraphDef.FromString(serialized.numpy())
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    kinds = {node.op for node in nodes}
    assert "GatherV2" in kinds
    assert not [kind for kind in kinds if "PyFunc" in kind or "Generator" in kind]


def test_mini_batches_depend_on_seed_and_phase_only(stories):
    assert_same(steps(stories, 0, 2), steps(stories, 0, 2))
    for key in ((8, 0), (7, 1)):
        assert numbers_of(steps(stories, 0, 1)[0]["story"][0]) != numbers_of(
            steps(stories, 0, 1, key=key)[0]["story"][0]
        )


def test_the_two_streams_are_independent(stories):
    """Each stream draws all 30 stories in 15 batches of 2, in its own order and with its own noise."""
    phase = PhaseConfig(image_batch=2, story_batch=2)
    drawn = steps(stories, 0, 15, phase)
    orders = {
        stream: [number for step in drawn for number in numbers_of(step[stream][0])] for stream in ("image", "story")
    }
    assert sorted(orders["image"]) == sorted(orders["story"]) == list(range(30))
    assert orders["image"] != orders["story"]
    seeds = {stream: {int(seed) for step in drawn for seed in step[stream][0]["seed"]} for stream in orders}
    assert len(seeds["image"] | seeds["story"]) == 60


def test_all_frames_are_drawn_equally_often(stories):
    phase = PhaseConfig(image_batch=30, story_batch=1)
    frames = np.concatenate([step["image"][0]["frame"] for step in steps(stories, 0, 40, phase)])
    assert frames.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("replicas", [1, 2])
def test_replicas_parts_make_up_the_global_batch(stories, replicas):
    whole, parts = steps(stories, 3, 2), steps(stories, 3, 2, replicas=replicas)
    assert len(parts) == 2 * replicas
    for step in range(2):
        joined = tf.nest.map_structure(
            lambda *arrays: np.concatenate(arrays), *parts[step * replicas : (step + 1) * replicas]
        )
        assert_same(joined, whole[step])


@pytest.mark.parametrize("workers", [1, 2, 3, 6])
def test_workers_get_the_parts_of_their_own_replicas(stories, workers):
    phase = PhaseConfig(schedule="joint", image_batch=6, story_batch=12)
    everything = steps(stories, 4, 2, phase, replicas=6)
    for worker in range(workers):
        context = tf.distribute.InputContext(workers, worker, num_replicas_in_sync=6)
        replica_ids = local_replica_ids(context)
        data = training_dataset(stories, phase, (7, 0), 4, 2, replicas=6, replica_ids=replica_ids)
        expected = [everything[6 * step + replica] for step in range(2) for replica in replica_ids]
        for part, expected_part in zip(data.as_numpy_iterator(), expected, strict=True):
            assert_same(part, expected_part)


def test_shapes_are_static(stories):
    """TPUs require static shapes."""
    spec = training_dataset(stories, PHASE, (7, 0), 0, 1, replicas=2).element_spec
    assert all(part.shape.is_fully_defined() for part in tf.nest.flatten(spec))
    assert {part.shape[0] for part in tf.nest.flatten(spec["image"])} == {2}
    assert {part.shape[0] for part in tf.nest.flatten(spec["story"])} == {3}


@pytest.mark.parametrize(("stream", "size"), [("image", 4), ("story", 6)])
def test_a_batch_that_cannot_be_shared_is_refused(stories, stream, size):
    replicas = {"image": 3, "story": 4}[stream]
    words = f"training.phases.adversarial.{stream}_batch: found {size}, expected a multiple of {replicas}"
    with pytest.raises(TrainingError, match=words):
        training_dataset(stories, PHASE, (7, 0), 0, 1, replicas=replicas)


def test_a_batch_that_is_not_used_need_not_be_shared(stories):
    phase = PhaseConfig(schedule="pixel", story_batch=6, l1_weight=1.0, image_batch=7)
    assert len(steps(stories, 0, 1, phase, replicas=3)) == 3


def test_more_stories_in_a_batch_than_there_are(stories):
    phase = PhaseConfig(schedule="pixel", story_batch=70, l1_weight=1.0)
    (step,) = steps(stories, 0, 1, phase)
    counts = np.bincount(numbers_of(step["story"][0]), minlength=30)
    assert set(counts) <= {2, 3}
