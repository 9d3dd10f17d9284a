"""What stands under the push destination, told so that a run's own push does not count as a change.

The gate compares a model with the newest version under the destination, which is no artifact, so TFX's cache knows
nothing of it. A change of the destination must run the evaluator again; the version that this run itself pushed must
not, or every rerun would judge the model against itself.
"""

from __future__ import annotations

import json
from typing import Any

from pipeline.run_directory import RunDirectory
from storygan_tf.datasets.files import write_whole
from storygan_tf.lineage import model_fingerprint
from storygan_tf.places import newest_version


def destination_key(run: RunDirectory) -> str:
    """Returns what changes when the push destination does, but for what this run pushed when it last ended."""
    left = _left(run)
    return str(left["key"]) if left and left["state"] == _state(run) else _new_key(run, left)


def remember_destination(run: RunDirectory, key: str) -> None:
    """Notes what stands under the destination at the end of a run that began with `key`."""
    left = _left(run)
    number = (left["number"] if left else 0) + (not left or left["key"] != key)
    content = {"key": key, "number": number, "state": _state(run)}
    write_whole(run.gate, json.dumps(content, indent=1, sort_keys=True).encode())


def _left(run: RunDirectory) -> dict[str, Any] | None:
    return json.loads(run.gate.read_text()) if run.gate.is_file() else None


def _new_key(run: RunDirectory, left: dict[str, Any] | None) -> str:
    # Numbered: a destination that is emptied again is not what it was before the first push.
    return f"{left['number'] if left else 0}:{_state(run)}"


def _state(run: RunDirectory) -> str:
    version = newest_version(str(run.serving))
    return f"{version}:{model_fingerprint(run.serving / version)}" if version else "empty"
