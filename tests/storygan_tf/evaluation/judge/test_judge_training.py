"""A judge learns labels and places, repeatably, and detects nothing in the background."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from storygan_tf.evaluation.judge.judge_training import judge_metrics, train_judge, untrainable_reason


def test_it_learns_from_few_frames_and_its_held_out_metrics_are_right(judge, others):
    metrics = judge_metrics(judge, others.images, others.labels, others.objects)
    assert metrics["label_f1"] > 0.9
    assert metrics["placed_accuracy"] > 0.85
    assert set(judge.held_out) == {*metrics, "training_frames"}
    for name, value in metrics.items():
        assert judge.held_out[name] == pytest.approx(value, abs=0.15)


def test_one_story_of_eight_is_held_out(judge):
    assert judge.held_out["training_frames"] == 3 * 49
    assert judge.description == "trained on 147 frames of the data set's training stories"


def test_its_attributes_are_those_of_the_data(judge):
    assert judge.attributes == {
        "shape": ("disc", "square"),
        "colour": ("blue", "green", "red"),
        "size": ("large", "small"),
    }
    assert judge.label_names == ("blue", "green", "red", "large")


def test_it_detects_nothing_in_the_background(judge, others, background):
    empty = np.broadcast_to(background, others.images.shape)
    metrics = judge_metrics(judge, empty, others.labels, others.objects)
    assert metrics["label_f1"] == metrics["frame_accuracy"] == 0
    assert metrics["placed_accuracy"] < 0.25


@pytest.mark.parametrize("size", [64, 8])
def test_noise_is_not_detected_as_an_object(judge, background, size):
    """Generated frames have fine or coarse noise, which true frames do not have."""
    grain = np.random.default_rng(1).normal(0, 9, (20, size, size, 3)).repeat(64 // size, 1).repeat(64 // size, 2)
    frames = (background + grain).clip(0, 255).astype(np.uint8)
    assert judge.judge_frames(frames)[0].mean() < 0.05


def test_objects_are_classified_at_their_places(judge, others):
    """Other stories have the same kinds of objects, elsewhere."""
    other = judge_metrics(judge, np.roll(others.images, 1, axis=0), others.labels, others.objects)
    assert other["placed_accuracy"] < 0.3


def test_an_object_of_an_unknown_kind_is_never_right(judge, others):
    strange = [[[item | {"colour": "mauve"} for item in frame] for frame in story] for story in others.objects]
    assert judge_metrics(judge, others.images, None, strange) == {"placed_accuracy": 0}


def test_features_vary_by_100_over_the_training_frames_and_distinguish_bad_frames(judge, stories, others, background):
    frames = stories.images.reshape(-1, 64, 64, 3)
    _, features = judge.judge_frames(frames)
    assert features.shape == (len(frames), 96)
    assert features.dtype == np.float32
    assert features.var(axis=0).sum() == pytest.approx(100, rel=0.1)
    real = judge.judge_frames(others.images.reshape(-1, 64, 64, 3))[1]
    empty = judge.judge_frames(background[np.newaxis])[1]
    distances = [np.square(features.mean(axis=0) - shown.mean(axis=0)).sum() for shown in (real, empty)]
    assert distances[1] > 10 * distances[0]


@pytest.mark.slow
def test_the_same_arguments_give_the_same_judge(quick_judge):
    first, second = quick_judge(), quick_judge(again=True)
    assert first is not second
    assert first.sha256 == second.sha256


def test_labels_alone(quick_judge, others):
    judge = quick_judge(objects=False)
    assert judge.attributes == {}
    assert set(judge.held_out) == {"label_f1", "frame_accuracy", "training_frames"}
    assert judge.classify_objects(others.images[0], np.zeros((2, 2), np.float32), np.zeros(2, np.int64)) == {}


def test_objects_alone_still_give_features(quick_judge, others):
    judge = quick_judge(labels=False, without=("size",))
    assert set(judge.held_out) == {"placed_accuracy", "training_frames"}
    assert list(judge.attributes) == ["shape", "colour"]
    detected, features = judge.judge_frames(others.images[0])
    assert detected.shape == (3, 0)
    assert features.any()
    classified = judge.classify_objects(others.images[0], np.full((2, 2), 32, np.float32), np.array([2, 0]))
    assert {name: indices.shape for name, indices in classified.items()} == {"shape": (2,), "colour": (2,)}


def test_unusable_training_stories_are_refused(quick_judge, stories, background):
    with pytest.raises(ValueError, match="7 training stories are too few to train a judge \\(at least 8\\)"):
        quick_judge(count=7)
    with pytest.raises(ValueError, match="neither labels nor objects"):
        quick_judge(labels=False, objects=False)
    with pytest.raises(ValueError, match=r"found labels \(56, 3, 4\), expected \(56, 3, 1\)"):
        train_judge(stories.images, stories.labels, ("red",), None, background, 1, 1)


def test_untrainable_reason(stories):
    assert (
        untrainable_reason(56, (), [[[], []]])
        == untrainable_reason(3, (), None)
        == "the data has neither labels nor objects"
    )
    assert untrainable_reason(7, ("red",), None).startswith("7 training stories are too few")
    assert untrainable_reason(8, ("red",), None) == untrainable_reason(8, (), stories.objects) == ""


def test_the_hash_depends_on_held_out_metrics_but_not_on_the_description(judge):
    assert dataclasses.replace(judge, held_out={}).sha256 != judge.sha256
    assert dataclasses.replace(judge, description="another name").sha256 == judge.sha256
