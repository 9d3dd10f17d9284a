"""The order of the stories, and the mini-batches of a training."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from storygan_tf.common.errors import TrainingError
from storygan_tf.config.schema import PhaseConfig
from storygan_tf.data.stories import Stories
from storygan_tf.data.training_input import STREAMS, StreamSeeds, shuffled_indices, training_dataset, validation_dataset
from storygan_tf.training.distribution import local_replica_ids

PHASE = PhaseConfig(image_batch=4, story_batch=6, image_steps=2, story_steps=3)


# Order


def taken(count: int, key: list[int], start: int, size: int) -> list[int]:
    """Returns the stories at positions `start` to `start + size` of the sequence of a key."""
    seed = StreamSeeds.of(key, "story").order
    return shuffled_indices(tf.range(start, start + size, dtype=tf.int64), count, seed).numpy().tolist()


def test_the_order_is_that_of_tensorflows_index_shuffle():
    seed = StreamSeeds.of([4], "story").order
    one_by_one = [tf.random.experimental.index_shuffle(index, [seed, 3], 11) for index in range(12)]
    assert taken(12, [4], 36, 12) == [int(index) for index in one_by_one]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.lists(st.integers(0, 2**40), min_size=1, max_size=4), st.integers(0, 5))
def test_each_story_once_an_epoch(count, key, epoch):
    assert sorted(taken(count, key, epoch * count, count)) == list(range(count))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(0, 100), st.integers(0, 50))
def test_any_position_can_be_taken(count, start, size):
    assert taken(count, [3, 1], start, size) == taken(count, [3, 1], 0, start + size)[start:]


def test_epochs_streams_and_keys_differ():
    assert taken(50, [1, 2], 0, 50) != taken(50, [1, 2], 50, 50)
    assert taken(50, [1, 2], 0, 50) != taken(50, [1, 3], 0, 50)
    assert taken(50, [1, 2], 0, 50) == taken(50, [1, 2], 0, 50)
    assert len({seed for stream in STREAMS for seed in StreamSeeds.of([1, 2], stream)}) == 6


def test_the_order_of_an_epoch_says_nothing_about_that_of_the_next():
    """The rank correlation of independent orders has a standard deviation of 1 / sqrt(n - 1), here 0.022."""
    one, other = np.argsort(taken(2000, [5], 0, 2000)), np.argsort(taken(2000, [5], 2000, 2000))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.09
    assert abs(np.corrcoef(one, np.arange(2000))[0, 1]) < 0.09
    together = np.abs(one[1:] - one[:-1]) < 40  # neighbours by id that are close to each other
    assert together.mean() < 0.08  # 0.04 by chance


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


@pytest.mark.parametrize(("replicas", "workers"), [(1, 1), (2, 1), (4, 2)])
def test_validation_takes_each_story_once_whatever_the_replicas(stories, replicas, workers):
    """Thirty stories in batches of eight: two of the last batch only complete it."""
    parts = []
    for worker in range(workers):
        context = tf.distribute.InputContext(workers, worker, num_replicas_in_sync=replicas)
        ids = local_replica_ids(context)
        data = validation_dataset(stories, 8, replicas=replicas, replica_ids=ids)
        assert data.element_spec["weight"].shape == [8 // replicas]
        parts += list(data.as_numpy_iterator())
    assert len(parts) == 4 * replicas
    drawn = [
        (number, int(seed), weight)
        for part in parts
        for number, seed, weight in zip(
            numbers_of(part["stories"]), part["stories"]["seed"], part["weight"], strict=True
        )
    ]
    assert sorted(entry for entry in drawn if entry[2]) == [(number, number, 1.0) for number in range(30)]
    assert len(drawn) == 32


def test_a_validation_batch_that_cannot_be_shared_is_refused(stories):
    with pytest.raises(TrainingError, match="validation batch: found 8, expected a multiple of 3"):
        validation_dataset(stories, 8, replicas=3)


def test_more_stories_in_a_batch_than_there_are(stories):
    phase = PhaseConfig(schedule="pixel", story_batch=70, l1_weight=1.0)
    (step,) = steps(stories, 0, 1, phase)
    counts = np.bincount(numbers_of(step["story"][0]), minlength=30)
    assert set(counts) <= {2, 3}
