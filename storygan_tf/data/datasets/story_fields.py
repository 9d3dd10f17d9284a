"""A story from a mapping: what a line of a story folder and a row of a table have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from storygan_tf.data.datasets.image_sources import Picture
from storygan_tf.data.datasets.reader import check_sentence, require
from storygan_tf.data.datasets.story import SPLITS, Story

OBJECT_TEXTS = ("shape", "colour", "material", "size")
OBJECT_NUMBERS = ("x", "y")


def read_story(
    story_id: str, values: Mapping[str, Any], count: int, pictures: Iterable[Picture], max_sentence_length: int
) -> Story:
    """Returns a story.

    Args:
        story_id: its name.
        values: `sentences`; `split`, `labels` and `objects` where there are any.
        count: how many pictures it has.
        pictures: its pictures; asked for last.
        max_sentence_length: characters a sentence may have.

    Raises:
        BadValueError: where it cannot be used.
    """
    sentences = texts(values, "sentences")
    require(bool(sentences), "no sentences")
    require(len(sentences) == count, f"{len(sentences)} sentences for {count} images; they must be as many")
    for sentence in sentences:
        check_sentence(sentence, max_sentence_length)
    split, labels, objects = _split(values), _labels(values, count), _objects(values, count)
    return Story(story_id, split, sentences, tuple(pictures), labels, objects)


def text(values: Mapping[str, Any], key: str) -> str:
    """Returns a text that is not blank; raises BadValueError for anything else."""
    require(values.get(key) is not None, f"no {key}")
    require(_is_text(values[key]), f"{key} is not a text")
    require(bool(values[key].strip()), f"{key} is blank")
    return str(values[key])


def texts(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Returns a list of texts; raises BadValueError for anything else."""
    require(values.get(key) is not None, f"no {key}")
    require(_is_texts(values[key]), f"{key} is not a list of texts")
    return tuple(values[key])


def _is_text(value: Any) -> bool:
    """Tells whether a value is a text that UTF-8 can hold: JSON can write halves of characters, records cannot."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _split(values: Mapping[str, Any]) -> str | None:
    split = values.get("split")
    require(split is None or split in SPLITS, f"split is none of {', '.join(SPLITS)}")
    return split


def _per_frame(values: Mapping[str, Any], key: str, frames: int) -> list[list[Any]] | None:
    value = values.get(key)
    if value is None:
        return None
    require(isinstance(value, list) and all(isinstance(frame, list) for frame in value), f"{key} is no list of lists")
    require(len(value) == frames, f"{key} for another number of frames")
    return list(value)


def _labels(values: Mapping[str, Any], frames: int) -> tuple[tuple[str, ...], ...] | None:
    labels = _per_frame(values, "labels", frames)
    if labels is None:
        return None
    require(all(map(_is_texts, labels)), "labels are not texts")
    return tuple(map(tuple, labels))


def _objects(values: Mapping[str, Any], frames: int) -> tuple[tuple[dict[str, Any], ...], ...] | None:
    objects = _per_frame(values, "objects", frames)
    if objects is None:
        return None
    expected = ", ".join((*OBJECT_TEXTS, *OBJECT_NUMBERS))
    require(all(_is_object(item) for frame in objects for item in frame), f"objects are not {{{expected}}}")
    return tuple(map(tuple, objects))


def _is_object(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and all(_is_text(item.get(key)) for key in OBJECT_TEXTS)
        and all(_is_number(item.get(key)) for key in OBJECT_NUMBERS)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def flagged_labels(flags: Any, names: tuple[str, ...], file: str) -> tuple[str, ...]:
    """Returns the names whose flags are 1.

    Args:
        flags: as many zeros and ones as there are names; None where they are missing.
        names: the labels.
        file: where the flags stand.

    Raises:
        BadValueError: for anything else.
    """
    require(flags is not None, "no labels", file)
    try:
        values = np.asarray(flags).ravel()
    except ValueError:
        values = np.array(None)
    plain = values.dtype.kind in "biuf" and len(values) == len(names) and bool(np.isin(values, (0, 1)).all())
    require(plain, f"labels are not {len(names)} flags of 0 or 1", file)
    return tuple(name for name, flag in zip(names, values, strict=True) if flag)
