"""`story_objects`: chooses and places the four objects of a story of `blocks`, the rendered data set.

`blocks` is not CLEVR-SV, but its stories have the same attributes, grow from one to four objects, and are seen by the
same camera.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from storygan_tf.data.blocks import clevr
from storygan_tf.data.blocks.clevr import SceneObject

STEPS = 6
"""Largest number of steps from the middle in each direction; positions beyond the table's edge are not used."""

REACH = 3.0
"""Distance of the table's edge from the middle, along x and y."""

MARGIN = 0.25
"""Smallest gap between two objects."""

MAX_HIDDEN = 0.2
"""Largest part of an object that others may hide, from 0 to 1."""

_TALL = 1.25
"""Height divided by width of the outline of a cube or cylinder, as the camera sees it."""

_CORNER = 1.15
"""Distance of a cube's corner from its centre, in radii."""


def story_objects(seed: int, index: int) -> tuple[SceneObject, ...]:
    """Returns the four objects of a story, in the order in which they appear.

    A story depends only on the arguments, not on which other stories the data set has.

    Args:
        seed: seed of the data set.
        index: the story's number.
    """
    generator = np.random.default_rng([seed, index])
    while True:
        items = tuple(_random_object(generator) for _ in range(clevr.OBJECTS))
        if _apart(items) and _visible(items):
            return items


@functools.cache
def _places() -> tuple[tuple[float, float], ...]:
    """Returns the points (x, y) on the table at which objects may be placed."""
    steps = range(-STEPS, STEPS + 1)
    points = [clevr.place(right, back) for right in steps for back in steps]
    return tuple(point for point in points if max(map(abs, point)) <= REACH)


def _random_object(generator: np.random.Generator) -> SceneObject:
    x, y = _places()[generator.integers(len(_places()))]
    shape, colour, material, size = (
        names[generator.integers(len(names))] for names in (clevr.SHAPES, clevr.COLOURS, clevr.MATERIALS, clevr.SIZES)
    )
    return SceneObject(shape, colour, material, size, x, y)


def _apart(items: Sequence[SceneObject]) -> bool:
    """Returns whether there is a gap of at least `MARGIN` between any two objects."""
    pairs = ((one, other) for index, one in enumerate(items) for other in items[:index])
    return all(
        math.hypot(one.x - other.x, one.y - other.y) >= _CORNER * (one.radius + other.radius) + MARGIN
        for one, other in pairs
    )


def _visible(items: Sequence[SceneObject]) -> bool:
    """Returns whether at most `MAX_HIDDEN` of each object is hidden by the others."""
    return all(hidden_part(item, [other for other in items if other is not item]) <= MAX_HIDDEN for item in items)


def hidden_part(item: SceneObject, others: Sequence[SceneObject]) -> float:
    """Returns the part of an object, from 0 to 1, that objects nearer to the camera hide.

    The outlines of objects are approximated by ellipses and boxes.

    Args:
        item: the object.
        others: the other objects.
    """
    nearer = [other for other in others if _depth(other) < _depth(item)]
    centre, extent = _outline(item)
    inside = _points(item.shape) * extent + centre
    hidden = np.zeros(len(inside), bool)
    for other in nearer:
        centre, extent = _outline(other)
        hidden |= _is_inside(other.shape, (inside - centre) / extent)
    return float(hidden.mean())


def _depth(item: SceneObject) -> float:
    """Returns the distance of an object from the camera along the table, up to a constant."""
    return item.x * clevr.BACK[0] + item.y * clevr.BACK[1]


def _outline(item: SceneObject) -> tuple[np.ndarray, np.ndarray]:
    """Returns the centre and half the size of an object's outline in pixels, both float64 `[2]`."""
    x, y, radius = clevr.project(item)
    tall = 1.0 if item.shape == "sphere" else _TALL
    return np.array([x, y]), radius * np.array([1.0, tall * clevr.ASPECT])


def _is_inside(shape: str, points: np.ndarray) -> np.ndarray:
    """Returns whether each point lies inside a shape's outline, bool `[n]`.

    Args:
        shape: one of `clevr.SHAPES`.
        points: float64 `[n, 2]`, relative to the centre, in units of half the outline's size.
    """
    if shape == "sphere":
        return np.asarray((points**2).sum(axis=1) <= 1)
    return np.asarray((np.abs(points) <= 1).all(axis=1))


@functools.cache
def _points(shape: str) -> np.ndarray:
    """Returns a regular grid of points inside a shape's outline, float64 `[n, 2]`, in the units of `_is_inside`."""
    line = np.linspace(-0.95, 0.95, 15)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    return grid[_is_inside(shape, grid)]
