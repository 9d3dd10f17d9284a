"""Objects are listed frame by frame, with the indices of their attributes' values."""

from __future__ import annotations

import numpy as np

from storygan_tf.evaluation.judge.placed_objects import PlacedObjects, attributes_of

RED = {"shape": "cube", "colour": "red", "material": "metal", "size": "large", "x": 1.5, "y": 2}
BLUE = {"shape": "cube", "colour": "blue", "material": "metal", "x": 30, "y": 40.25}
OBJECTS = [[[RED], [RED, BLUE]], [[], [BLUE]]]


def test_attributes_are_those_that_every_object_has():
    assert attributes_of(OBJECTS) == {"shape": ("cube",), "colour": ("blue", "red")}
    assert attributes_of([[[RED]]]) == {"shape": ("cube",), "colour": ("red",), "size": ("large",)}
    assert attributes_of([[[], []]]) == attributes_of(()) == {}


def test_objects_are_in_the_order_of_frames():
    placed = PlacedObjects.from_stories(OBJECTS, {"colour": ("green", "red"), "shape": ("cube",)})
    np.testing.assert_array_equal(placed.places, [[1.5, 2], [1.5, 2], [30, 40.25], [30, 40.25]])
    np.testing.assert_array_equal(placed.frame_of, [0, 1, 1, 3])
    np.testing.assert_array_equal(placed.values, [[1, 0], [1, 0], [-1, 0], [-1, 0]])


def test_no_objects_are_empty_arrays():
    placed = PlacedObjects.from_stories([[[], []]], {"colour": ("red",)})
    assert placed.places.shape == (0, 2)
    assert placed.frame_of.shape == (0,)
    assert placed.values.shape == (0, 1)
