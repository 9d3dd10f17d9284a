"""What stands under the push destination, told so that a run's own push does not count as a change.

The gate compares a model with the newest version under the destination, which is no artifact, so TFX's cache knows
nothing of it. A change of the destination must run the evaluator again; the version that this very run pushed must not,
or every rerun would judge the model against itself. "This very run" is the same settings, data and code: another one in
the same directory is judged anew, whatever the cache remembers of it.
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
    """The push destination of a run, at its beginning.

    Attributes:
        key: changes when the destination does, but for what this very run pushed when it last ended.
        state: the newest version, and a fingerprint of it.
        owner: fingerprint of settings, data and code.
        number: of changes so far.
    """

    key: str
    state: str
    owner: str
    number: int

    @classmethod
    def look(cls, run: RunDirectory, owner: str) -> PushDestination:
        """Looks at what stands there now."""
        version = newest_version(str(run.serving))
        state = _state(run.serving / version) if version else "empty"
        left = _left(run)
        if left and (left["state"], left["owner"]) == (state, owner):
            return cls(left["key"], state, owner, left["number"])
        # Numbered: a destination that is emptied again is not what it was before the first push.
        number = left["number"] + 1 if left else 1
        return cls(f"{number}:{state}", state, owner, number)

    def remember(self, run: RunDirectory, pushed: Path | None) -> None:
        """Notes at the end of a run what it leaves: the version that it pushed, else what it found."""
        content = dataclasses.asdict(self) | {"state": _state(pushed) if pushed else self.state}
        write_atomically(run.gate, json.dumps(content, indent=1, sort_keys=True).encode())


def _left(run: RunDirectory) -> dict[str, Any] | None:
    return json.loads(run.gate.read_text()) if run.gate.is_file() else None


def _state(version: Path) -> str:
    return f"{version.name}:{model_fingerprint(version)}"
