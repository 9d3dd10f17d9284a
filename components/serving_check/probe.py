"""Asks an export for a story, in a process of its own that imports TensorFlow and nothing of this project.

`python -m components.serving_check.probe ANSWER_FILE < QUESTION`

So what holds only where the training code is loaded (a layer that is not in the graph, a table that was not saved) is
found before a server finds it. The question is JSON: {model, sentences: [T], image_size}; so is the answer: {reason,
...}, where an empty reason says that all is well.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf


class ProbeError(Exception):
    """The export does not do what a server asks of it; the message says what."""


def main() -> None:
    """Reads the question from standard input and writes the answer to the file named on the command line."""
    question = json.load(sys.stdin)
    try:
        answer = ask(question["model"], question["sentences"], question["image_size"])
    except ProbeError as error:
        answer = {"reason": str(error)}
    Path(sys.argv[1]).write_text(json.dumps(answer))


def ask(model: str, sentences: list[str], image_size: int) -> dict[str, Any]:
    """Loads an export and asks it for one story, twice, and for `info`.

    Args:
        model: a SavedModel's directory.
        sentences: of the story, T.
        image_size: height and width that its pictures must have.

    Returns:
        What was asked and what came: JSON values.

    Raises:
        ProbeError: where anything is not as it must be.
    """
    try:
        loaded = tf.saved_model.load(model)
    except Exception as error:  # a damaged export fails in many ways
        raise ProbeError(f"the export cannot be loaded: {_line(error)}") from error
    info = _info(loaded, len(sentences))
    pictures = _pictures(loaded, sentences, image_size)
    if _pictures(loaded, sentences, image_size) != pictures:
        raise ProbeError("serving_default: the same story, asked twice, gave different pictures.")
    return {
        "reason": "",
        "asked": {"signature": "serving_default", "sentences": sentences},
        "png_bytes": [len(picture) for picture in pictures],
        "png_sha256": [hashlib.sha256(picture).hexdigest() for picture in pictures],
        "image_size": image_size,
        "frames": info["frames"],
        "versions": {"tensorflow": tf.__version__, "python": platform.python_version()},
    }


def _pictures(loaded: Any, sentences: list[str], image_size: int) -> list[bytes]:
    outputs = _call(loaded, "serving_default", sentences=tf.constant([sentences]))
    for name in ("image_bytes", "error"):
        if name not in outputs:
            raise ProbeError(f"serving_default: found outputs {sorted(outputs)}, expected one called {name!r}.")
    error = outputs["error"].numpy()[0].decode()
    if error:
        raise ProbeError(f"serving_default refused a test story: {error}")
    pictures = list(outputs["image_bytes"].numpy()[0])
    if len(pictures) != len(sentences):
        raise ProbeError(f"serving_default: found {len(pictures)} pictures, expected {len(sentences)}.")
    for number, picture in enumerate(pictures, 1):
        _check_picture(picture, number, image_size)
    return pictures


def _check_picture(picture: bytes, number: int, image_size: int) -> None:
    if not picture.startswith(b"\x89PNG"):
        raise ProbeError(f"serving_default: picture {number} is not a PNG.")
    try:
        shape = tf.io.decode_png(picture).shape.as_list()
    except tf.errors.OpError as error:
        raise ProbeError(f"serving_default: picture {number} is damaged: {_line(error)}") from error
    if shape != [image_size, image_size, 3]:
        raise ProbeError(f"serving_default: picture {number} is of shape {shape}, expected {image_size} pixels, RGB.")


def _info(loaded: Any, frames: int) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads(_call(loaded, "info", query=tf.constant([""]))["info"].numpy()[0])
        told = info["frames"]
    except (KeyError, TypeError, ValueError) as error:
        raise ProbeError(f"info: found no JSON that tells `frames`: {_line(error)}") from error
    if told != frames:
        raise ProbeError(f"info: found frames {told!r}, expected {frames} as in the test stories.")
    return info


def _call(loaded: Any, name: str, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    if name not in loaded.signatures:
        raise ProbeError(f"found signatures {sorted(loaded.signatures)}, expected one called {name!r}.")
    try:
        outputs: dict[str, tf.Tensor] = loaded.signatures[name](**inputs)
    except Exception as error:  # whatever a graph may raise
        raise ProbeError(f"signature {name} failed: {_line(error)}") from error
    return outputs


def _line(error: Exception) -> str:
    """Returns the first line of an error, shortened."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


if __name__ == "__main__":
    main()
