"""Checkpoints: complete or absent, verified when read, and sufficient to continue a training to the bit."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.common.errors import TrainingError
from storygan_tf.config.schema import PhaseConfig
from storygan_tf.data.stories import Stories
from storygan_tf.data.training_input import training_dataset
from storygan_tf.training.checkpoints import CheckpointStore, TrainingCheckpoints
from storygan_tf.training.storygan import StoryGAN

PHASE = PhaseConfig(image_batch=4, story_batch=4, decay="linear")
PIXEL = PhaseConfig(schedule="pixel", story_batch=4, l1_weight=1.0)


class Numbers(tf.Module):
    def __init__(self, value: float, size: int = 1000) -> None:
        super().__init__()
        self.values = tf.Variable(np.full(size, value, np.float32))


@contextmanager
def no_room_for(size: int) -> Iterator[None]:
    """Limits the size of files to `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def damage(path: Path) -> None:
    """Flips one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def weights_file(checkpoint: Path) -> Path:
    (file,) = checkpoint.glob("weights.data-*")
    return file


def test_an_empty_store_has_none(tmp_path):
    assert CheckpointStore(tmp_path / "new" / "store").newest() is None


def test_save_and_restore(tmp_path):
    store = CheckpointStore(tmp_path)
    path = store.save(Numbers(3.0), 12, {"epochs": 4, "history": [{"l1": 0.5}]})
    found = CheckpointStore(tmp_path).newest()
    assert found == (path, {"epochs": 4, "history": [{"l1": 0.5}]})
    other = Numbers(0.0)
    store.restore(other, path)
    assert np.all(other.values == 3.0)


def test_the_newest_two_are_kept_in_the_order_of_their_numbers(tmp_path):
    store = CheckpointStore(tmp_path)
    for number in (8, 9, 10, 11):
        store.save(Numbers(number), number, {"number": number})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000010", "000000011"]
    assert store.newest()[1] == {"number": 11}


def test_a_number_can_be_saved_again(tmp_path):
    store = CheckpointStore(tmp_path)
    for value in (1.0, 2.0):
        path = store.save(Numbers(value), 5, {"value": value})
    restored = Numbers(0.0)
    store.restore(restored, path)
    assert np.all(restored.values == 2.0)


@pytest.mark.parametrize("part", ["weights", "index", "state", "state_gone", "extra"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(tmp_path, caplog, part):
    store = CheckpointStore(tmp_path)
    before = store.save(Numbers(1.0), 1, {"number": 1})
    newest = store.save(Numbers(2.0), 2, {"number": 2})
    if part == "state_gone":
        (newest / "state.json").unlink()
    elif part == "extra":
        (newest / "weights.data-00001-of-00002").write_bytes(b"")
    else:
        damage(
            {"weights": weights_file(newest), "index": newest / "weights.index", "state": newest / "state.json"}[part]
        )
    with caplog.at_level(logging.WARNING):
        assert store.newest() == (before, {"number": 1})
    assert f"checkpoint {newest} is damaged; the one before it is used" in caplog.text


@pytest.mark.parametrize("part", ["weights.data-00000-of-00001", "weights.index", "state.json"])
@pytest.mark.parametrize("left", [0.0, 0.5, 0.99, None])
def test_a_truncated_checkpoint_is_skipped(tmp_path, part, left):
    """Truncates the file to the fraction `left`, or removes it for None."""
    store = CheckpointStore(tmp_path)
    before = store.save(Numbers(1.0), 1, {"number": 1})
    file = store.save(Numbers(2.0), 2, {"number": 2}) / part
    content = file.read_bytes()
    file.unlink()
    if left is not None:
        file.write_bytes(content[: int(left * len(content))])
    assert store.newest() == (before, {"number": 1})


def test_every_flipped_bit_of_a_state_is_detected(tmp_path):
    store = CheckpointStore(tmp_path)
    before = store.save(Numbers(1.0), 1, {"number": 1})
    newest = store.save(Numbers(2.0), 2, {"number": 2, "history": [{"l1": 0.5}]})
    whole = store.newest()
    content = (newest / "state.json").read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 7)
        (newest / "state.json").write_bytes(flipped)
        # White space between values may change, and is no damage.
        assert store.newest() in (whole, (before, {"number": 1}))


@pytest.mark.parametrize("text", ["null", "[]", "3", '{"state": {}}', '{"sha256": {}, "state": {}}'])
def test_other_json_is_no_state(tmp_path, text):
    store = CheckpointStore(tmp_path)
    (store.save(Numbers(1.0), 1, {}) / "state.json").write_text(text)
    assert store.newest() is None


def test_when_all_are_damaged_there_is_none(tmp_path, caplog):
    store = CheckpointStore(tmp_path)
    for number in (1, 2):
        damage(weights_file(store.save(Numbers(number), number, {})))
    with caplog.at_level(logging.WARNING):
        assert store.newest() is None
    assert caplog.text.count("is damaged") == 2


def test_a_full_disk_is_an_error_and_leaves_older_checkpoints(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(Numbers(1.0), 1, {"number": 1})
    with no_room_for(2000), pytest.raises(TrainingError, match=r"000000002: could not be written .* Free some space"):
        store.save(Numbers(2.0), 2, {"number": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["000000001"]
    assert store.newest()[1] == {"number": 1}


def test_what_a_killed_save_left_is_not_a_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(Numbers(1.0), 1, {"number": 1})
    half = tmp_path / "writing-000000002"
    half.mkdir()
    (half / "weights.index").write_bytes(b"half")
    assert store.newest()[1] == {"number": 1}
    store.save(Numbers(2.0), 2, {"number": 2})
    assert not half.exists()
    assert store.newest()[1] == {"number": 2}


def test_half_a_checkpoint_of_another_number_is_cleared_away(tmp_path):
    (tmp_path / "writing-000000007").mkdir()
    CheckpointStore(tmp_path).save(Numbers(1.0), 1, {})
    assert [path.name for path in tmp_path.iterdir()] == ["000000001"]


def test_the_newest_of_all_and_the_newest_at_the_end_of_an_epoch(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path)
    for step, within in ((0, False), (1, True), (2, True)):
        path = checkpoints.save(Numbers(step), {"step": step}, within=within)
    assert checkpoints.newest() == (path, {"step": 2})
    assert checkpoints.newest_epoch() == (tmp_path / "000000001", {"step": 0})
    assert [each.name for each in path.parent.iterdir()] == ["000000003"]
    damage(weights_file(path))
    assert checkpoints.newest() == checkpoints.newest_epoch()
    assert checkpoints.save(Numbers(3.0), {"step": 3}, within=True).name == "000000004"


def test_the_end_of_an_epoch_removes_what_was_saved_within_it(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path)
    checkpoints.save(Numbers(1.0), {"step": 1}, within=True)
    path = checkpoints.save(Numbers(2.0), {"step": 0})
    assert path.name == "000000002"
    assert list((tmp_path / "within_epoch").iterdir()) == []


def test_a_checkpoint_within_an_epoch_is_not_used_after_its_end(tmp_path):
    """Simulates a kill between saving at the end of an epoch and removing the checkpoint within it."""
    checkpoints = TrainingCheckpoints(tmp_path)
    within = checkpoints.save(Numbers(1.0), {"step": 1}, within=True)
    within.rename(tmp_path / "elsewhere")
    path = checkpoints.save(Numbers(2.0), {"step": 0})
    (tmp_path / "elsewhere").rename(within)
    assert checkpoints.newest() == (path, {"step": 0})


def test_workers_read_what_the_chief_has_written(tmp_path):
    chief = TrainingCheckpoints(tmp_path / "shared")
    other = TrainingCheckpoints(tmp_path / "shared", tmp_path / "own")
    other.save(Numbers(1.0), {"by": "other"})
    assert other.newest() is None
    path = chief.save(Numbers(1.0), {"by": "chief"})
    assert other.newest() == (path, {"by": "chief"})
    restored = Numbers(0.0)
    other.restore(restored, path)
    assert np.all(restored.values == 1.0)


def test_another_model_is_refused(tmp_path, config):
    store = CheckpointStore(tmp_path)
    path = store.save(Numbers(1.0), 1, {})
    for other in (Numbers(0.0, size=7), tf.Module(), StoryGAN(config)):
        with pytest.raises(TrainingError, match="is of another model or schedule"):
            store.restore(other, path)


# With a StoryGAN


@pytest.fixture
def make_gan(config) -> Callable[..., StoryGAN]:
    def make(seed: int, phase: PhaseConfig = PHASE) -> StoryGAN:
        keras.utils.set_random_seed(seed)
        gan = StoryGAN(config)
        gan.compile(phase, steps=6, run_eagerly=True)
        return gan

    return make


def fit(gan: StoryGAN, stories: Stories, start: int, steps: int) -> dict[str, list[float]]:
    data = training_dataset(stories, gan.phase, (1, 0), start, steps)
    return gan.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False).history


def everything(gan: StoryGAN) -> list[np.ndarray]:
    slots = [variable for optimizer in gan.optimizers for variable in optimizer.variables]
    return [variable.numpy() for variable in (*gan.weights, *slots)]


@pytest.mark.parametrize(
    "phase", [PIXEL, pytest.param(PHASE, marks=pytest.mark.slow)], ids=lambda phase: phase.schedule
)
def test_a_resumed_training_is_the_undisturbed_one_to_the_bit(tmp_path, make_gan, stories, phase):
    """Weights, moving statistics, Adam's moments and counts, the learning rate's place: the next step is the same."""
    undisturbed = make_gan(1, phase)
    fit(undisturbed, stories, 0, 1)
    path = CheckpointStore(tmp_path).save(undisturbed, 1, {})
    expected = fit(undisturbed, stories, 1, 1)
    resumed = make_gan(2, phase)
    CheckpointStore(tmp_path).restore(resumed, path)
    assert fit(resumed, stories, 1, 1) == expected
    for one, other in zip(everything(undisturbed), everything(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_checkpoint_after_several_phases_holds_the_last_ones_optimizers(tmp_path, make_gan, stories):
    gan = make_gan(1, PIXEL)
    fit(gan, stories, 0, 1)
    gan.compile(PHASE, steps=6, run_eagerly=True)
    path = CheckpointStore(tmp_path).save(gan, 1, {})
    resumed = make_gan(2, PHASE)
    CheckpointStore(tmp_path).restore(resumed, path)
    assert [int(optimizer.iterations) for optimizer in resumed.optimizers] == [0, 0, 0]
    for one, other in zip(everything(gan), everything(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_background_is_saved_too(tmp_path, make_gan):
    gan = make_gan(1)
    gan.compile(PHASE, steps=6, background=np.full([64, 64, 3], 255, np.uint8), run_eagerly=True)
    path = CheckpointStore(tmp_path).save(gan, 1, {})
    other = make_gan(2)
    CheckpointStore(tmp_path).restore(other, path)
    assert np.all(other.background == 1.0)


def test_another_schedules_optimizers_are_refused(tmp_path, make_gan):
    """A constant learning rate is a variable of the optimizer; one that decreases over a phase is not."""
    path = CheckpointStore(tmp_path).save(make_gan(1, PHASE), 1, {})
    with pytest.raises(TrainingError, match="another model or schedule"):
        CheckpointStore(tmp_path).restore(make_gan(1, PIXEL), path)
