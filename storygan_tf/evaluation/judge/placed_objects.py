"""Objects with their places in frames: the inputs and targets of an object network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Objects = Sequence[Sequence[Sequence[Mapping[str, Any]]]]
"""For each story and frame a list of objects {shape, colour, size, x, y}, with x and y in pixels of the 64x64 frame."""

ATTRIBUTES = ("shape", "colour", "size")
"""Attributes of objects that a judge can classify."""


def attributes_of(objects: Objects) -> dict[str, tuple[str, ...]]:
    """Returns the attributes that every object has.

    Args:
        objects: the objects of all frames.

    Returns:
        For each of `ATTRIBUTES` that every object has, all its values, sorted; empty if there are no objects.
    """
    items = [item for story in objects for frame in story for item in frame]
    shared = [name for name in ATTRIBUTES if items and all(name in item for item in items)]
    return {name: tuple(sorted({item[name] for item in items})) for name in shared}


@dataclasses.dataclass(frozen=True)
class PlacedObjects:
    """The objects of all frames as arrays, in the order of the frames.

    Attributes:
        places: float32 `[m, 2]`, x and y in pixels.
        frame_of: int64 `[m]`, index of each object's frame among the frames of all stories.
        values: int64 `[m, attributes]`, index of each object's value among the attribute's values; -1 for an unknown
            value.
    """

    places: np.ndarray
    frame_of: np.ndarray
    values: np.ndarray

    @classmethod
    def from_stories(cls, objects: Objects, attributes: Mapping[str, tuple[str, ...]]) -> PlacedObjects:
        """Returns the objects of stories as arrays.

        Args:
            objects: the objects of all frames.
            attributes: values of each attribute, such as those of a judge.
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
