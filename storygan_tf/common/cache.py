"""Caches a folder together with a description of its inputs, and rebuilds it when they change."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from storygan_tf.common.atomic_files import atomic_folder, write_atomically

STAMP = "made_of.json"
"""File in a cached folder that describes the inputs it was built from."""


def is_up_to_date(path: Path, inputs: Mapping[str, Any]) -> bool:
    """Returns whether `path` exists and was built from `inputs`.

    Args:
        path: the cached folder.
        inputs: JSON values that describe everything the content depends on.
    """
    stamp = path / STAMP
    return stamp.is_file() and stamp.read_text() == _description(inputs)


def write_stamp(path: Path, inputs: Mapping[str, Any]) -> None:
    """Writes the description of the inputs. Call this last: a folder without it counts as incomplete.

    Args:
        path: the cached folder.
        inputs: JSON values that describe everything the content depends on.
    """
    write_atomically(path / STAMP, _description(inputs).encode())


def build_once(path: Path, inputs: Mapping[str, Any], build: Callable[[Path], None]) -> None:
    """Builds a folder, unless `path` exists and was built from the same inputs.

    The folder is built under a temporary name and then renamed, so that `path` never holds an incomplete build.

    Args:
        path: the cached folder, which is replaced if it was built from other inputs.
        inputs: JSON values that describe everything the content depends on.
        build: creates the folder at the path that it is called with.
    """
    if is_up_to_date(path, inputs):
        return
    with atomic_folder(path) as temporary:
        build(temporary)
        write_stamp(temporary, inputs)


def _description(inputs: Mapping[str, Any]) -> str:
    return json.dumps(inputs, indent=1, sort_keys=True)
