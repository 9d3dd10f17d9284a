"""Objects with their places: what an object network is trained on, and what it is asked about."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Objects = Sequence[Sequence[Sequence[Mapping[str, Any]]]]
"""[stories] of T lists of {shape, colour, size, x, y} each, x and y in pixels of the 64x64 frame."""

ATTRIBUTES = ("shape", "colour", "size")
"""What is told of placed objects, where the data says it of every object."""


def attributes_of(objects: Objects) -> dict[str, tuple[str, ...]]:
    """Returns the attributes that every object has, with all values that they take, sorted; empty without objects."""
    items = [item for story in objects for frame in story for item in frame]
    shared = [name for name in ATTRIBUTES if items and all(name in item for item in items)]
    return {name: tuple(sorted({item[name] for item in items})) for name in shared}


@dataclasses.dataclass(frozen=True)
class PlacedObjects:
    """The objects of all frames, one after the other.

    Attributes:
        places: float32 `[m, 2]`, x and y in pixels.
        frame_of: int64 `[m]`, their frames, counted over all stories.
        values: int64 `[m, attributes]`, indices into an attribute's values; -1 for a value that is not among them.
    """

    places: np.ndarray
    frame_of: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, objects: Objects, attributes: Mapping[str, tuple[str, ...]]) -> PlacedObjects:
        """Lists the objects of stories.

        Args:
            objects: of all frames.
            attributes: attribute -> its values, such as a judge's.
        """
        frames = [frame for story in objects for frame in story]
        items = [(index, item) for index, frame in enumerate(frames) for item in frame]
        values = [
            [names.index(item[name]) if item.get(name) in names else -1 for name, names in attributes.items()]
            for _, item in items
        ]
        return cls(
            places=np.array([(item["x"], item["y"]) for _, item in items], np.float32).reshape(-1, 2),
            frame_of=np.array([index for index, _ in items], np.int64),
            values=np.array(values, np.int64).reshape(len(items), len(attributes)),
        )
