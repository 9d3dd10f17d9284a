"""Checks of a story's fields, shared by the readers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from storygan_tf.data.datasets.image_sources import Picture
from storygan_tf.data.datasets.reader import check_sentence, has_surrogates, require
from storygan_tf.data.datasets.story import SPLITS, Story

OBJECT_TEXTS = ("shape", "colour", "material", "size")
OBJECT_NUMBERS = ("x", "y")


def read_story(
    story_id: str, values: Mapping[str, Any], count: int, pictures: Iterable[Picture], max_sentence_length: int
) -> Story:
    """Returns the story of a line of a story folder or a row of a table, without its `index_file`.

    Args:
        story_id: the story's name.
        values: the fields: `sentences`, and optionally `split`, `labels` and `objects`.
        count: number of pictures.
        pictures: the pictures; iterated over only after all other fields have been checked.
        max_sentence_length: largest number of characters in a sentence.

    Raises:
        BadValueError: if a field cannot be used.
    """
    sentences = texts(values, "sentences")
    require(bool(sentences), "no sentences")
    require(len(sentences) == count, f"{len(sentences)} sentences for {count} images; they must be as many")
    for sentence in sentences:
        check_sentence(sentence, max_sentence_length)
    split, labels, objects = _split(values), _labels(values, count), _objects(values, count)
    return Story(story_id, split, sentences, tuple(pictures), labels, objects)


def text(values: Mapping[str, Any], key: str) -> str:
    """Returns `values[key]`; raises BadValueError unless it is a text that is not blank."""
    require(values.get(key) is not None, f"no {key}")
    require(_is_text(values[key]), f"{key} is not a text")
    require(bool(values[key].strip()), f"{key} is blank")
    return str(values[key])


def texts(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Returns `values[key]` as a tuple; raises BadValueError unless it is a list of texts."""
    require(values.get(key) is not None, f"no {key}")
    require(_is_texts(values[key]), f"{key} is not a list of texts")
    return tuple(values[key])


def _is_text(value: Any) -> bool:
    """Returns whether a value is a text that can be encoded as UTF-8."""
    return isinstance(value, str) and not has_surrogates(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _split(values: Mapping[str, Any]) -> str | None:
    split = values.get("split")
    require(split is None or split in SPLITS, f"split is none of {', '.join(SPLITS)}")
    return split


def _lists_by_frame(values: Mapping[str, Any], key: str, frames: int) -> list[list[Any]] | None:
    """Returns `values[key]`, None if there is none; raises BadValueError unless it has a list for each frame."""
    value = values.get(key)
    if value is None:
        return None
    require(isinstance(value, list) and all(isinstance(frame, list) for frame in value), f"{key} is no list of lists")
    require(len(value) == frames, f"{key} for another number of frames")
    return list(value)


def _labels(values: Mapping[str, Any], frames: int) -> tuple[tuple[str, ...], ...] | None:
    labels = _lists_by_frame(values, "labels", frames)
    if labels is None:
        return None
    require(all(map(_is_texts, labels)), "labels are not texts")
    return tuple(map(tuple, labels))


def _objects(values: Mapping[str, Any], frames: int) -> tuple[tuple[dict[str, Any], ...], ...] | None:
    objects = _lists_by_frame(values, "objects", frames)
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


def labels_from_flags(
    flags: Mapping[Any, Any], clip: str, label_names: tuple[str, ...], file_name: str
) -> tuple[str, ...]:
    """Returns the labels of a clip: the names whose flag is 1.

    Args:
        flags: for each clip one flag, 0 or 1, for each of `label_names`.
        clip: the clip.
        label_names: names of the flags, in their order.
        file_name: the file that `flags` was read from, for the error.

    Raises:
        BadValueError: if there are no flags for the clip, or they are not as many zeros and ones as there are names.
    """
    file = f"{file_name}: {clip}"
    value = flags.get(clip)
    require(value is not None, "no labels", file)
    try:
        array = np.asarray(value).ravel()
    except ValueError:  # lists of unequal length
        array = np.array([None])
    valid = array.dtype.kind in "biuf" and len(array) == len(label_names) and bool(np.isin(array, (0, 1)).all())
    require(valid, f"labels are not {len(label_names)} flags of 0 or 1", file)
    return tuple(name for name, flag in zip(label_names, array, strict=True) if flag)
