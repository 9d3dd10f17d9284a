"""A cache key for the content of the push destination, which does not change when a run pushes its own model.

The evaluator compares a model with the newest version in the push destination. That version is not an artifact, so it
is not part of TFX's cache key. When the destination changes, the evaluator has to run again. But it must not run again
because of the version that the same run pushed, or a repeated run would compare its model with itself. Two runs are the
same if their settings, data and code are; a different run in the same directory is always evaluated again.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pipeline.run_directory import RunDirectory
from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.model_paths import newest_version
from storygan_tf.export.lineage import model_fingerprint


@dataclasses.dataclass(frozen=True)
class PushDestination:
    """The state of the push destination at the start of a run.

    Attributes:
        key: text that changes when the destination changes, except by the push of this run itself.
        state: name and fingerprint of the newest version.
        owner: fingerprint of the run's settings, data and code.
        number: number of changes so far.
    """

    key: str
    state: str
    owner: str
    number: int

    @classmethod
    def from_run(cls, run: RunDirectory, owner: str) -> PushDestination:
        """Returns the current state of a run's push destination.

        Args:
            run: the run directory.
            owner: fingerprint of the run's settings, data and code.
        """
        version = newest_version(str(run.serving))
        state = _version_state(run.serving / version) if version else "empty"
        saved = _read_saved(run)
        if saved and (saved["state"], saved["owner"]) == (state, owner):
            return cls(saved["key"], state, owner, saved["number"])
        # The number makes the key of a destination that was emptied differ from its key before the first push.
        number = saved["number"] + 1 if saved else 1
        return cls(f"{number}:{state}", state, owner, number)

    def save(self, run: RunDirectory, pushed: Path | None) -> None:
        """Writes the state at the end of a run to the run directory.

        Args:
            run: the run directory.
            pushed: directory of the version that the run pushed, or None if it pushed none.
        """
        content = dataclasses.asdict(self) | {"state": _version_state(pushed) if pushed else self.state}
        write_atomically(run.push_state, json.dumps(content, indent=1, sort_keys=True).encode())


def _read_saved(run: RunDirectory) -> dict[str, Any] | None:
    return json.loads(run.push_state.read_text()) if run.push_state.is_file() else None


def _version_state(version: Path) -> str:
    return f"{version.name}:{model_fingerprint(version)}"
