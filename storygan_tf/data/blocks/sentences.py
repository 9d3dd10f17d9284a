"""`story_sentences`: writes the sentences of CLEVR-SV's and `blocks`' stories, which are published without any.

Each sentence gives the attributes of one object and its position in whole steps of half a unit, as the camera sees the
table. The wording varies and uses synonyms. The position always has the same form, with each number next to its
direction, so that an encoder of single words and pairs of words can represent it.
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
"""First part of the seed, so that the choice of words is independent of other choices seeded by a story's number."""


def story_sentences(items: Sequence[SceneObject], index: int) -> tuple[str, ...]:
    """Returns a sentence for each object.

    Args:
        items: the objects, in the order in which they appear.
        index: the story's number; the wording depends only on it.
    """
    generator = np.random.default_rng([_STREAM, index])
    return tuple(_sentence(item, generator) for item in items)


def _sentence(item: SceneObject, generator: np.random.Generator) -> str:
    what = " ".join(
        _one_of(_WORDS.get(name, (name,)), generator) for name in (item.size, item.colour, item.material, item.shape)
    )
    return _one_of(_WORDINGS, generator).format(what=what, where=place_in_words(*item.steps))


def _one_of(choices: Sequence[str], generator: np.random.Generator) -> str:
    # Draws exactly one number, so that the choice of one word does not change the others.
    return choices[int(generator.random() * len(choices))]


@functools.cache
def place_in_words(right: int, back: int) -> str:
    """Returns a position in words; no two positions have the same words.

    Args:
        right: steps to the right of the middle of the table; negative numbers are steps to the left.
        back: steps back from the middle of the table; negative numbers are steps forward.

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
