"""What is kept from call to call, stamped with what it was made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from storygan_tf.common.atomic_files import atomic_folder, write_atomically

STAMP = "made_of.json"
"""In a folder that is kept: what it was made of."""


def is_up_to_date(path: Path, parts: Mapping[str, Any]) -> bool:
    """Tells whether a folder is there and made of these parts."""
    stamp = path / STAMP
    return stamp.is_file() and stamp.read_text() == _stamp(parts)


def write_stamp(path: Path, parts: Mapping[str, Any]) -> None:
    """Notes in a folder what it was made of; the last thing to do to it."""
    write_atomically(path / STAMP, _stamp(parts).encode())


def build_once(path: Path, parts: Mapping[str, Any], make: Callable[[Path], None]) -> None:
    """Makes a folder aside and renames it, unless it is there and made of the same parts."""
    if is_up_to_date(path, parts):
        return
    with atomic_folder(path) as aside:
        make(aside)
        write_stamp(aside, parts)


def _stamp(parts: Mapping[str, Any]) -> str:
    return json.dumps(parts, indent=1, sort_keys=True)
