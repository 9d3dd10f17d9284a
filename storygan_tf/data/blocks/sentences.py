"""Sentences for CLEVR-SV's objects, which come without any.

Each sentence tells one object's attributes and its place in whole steps of half a unit, as the camera sees the table.
The wording varies, with synonyms; the place does not, so that an encoder which knows no more than words and pairs of
neighbouring words can read it: a number stands right beside its direction.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from storygan_tf.data.blocks.clevr import SceneObject

_WORDS = {
    "large": ("large", "big"),
    "small": ("small", "tiny"),
    "metal": ("metal", "shiny"),
    "rubber": ("rubber", "matte"),
    "cube": ("cube", "block"),
    "sphere": ("sphere", "ball"),
    "cylinder": ("cylinder", "tube"),
}

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_WORDINGS = (
    "A {what} stands {where}.",
    "There is a {what}, {where}.",
    "We see a {what} {where}.",
    "A {what} rests {where}.",
    "Here a {what} is {where}.",
)

_STREAM = 0x5E27E4CE
"""Keeps the choice of words apart from every other use of a story's number as a seed."""


def story_sentences(items: Sequence[SceneObject], index: int) -> tuple[str, ...]:
    """Returns a sentence for each object.

    Args:
        items: the objects, in the order in which they appear.
        index: the story's number; the wording depends on it and on nothing else.
    """
    generator = np.random.default_rng([_STREAM, index])
    return tuple(_sentence(item, generator) for item in items)


def _sentence(item: SceneObject, generator: np.random.Generator) -> str:
    what = " ".join(
        _one_of(_WORDS.get(name, (name,)), generator) for name in (item.size, item.colour, item.material, item.shape)
    )
    return _one_of(_WORDINGS, generator).format(what=what, where=place_in_words(*item.steps))


def _one_of(choices: Sequence[str], generator: np.random.Generator) -> str:
    # Always one draw, so that one word's choice does not shift the others'.
    return choices[int(generator.random() * len(choices))]


@functools.cache
def place_in_words(right: int, back: int) -> str:
    """Returns a place in words, another for each pair of steps.

    Args:
        right: steps to the right of the middle; negative ones to the left.
        back: steps back from the middle; negative ones forward.

    Example:
        >>> place_in_words(-3, 2)
        'three left and two back of the middle'
    """
    sideways = f"{_count(right)} {'right' if right > 0 else 'left'}" if right else "centred"
    if not back:
        return f"{sideways} and midway on the table"
    return f"{sideways} and {_count(back)} {'back' if back > 0 else 'forward'} of the middle"


def _count(steps: int) -> str:
    number = abs(steps)
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)
