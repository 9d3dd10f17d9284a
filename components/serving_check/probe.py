"""Checks that an exported model can be served, in a process that imports TensorFlow and nothing of this project.

`python -m components.serving_check.probe RESULT_FILE < REQUEST`

An export that only works while the training code is loaded (a layer that is not in the graph, a table that was not
saved) fails here, and not later in a server. The request on standard input is JSON: {model, sentences: [T],
image_size}. The result file is JSON, too: {reason, ...}, where `reason` is empty if the export passed.
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
    """The export cannot be served; the message describes why."""


def main() -> None:
    """Reads the request from standard input and writes the result to the file named on the command line."""
    request = json.load(sys.stdin)
    try:
        result = probe_export(request["model"], request["sentences"], request["image_size"])
    except ProbeError as error:
        result = {"reason": str(error)}
    Path(sys.argv[1]).write_text(json.dumps(result))


def probe_export(model: str, sentences: list[str], image_size: int) -> dict[str, Any]:
    """Loads an export, draws one story twice with `serving_default`, and calls `info`.

    Args:
        model: folder of the SavedModel.
        sentences: the T sentences of the story.
        image_size: height and width that the pictures must have.

    Returns:
        The request and properties of the pictures, as JSON values: `reason` (empty), `asked`, `png_bytes`,
        `png_sha256`, `image_size`, `frames` and `versions`.

    Raises:
        ProbeError: if the export cannot be loaded or called, or returns anything else than the same T pictures.
    """
    try:
        loaded = tf.saved_model.load(model)
    except Exception as error:  # A damaged export fails with many kinds of errors.
        raise ProbeError(f"the export cannot be loaded: {_first_line(error)}") from error
    info = _info(loaded, len(sentences))
    pictures = _pictures(loaded, sentences, image_size)
    if _pictures(loaded, sentences, image_size) != pictures:
        raise ProbeError("serving_default: the same story, drawn twice, gave different pictures.")
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
    """Returns the T PNG files that `serving_default` draws for a story; raises ProbeError if they are not valid."""
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
    """Raises ProbeError if a picture is not an RGB PNG of the expected size."""
    if not picture.startswith(b"\x89PNG"):
        raise ProbeError(f"serving_default: picture {number} is not a PNG.")
    try:
        shape = tf.io.decode_png(picture).shape.as_list()
    except tf.errors.OpError as error:
        raise ProbeError(f"serving_default: picture {number} is damaged: {_first_line(error)}") from error
    if shape != [image_size, image_size, 3]:
        raise ProbeError(f"serving_default: picture {number} is of shape {shape}, expected {image_size} pixels, RGB.")


def _info(loaded: Any, frames: int) -> dict[str, Any]:
    """Returns the JSON object of the signature `info`; raises ProbeError if its `frames` is not `frames`."""
    try:
        info: dict[str, Any] = json.loads(_call(loaded, "info", query=tf.constant([""]))["info"].numpy()[0])
        found = info["frames"]
    except (KeyError, TypeError, ValueError) as error:
        raise ProbeError(f"info: expected a JSON object with `frames`: {_first_line(error)}") from error
    if found != frames:
        raise ProbeError(f"info: found frames {found!r}, expected {frames} as in the test stories.")
    return info


def _call(loaded: Any, name: str, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """Calls a signature and returns its outputs; raises ProbeError if it does not exist or fails."""
    if name not in loaded.signatures:
        raise ProbeError(f"found signatures {sorted(loaded.signatures)}, expected one called {name!r}.")
    try:
        outputs: dict[str, tf.Tensor] = loaded.signatures[name](**inputs)
    except Exception as error:  # A graph may raise any error.
        raise ProbeError(f"signature {name} failed: {_first_line(error)}") from error
    return outputs


def _first_line(error: Exception) -> str:
    """Returns the type and the first line of an error, at most 300 characters of it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


if __name__ == "__main__":
    main()
