"""A step's artifacts and folders in buckets, copied to this machine for the step and back.

Steps read and write files. Where their URIs are `s3://` or `gs://`, inputs are fetched before the step, and outputs and
what it pushed are stored after it has succeeded; a training's working folder is stored now and then, so that a step
that was killed goes on on another machine. A step that fails leaves nothing in the buckets but that.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfx import types
from tfx.utils import json_utils

from components.buckets import STORE_SECONDS, fetch, is_remote, kept, newest_version, store, store_file

Artifacts = Mapping[str, Sequence[types.Artifact]]

DATA, REJECTS, SERVING = "data_dir", "rejects_path", "serving_dir"
"""Properties of our own components that are paths: a folder that is read, a file that is written, a model base."""

PUSH, CUSTOM = "push_destination", "custom_config"
"""Properties of TFX's: JSON with the model base directory that is pushed to, and with the Trainer's `work_dir`."""


@contextlib.contextmanager
def staged(
    inputs: Artifacts, outputs: Artifacts, properties: Mapping[str, Any], seconds: float = STORE_SECONDS
) -> Iterator[dict[str, Any]]:
    """Within the context nothing that a step is given lies in a bucket; afterwards artifacts have their URIs again.

    Args:
        inputs: artifacts of the step.
        outputs: the same.
        properties: its execution properties.
        seconds: between two times that a training's working folder is stored.

    Yields:
        The execution properties for the step, with paths of this machine.

    Raises:
        DataError: where an input is not there, or not whole.
        BucketError: where a bucket cannot be used.
    """
    with contextlib.ExitStack() as stack:
        staging = _Staging(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="storygan-"))), stack, seconds)
        local = staging.properties(properties)
        stack.callback(staging.give_back)
        staging.fetch(inputs)
        staging.make(outputs)
        yield local
        staging.store(outputs)


class _Staging:
    """The copies of one step.

    Args:
        folder: for them.
        stack: what is to be done when the step has ended, however it ends.
        seconds: see `staged`.
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack, seconds: float) -> None:
        self._folder = folder
        self._stack = stack
        self._seconds = seconds
        self._copies: dict[str, str] = {}
        self._artifacts: list[tuple[types.Artifact, str]] = []
        self._rejects: tuple[Path, str] | None = None
        self._pushed: tuple[Path, str] | None = None

    def properties(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a step's properties with local paths, what is read of them fetched."""
        local = dict(given)
        if _in_bucket(given.get(DATA)):
            local[DATA] = self._fetched(given[DATA])
        if _in_bucket(given.get(REJECTS)):
            self._rejects = (self._folder / REJECTS, given[REJECTS])
            local[REJECTS] = str(self._rejects[0])
            self._stack.callback(self._store_rejects)
        if _in_bucket(given.get(SERVING)):
            local[SERVING] = self._newest(given[SERVING])
        if given.get(PUSH):
            local[PUSH] = self._push(given[PUSH])
        if given.get(CUSTOM):
            local[CUSTOM] = self._custom(given[CUSTOM])
        return local

    def fetch(self, inputs: Artifacts) -> None:
        """Fetches artifacts, and gives them local paths."""
        for artifact in _remote(inputs):
            self._replace(artifact, self._fetched(artifact.uri))

    def make(self, outputs: Artifacts) -> None:
        """Gives artifacts local folders, empty."""
        for artifact in _remote(outputs):
            folder = self._place(artifact.uri)
            folder.mkdir()
            self._replace(artifact, str(folder))

    def store(self, outputs: Artifacts) -> None:
        """Stores what the step made: artifacts first, and what is to be served last."""
        made = [artifact for listed in outputs.values() for artifact in listed]
        for artifact, uri in self._artifacts:
            if any(artifact is output for output in made):
                store(Path(artifact.uri), uri)
        if self._pushed:
            base, uri = self._pushed
            for version in sorted(path for path in base.iterdir() if path.is_dir()):
                store(version, f"{uri}/{version.name}")
        for artifact in made:
            self._tell_uris(artifact)

    def give_back(self) -> None:
        """Gives artifacts their URIs again."""
        for artifact, uri in self._artifacts:
            artifact.uri = uri

    def _push(self, text: str) -> str:
        destination = json.loads(text)
        folder = destination.get("filesystem", {})
        base = folder.get("base_directory", folder.get("baseDirectory", ""))
        if not _in_bucket(base):
            return text
        local = self._place(base)
        local.mkdir()
        self._pushed = (local, base.rstrip("/"))
        destination["filesystem"] = {**folder, "base_directory": str(local)}
        destination["filesystem"].pop("baseDirectory", None)
        return json.dumps(destination)

    def _custom(self, text: str) -> str:
        config = json_utils.loads(text)
        work = config.get("work_dir") if isinstance(config, dict) else None
        if work is None or not _in_bucket(work):
            return text
        config["work_dir"] = str(self._stack.enter_context(kept(work, self._seconds)).local)
        return str(json_utils.dumps(config))

    def _newest(self, base: str) -> str:
        """Fetches the newest version of a model base directory, and returns where the base is now."""
        folder, version = self._place(base), newest_version(base)
        folder.mkdir()
        if version:
            fetch(f"{base.rstrip('/')}/{version}", folder / version)
        return str(folder)

    def _fetched(self, uri: str) -> str:
        if uri not in self._copies.values():
            fetch(uri, self._place(uri))
        return next(local for local, known in self._copies.items() if known == uri)

    def _place(self, uri: str) -> Path:
        folder = self._folder / str(len(self._copies))
        self._copies[str(folder)] = uri
        return folder

    def _replace(self, artifact: types.Artifact, local: str) -> None:
        self._artifacts.append((artifact, artifact.uri))
        artifact.uri = local

    def _store_rejects(self) -> None:
        """Stores them also where the step failed: they say why."""
        if self._rejects and self._rejects[0].is_file():
            store_file(*self._rejects)

    def _tell_uris(self, artifact: types.Artifact) -> None:
        """Puts URIs in the place of local paths that a step noted in an artifact's properties."""
        for value in artifact.mlmd_artifact.custom_properties.values():
            for local, uri in self._copies.items():
                if value.string_value == local or value.string_value.startswith(f"{local}/"):
                    value.string_value = uri.rstrip("/") + value.string_value.removeprefix(local)


def _remote(artifacts: Artifacts) -> list[types.Artifact]:
    return [artifact for listed in artifacts.values() for artifact in listed if is_remote(artifact.uri)]


def _in_bucket(value: Any) -> bool:
    return isinstance(value, str) and is_remote(value)
