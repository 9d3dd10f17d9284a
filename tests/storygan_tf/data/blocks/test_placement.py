"""The scenes and sentences of `blocks`, the rendered data set."""

from __future__ import annotations

import math
import re
from collections import defaultdict

import numpy as np
import pytest

from storygan_tf.data.blocks import clevr, placement
from storygan_tf.data.blocks.clevr import SceneObject
from storygan_tf.data.blocks.placement import hidden_part, story_objects
from storygan_tf.data.blocks.sentences import place_in_words, story_sentences

STORIES = [story_objects(1, index) for index in range(200)]
SENTENCES = [story_sentences(items, index) for index, items in enumerate(STORIES)]


def test_a_story_depends_on_seed_and_number_alone():
    assert story_objects(1, 7) == STORIES[7]
    assert story_objects(2, 7) != STORIES[7]
    assert len(set(STORIES)) == len(STORIES)


def test_objects_stand_on_the_lattice_and_the_table():
    for item in (item for items in STORIES for item in items):
        right, back = item.steps
        assert (item.x, item.y) == clevr.place(right, back)
        assert max(abs(right), abs(back)) <= 6
        assert max(abs(item.x), abs(item.y)) <= 3


def test_every_step_each_way_occurs():
    steps = np.array([item.steps for items in STORIES for item in items])
    assert set(steps[:, 0]) == set(steps[:, 1]) == set(range(-6, 7))


def test_every_attribute_occurs():
    labels = {label for items in STORIES for label in clevr.labels_of(items)}
    assert labels == set(clevr.LABELS)


def test_objects_do_not_touch():
    for items in STORIES:
        for index, one in enumerate(items):
            for other in items[:index]:
                assert math.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius + 0.2


def test_no_object_is_hidden_for_the_most_part():
    assert max(hidden_part(item, items) for items in STORIES for item in items) <= placement.MAX_HIDDEN


def test_objects_behind_others_are_hidden():
    front = SceneObject("cube", "red", "rubber", "large", *clevr.place(0, -2))
    behind = SceneObject("sphere", "red", "rubber", "small", *clevr.place(0, 0))
    right = SceneObject("sphere", "red", "rubber", "small", *clevr.place(5, 0))
    assert hidden_part(behind, [front]) > 0.5
    assert hidden_part(front, [behind]) == 0
    assert hidden_part(right, [front]) == 0


def test_every_object_is_in_the_frame():
    for item in (item for items in STORIES for item in items):
        x, y, radius = clevr.project(item)
        assert radius < x < 64 - radius
        assert 1.3 * radius < y < 64 - 1.3 * radius


def test_positions_in_words_are_unique():
    steps = range(-9, 10)
    words = {place_in_words(right, back) for right in steps for back in steps}
    assert len(words) == 19 * 19
    assert place_in_words(-3, 2) == "three left and two back of the middle"
    assert place_in_words(0, 0) == "centred and midway on the table"
    assert place_in_words(12, 0) == "12 right and midway on the table"


def test_sentences_give_attributes_and_position():
    synonyms = {
        "large": "large|big",
        "small": "small|tiny",
        "metal": "metal|shiny",
        "rubber": "rubber|matte",
        "cube": "cube|block",
        "sphere": "sphere|ball",
        "cylinder": "cylinder|tube",
    }
    for items, sentences in zip(STORIES, SENTENCES, strict=True):
        for item, sentence in zip(items, sentences, strict=True):
            names = (item.size, item.colour, item.material, item.shape)
            description = " ".join(f"({synonyms.get(name, name)})" for name in names)
            assert re.search(rf"\ba {description}\b.* {place_in_words(*item.steps)}\.$", sentence, re.IGNORECASE)


def test_sentences_have_several_wordings_and_synonyms():
    wordings = defaultdict(int)
    for sentence in (sentence for sentences in SENTENCES for sentence in sentences):
        wordings[sentence.split()[0]] += 1
    assert set(wordings) == {"A", "There", "We", "Here"}
    words = set(" ".join(sentence for sentences in SENTENCES for sentence in sentences).split())
    assert {"large", "big", "small", "tiny", "metal", "shiny", "rubber", "matte", "block", "ball", "tube"} <= words


def test_the_wording_depends_on_the_number_alone():
    assert story_sentences(STORIES[3], 3) == SENTENCES[3]
    assert story_sentences(STORIES[3], 4) != SENTENCES[3]


@pytest.mark.parametrize("back", [-7, -1, 0, 3])
@pytest.mark.parametrize("right", [-5, 0, 6])
def test_steps_are_rounded_to_the_nearest(right, back):
    x, y = clevr.place(right, back)
    assert SceneObject("cube", "red", "metal", "small", x + 0.1, y - 0.1).steps == (right, back)
