"""The scenes of `blocks`, the rendered default: four objects a story, placed at random.

Not CLEVR-SV, but stories in its style: same attributes, same growth from one to four objects, same camera, same layout.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from storygan_tf.data.blocks import clevr
from storygan_tf.data.blocks.clevr import SceneObject

STEPS = 6
"""Steps each way from the middle: 13 positions along either axis, cut by the table's edge."""

REACH = 3.0
"""The table's edge, along x and y."""

MARGIN = 0.25
"""Space left between two objects."""

MAX_HIDDEN = 0.2
"""The part of an object that others may hide."""

_TALL = 1.25
"""Height over width of a cube or cylinder, seen from above at the camera's angle."""

_CORNER = 1.15
"""How far a cube's corner reaches, in radii."""


def story_objects(seed: int, index: int) -> tuple[SceneObject, ...]:
    """Returns the four objects of a story, in the order in which they appear.

    Args:
        seed: of the data set.
        index: the story's number. A story depends on these two alone, whatever else is in the data set.
    """
    generator = np.random.default_rng([seed, index])
    while True:
        items = tuple(_random_object(generator) for _ in range(clevr.OBJECTS))
        if _apart(items) and _visible(items):
            return items


@functools.cache
def _places() -> tuple[tuple[float, float], ...]:
    """Returns the points of the lattice that lie on the table."""
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
    pairs = ((one, other) for index, one in enumerate(items) for other in items[:index])
    return all(
        math.hypot(one.x - other.x, one.y - other.y) >= _CORNER * (one.radius + other.radius) + MARGIN
        for one, other in pairs
    )


def _visible(items: Sequence[SceneObject]) -> bool:
    return all(hidden_part(item, [other for other in items if other is not item]) <= MAX_HIDDEN for item in items)


def hidden_part(item: SceneObject, others: Sequence[SceneObject]) -> float:
    """Returns the part of an object, from 0 to 1, that nearer ones hide; outlines are ellipses and boxes."""
    nearer = [other for other in others if _depth(other) < _depth(item)]
    centre, extent = _outline(item)
    inside = _points(item.shape) * extent + centre
    hidden = np.zeros(len(inside), bool)
    for other in nearer:
        centre, extent = _outline(other)
        hidden |= _is_inside(other.shape, (inside - centre) / extent)
    return float(hidden.mean())


def _depth(item: SceneObject) -> float:
    return item.x * clevr.BACK[0] + item.y * clevr.BACK[1]


def _outline(item: SceneObject) -> tuple[np.ndarray, np.ndarray]:
    """Returns centre and half extent of an object's outline, both float64 `[2]`, in pixels."""
    x, y, radius = clevr.project(item)
    tall = 1.0 if item.shape == "sphere" else _TALL
    return np.array([x, y]), radius * np.array([1.0, tall * clevr.ASPECT])


def _is_inside(shape: str, points: np.ndarray) -> np.ndarray:
    """Returns which points `[n, 2]`, in half extents from the centre, lie within a shape's outline."""
    if shape == "sphere":
        return np.asarray((points**2).sum(axis=1) <= 1)
    return np.asarray((np.abs(points) <= 1).all(axis=1))


@functools.cache
def _points(shape: str) -> np.ndarray:
    """Returns points spread over a shape's outline, float64 `[n, 2]`."""
    line = np.linspace(-0.95, 0.95, 15)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    return grid[_is_inside(shape, grid)]
