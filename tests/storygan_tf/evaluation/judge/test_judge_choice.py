"""The judge of a data set: the frozen one, a trained one, a configured one, or none with the reason."""

from __future__ import annotations

import dataclasses

import pytest

from storygan_tf.common.errors import DataError, ModelError
from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.data.datasets.open_dataset import BLOCKS as BLOCKS_SOURCE
from storygan_tf.evaluation.judge.judge import BLOCKS, load_judge, read_judge, save_judge
from storygan_tf.evaluation.judge.judge_choice import choose_judge

SETTINGS = EvaluationConfig(classifier_epochs=1)


@pytest.fixture
def choose(tmp_path):
    """Returns a function that chooses a judge and reads what was written."""

    def choose(examples, progress=None, **changes):
        choose_judge(examples, dataclasses.replace(SETTINGS, **changes), tmp_path / "out", progress)
        return read_judge(tmp_path / "out")

    return choose


@pytest.fixture(scope="session")
def frozen():
    return load_judge(BLOCKS)


def test_the_judge_of_blocks_is_the_frozen_one(choose, write_examples, frozen):
    examples = write_examples(source=BLOCKS_SOURCE, labels=False)
    judge, _ = choose(examples)
    assert judge.sha256 == frozen.sha256
    assert judge.description == frozen.description == "the frozen judge of blocks"


@pytest.mark.slow
def test_a_judge_is_trained_for_blocks_with_other_labels(choose, write_examples):
    judge, _ = choose(write_examples(source=BLOCKS_SOURCE))
    assert judge.label_names == ("blue", "green", "red", "large")


def test_a_judge_of_other_data_is_trained_as_configured(choose, write_examples):
    passes, examples = [], write_examples(count=12)
    judge, reason = choose(examples, lambda *counts: passes.append(counts), classifier_stories=9, classifier_epochs=2)
    assert reason == ""
    assert judge.description == "trained on 24 frames of the data set's training stories"
    assert judge.held_out.keys() == {"label_f1", "frame_accuracy", "placed_accuracy", "training_frames"}
    assert passes == [(1, 2), (2, 2)]
    other, _ = choose(examples, classifier_stories=9, classifier_epochs=2, seed=2)
    assert judge.sha256 != other.sha256


@pytest.mark.slow
def test_a_judge_is_trained_on_blocks_if_configured(choose, write_examples):
    judge, _ = choose(write_examples(source=BLOCKS_SOURCE, labels=False), judge="train")
    assert judge.description.startswith("trained on")
    assert judge.attributes["shape"] == ("disc", "square")


def test_a_configured_judge_is_not_changed(choose, write_examples, judge, tmp_path):
    save_judge(judge, tmp_path / "given")
    examples = write_examples()
    found, _ = choose(examples, judge=str(tmp_path / "given"))
    assert found.sha256 == judge.sha256
    assert found.description == f"given by evaluation.judge: {judge.description}"
    (tmp_path / "out").rename(tmp_path / "again")
    assert choose(examples, judge=str(tmp_path / "again"))[0].description == found.description


def test_a_configured_judge_of_other_labels_is_refused(choose, write_examples):
    with pytest.raises(
        ModelError, match=r"evaluation.judge .*blocks: detects the labels \['blue', 'brown', "
    ) as caught:
        choose(write_examples(), judge=str(BLOCKS))
    assert "expected those of the data: ['blue', 'green', 'red', 'large']" in str(caught.value)


def test_a_configured_judge_of_labels_may_judge_data_without_labels(choose, write_examples, frozen):
    assert choose(write_examples(labels=False), judge=str(BLOCKS))[0].sha256 == frozen.sha256


def test_a_path_without_a_judge_is_refused(choose, write_examples, tmp_path):
    with pytest.raises(ModelError, match=f"judge {tmp_path}: is no usable judge"):
        choose(write_examples(), judge=str(tmp_path))


@pytest.mark.parametrize(
    ("examples", "settings", "reason"),
    [
        ({"labels": False, "objects": False}, {}, "the data has neither labels nor objects"),
        ({"count": 7}, {}, "7 training stories are too few to train a judge (at least 8)"),
        ({}, {"classifier_stories": 5}, "5 training stories are too few to train a judge (at least 8)"),
    ],
)
def test_the_reason_why_no_judge_can_be_trained_is_saved(choose, write_examples, examples, settings, reason):
    assert choose(write_examples(**examples), **settings) == (None, reason)


def test_labels_or_objects_are_enough(choose, write_examples):
    judge, _ = choose(write_examples(objects=False))
    assert (judge.label_names, judge.attributes) == (("blue", "green", "red", "large"), {})


def test_examples_without_training_stories_are_an_error(choose, tmp_path):
    with pytest.raises(DataError, match="found no records of split 'train'"):
        choose(str(tmp_path))
