"""The objects, vectors, labels and camera of CLEVR-SV (Li et al., arXiv:1812.02784, section 4.1).

The k-th frame of a story shows its first k objects. Each object is 18 numbers of a vector of 75:

| 0-2 | 3-10 | 11-12 | 13-14 | 15-17 |
|---|---|---|---|---|
| shape | colour | material | size | x, y, z |

The vector holds four such slots, followed by the vector that points to the camera's right. Sentences give positions in
steps to the right and back as the camera sees the table; `RIGHT` and `BACK` are these directions on the table.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

SHAPES = ("cube", "sphere", "cylinder")
COLOURS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
MATERIALS = ("rubber", "metal")
SIZES = ("large", "small")
LABELS = (*SHAPES, *COLOURS, *MATERIALS, *SIZES)
"""Names of fields 0-14, in the published order."""

OBJECTS = 4
"""Number of objects, and of frames, in a story."""

SLOT = 18
"""Numbers that describe one object."""

VECTOR_SIZE = OBJECTS * SLOT + 3

RADIUS = {"large": 0.7, "small": 0.35}
CUBE_HALF_SIDE = 0.8
"""Half the side of a cube, in radii."""

STEP = 0.5
"""Length of one step in the sentences, in units of the table, which extends from -3 to 3 along x and y."""

CAMERA = (7.48, -6.5, 5.34)
"""The camera's position; it looks at the origin, with z upwards."""

FIELD_OF_VIEW = 49.1
"""Horizontal angle that the camera sees, in degrees."""

ASPECT = 4 / 3
"""Width divided by height of a rendered frame, before it is resized to a square."""

_DISTANCE = math.hypot(CAMERA[0], CAMERA[1])
BACK = (-CAMERA[0] / _DISTANCE, -CAMERA[1] / _DISTANCE)
RIGHT = (BACK[1], -BACK[0])
"""Unit vectors (x, y) on the table that point away from the camera and to its right."""

_FIELDS = (("shape", SHAPES), ("colour", COLOURS), ("material", MATERIALS), ("size", SIZES))


@dataclasses.dataclass(frozen=True)
class SceneObject:
    """An object on the table.

    Attributes:
        shape: one of `SHAPES`.
        colour: one of `COLOURS`.
        material: one of `MATERIALS`.
        size: one of `SIZES`.
        x: x coordinate of its centre on the table.
        y: y coordinate of its centre on the table.
    """

    shape: str
    colour: str
    material: str
    size: str
    x: float
    y: float

    @property
    def radius(self) -> float:
        """Half its width."""
        return RADIUS[self.size]

    @property
    def height(self) -> float:
        """Height of its centre above the table."""
        return self.radius * (CUBE_HALF_SIDE if self.shape == "cube" else 1.0)

    @property
    def steps(self) -> tuple[int, int]:
        """Steps (right, back) from the middle of the table, rounded; negative numbers are steps left and forward."""
        right = self.x * RIGHT[0] + self.y * RIGHT[1]
        back = self.x * BACK[0] + self.y * BACK[1]
        return round(right / STEP), round(back / STEP)


def place(right: int, back: int) -> tuple[float, float]:
    """Returns x and y of the point that is `right` and `back` steps from the middle of the table."""
    return STEP * (right * RIGHT[0] + back * BACK[0]), STEP * (right * RIGHT[1] + back * BACK[1])


def project(item: SceneObject, size: int = 64) -> tuple[float, float, float]:
    """Projects an object to the frame.

    Args:
        item: the object.
        size: side of the square frame, in pixels.

    Returns:
        (x, y, half of its width) in pixels; x and y of its centre count from the upper left corner, so that the centre
        of the first pixel is at 0.5.
    """
    eye = np.array(CAMERA)
    forward = -eye / np.linalg.norm(eye)
    right = np.array([*RIGHT, 0.0])
    up = np.cross(right, forward)
    offset = np.array([item.x, item.y, item.height]) - eye
    scale = size / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2)) / (offset @ forward)
    return (
        float(size / 2 + scale * (offset @ right)),
        float(size / 2 - scale * ASPECT * (offset @ up)),
        float(scale * item.radius),
    )


def to_vector(items: Sequence[SceneObject]) -> np.ndarray:
    """Returns the vector, float64 `[75]`, of up to four objects; empty slots are zero."""
    vector = np.zeros(VECTOR_SIZE)
    for index, item in enumerate(items):
        flags = [float(getattr(item, field) == name) for field, names in _FIELDS for name in names]
        vector[index * SLOT : (index + 1) * SLOT] = [*flags, item.x, item.y, item.radius]
    vector[OBJECTS * SLOT :] = (*RIGHT, 0.0)
    return vector


def from_vector(vector: Any) -> tuple[SceneObject, ...]:
    """Returns the objects of a vector.

    Args:
        vector: the vector, numbers `[75]`; anything else is refused.

    Raises:
        ValueError: if it is no valid vector; the message gives the reason.
    """
    if not isinstance(vector, np.ndarray) or vector.dtype.kind not in "fiu" or vector.shape != (VECTOR_SIZE,):
        found = f"{vector.dtype} {list(vector.shape)}" if isinstance(vector, np.ndarray) else type(vector).__name__
        raise ValueError(f"found {found}, expected a vector of {VECTOR_SIZE} numbers")
    if not np.isfinite(vector).all():
        raise ValueError("the vector holds a number that is not finite")
    slots = vector[: OBJECTS * SLOT].reshape(OBJECTS, SLOT)
    filled = slots.any(axis=1)
    if filled[filled.sum() :].any():
        raise ValueError("the vector has an empty slot before a filled one")
    return tuple(_from_slot(slot) for slot in slots[filled])


def _from_slot(slot: np.ndarray) -> SceneObject:
    """Returns the object of a slot `[18]`; raises ValueError unless exactly one flag of each attribute is 1."""
    names: dict[str, str] = {}
    start = 0
    for field, choices in _FIELDS:
        flags = slot[start : start + len(choices)]
        if sorted(flags) != [0.0] * (len(choices) - 1) + [1.0]:
            raise ValueError(f"a slot of the vector does not name one {field}")
        names[field] = choices[int(np.argmax(flags))]
        start += len(choices)
    return SceneObject(**names, x=float(slot[start]), y=float(slot[start + 1]))


def labels_of(items: Sequence[SceneObject]) -> tuple[str, ...]:
    """Returns the labels of a frame that shows `items`, in the order of `LABELS`."""
    shown = {getattr(item, field) for item in items for field, _ in _FIELDS}
    return tuple(name for name in LABELS if name in shown)


def describe(item: SceneObject) -> dict[str, Any]:
    """Returns an object as it is stored in records: its attributes, and x and y in pixels of the 64x64 frame."""
    x, y, _ = project(item)
    return {
        "shape": item.shape,
        "colour": item.colour,
        "material": item.material,
        "size": item.size,
        "x": round(x, 2),
        "y": round(y, 2),
    }
