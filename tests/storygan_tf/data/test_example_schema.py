"""Stories are the same after they are written as records and read again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.data import example_schema

IMAGES = [tf.io.encode_png(np.full([64, 64, 3], grey, np.uint8)).numpy() for grey in (0, 90, 255)]
SENTENCES = ["A red cube.", "Ein gruener Wuerfel.", "\u4e00\u4e2a\u7ea2\u8272\u7684\u7acb\u65b9\u4f53"]


def parse(example: tf.train.Example, **arguments) -> dict[str, np.ndarray]:
    spec = example_schema.feature_spec(3, **arguments)
    return {
        name: value.numpy() for name, value in tf.io.parse_single_example(example.SerializeToString(), spec).items()
    }


def test_round_trip_of_a_story():
    labels = [[0, 1], [1, 1], [0, 0]]
    objects = [[{"shape": "cube", "x": 3}], [], [{"shape": "sphere", "x": 4.5}]]
    example = example_schema.story_example("story-1", SENTENCES, IMAGES, labels, objects)
    found = parse(example, label_count=2, objects=True)
    assert found[example_schema.STORY_ID] == b"story-1"
    assert [text.decode() for text in found[example_schema.SENTENCES]] == SENTENCES
    assert list(found[example_schema.IMAGES]) == IMAGES
    np.testing.assert_array_equal(found[example_schema.LABELS], labels)
    assert [json.loads(text) for text in found[example_schema.OBJECTS]] == objects


def test_unknown_features_are_left_out():
    example = example_schema.story_example("story-1", SENTENCES, IMAGES)
    assert set(example.features.feature) == {"story_id", "sentences", "images"}
    assert set(parse(example)) == {"story_id", "sentences", "images"}


def test_the_same_story_gives_the_same_bytes():
    one, other = (
        example_schema.story_example("a", SENTENCES, IMAGES, [[1]] * 3, [[{"b": 1, "a": 2}]] * 3).SerializeToString(
            deterministic=True
        )
        for _ in range(2)
    )
    assert one == other


def test_vectors_of_transform_are_read_by_frame():
    example = example_schema.story_example("a", SENTENCES, IMAGES)
    example.features.feature[example_schema.VECTORS].float_list.value.extend(range(6))
    np.testing.assert_array_equal(parse(example, sentence_size=2)[example_schema.VECTORS], [[0, 1], [2, 3], [4, 5]])


@pytest.mark.parametrize("arguments", [{"label_count": 2}, {"sentence_size": 4}, {"objects": True}])
def test_a_record_without_an_expected_feature_fails(arguments):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Feature: "):
        parse(example_schema.story_example("a", SENTENCES, IMAGES), **arguments)
