"""The frozen judge of `blocks` is small, right on new stories, and detects nothing in the empty background."""

from __future__ import annotations

import numpy as np
import pytest

from storygan_tf.data.blocks import clevr
from storygan_tf.data.datasets import open_dataset
from storygan_tf.data.datasets.story import load_frame
from storygan_tf.evaluation.judge.judge import BLOCKS, load_judge
from storygan_tf.evaluation.judge.judge_training import judge_metrics

MAX_BYTES = 2 * 10**6


@pytest.fixture(scope="module")
def judge():
    return load_judge(BLOCKS)


def test_it_is_at_most_two_megabytes():
    files = [path for path in BLOCKS.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".pb", ".json", ".index", ".data-00000-of-00001"}
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


def test_it_detects_the_labels_and_attributes_of_blocks(judge):
    assert judge.description == "the frozen judge of blocks"
    assert judge.label_names == tuple(sorted(clevr.LABELS))
    assert judge.attributes == {
        "shape": tuple(sorted(clevr.SHAPES)),
        "colour": tuple(sorted(clevr.COLOURS)),
        "size": tuple(sorted(clevr.SIZES)),
    }
    assert judge.held_out["label_f1"] > 0.95
    assert judge.held_out["placed_accuracy"] > 0.95


def test_it_detects_nothing_on_the_empty_background(judge):
    background = judge.networks.labels.background.numpy()
    assert not judge.judge_frames(background[np.newaxis])[0].any()
    grain = np.random.default_rng(1).normal(0, 5, (20, *background.shape))
    assert judge.judge_frames((background + grain).clip(0, 255).astype(np.uint8))[0].mean() < 0.01


def test_it_is_right_on_new_stories_and_detects_nothing_in_the_background(judge, tmp_path):
    pytest.importorskip("mitsuba", reason="the extra `render` is not installed")
    from storygan_tf.data.blocks.render import render_blocks

    render_blocks(tmp_path / "data", 0, 6, seed=20_231, workers=2)
    dataset = open_dataset(tmp_path / "data")
    stories = list(dataset.stories())
    images = np.stack([[load_frame(path) for path in story.images] for story in stories])
    labels = np.array([[[name in frame for name in judge.label_names] for frame in story.labels] for story in stories])
    objects = [story.objects for story in stories]
    metrics = judge_metrics(judge, images, labels, objects)
    assert metrics["label_f1"] >= 0.95
    assert metrics["placed_accuracy"] >= 0.9
    empty = np.broadcast_to(judge.networks.labels.background.numpy(), images.shape)
    floor = judge_metrics(judge, empty, labels, objects)
    assert floor["label_f1"] < 0.01
    assert floor["placed_accuracy"] < 0.15
