"""Copies of a step's artifacts and folders in buckets, made on this machine for the step and stored after it.

Steps read and write local files. If a URI is `s3://` or `gs://`, inputs are fetched before the step, and outputs and
pushed models are stored after it has succeeded. A training's working folder is stored at intervals, so that a step that
was killed can continue on another machine. A step that fails stores its working folder and its list of rejects only.
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
from components.spec_names import DATA_DIR, REJECTS_PATH, SERVING_DIR

Artifacts = Mapping[str, Sequence[types.Artifact]]

PUSH, CUSTOM = "push_destination", "custom_config"
"""Properties of TFX's components: JSON with Pusher's model base directory, and with the Trainer's `work_dir`."""


@contextlib.contextmanager
def staged(
    inputs: Artifacts, outputs: Artifacts, properties: Mapping[str, Any], seconds: float = STORE_SECONDS
) -> Iterator[dict[str, Any]]:
    """Replaces all URIs of buckets by local paths within the context; afterwards artifacts have their URIs again.

    Args:
        inputs: input artifacts of the step.
        outputs: output artifacts of the step.
        properties: execution properties of the step.
        seconds: interval at which a training's working folder is stored.

    Yields:
        The execution properties for the step, with local paths.

    Raises:
        DataError: if an input does not exist or is not complete.
        BucketError: if a bucket cannot be used.
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
        folder: the folder for the copies.
        stack: callbacks for the end of the step, whether it succeeds or fails.
        seconds: interval at which a training's working folder is stored.
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
        """Returns a step's properties with local paths, and fetches those that are read."""
        local = dict(given)
        if _in_bucket(given.get(DATA_DIR)):
            local[DATA_DIR] = self._fetched(given[DATA_DIR])
        if _in_bucket(given.get(REJECTS_PATH)):
            self._rejects = (self._folder / REJECTS_PATH, given[REJECTS_PATH])
            local[REJECTS_PATH] = str(self._rejects[0])
            self._stack.callback(self._store_rejects)
        if _in_bucket(given.get(SERVING_DIR)):
            local[SERVING_DIR] = self._newest(given[SERVING_DIR])
        if given.get(PUSH):
            local[PUSH] = self._push(given[PUSH])
        if given.get(CUSTOM):
            local[CUSTOM] = self._custom(given[CUSTOM])
        return local

    def fetch(self, inputs: Artifacts) -> None:
        """Fetches artifacts and sets their URIs to the local paths."""
        for artifact in _remote(inputs):
            self._replace(artifact, self._fetched(artifact.uri))

    def make(self, outputs: Artifacts) -> None:
        """Sets the URIs of artifacts to new empty folders on this machine."""
        for artifact in _remote(outputs):
            folder = self._place(artifact.uri)
            folder.mkdir()
            self._replace(artifact, str(folder))

    def store(self, outputs: Artifacts) -> None:
        """Stores the outputs of a step that succeeded: artifacts first, pushed models last."""
        artifacts = [artifact for listed in outputs.values() for artifact in listed]
        for artifact, uri in self._artifacts:
            if any(artifact is output for output in artifacts):
                store(Path(artifact.uri), uri)
        if self._pushed:
            base, uri = self._pushed
            for version in sorted(path for path in base.iterdir() if path.is_dir()):
                store(version, f"{uri}/{version.name}")
        for artifact in artifacts:
            self._replace_paths(artifact)

    def give_back(self) -> None:
        """Sets the URIs of artifacts back to those of the buckets."""
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
        """Fetches the newest version of a model base directory, and returns the path of the local base directory."""
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
        """Stores the list of rejects, also after a failure, whose reasons it contains."""
        if self._rejects and self._rejects[0].is_file():
            store_file(*self._rejects)

    def _replace_paths(self, artifact: types.Artifact) -> None:
        """Replaces local paths in an artifact's custom properties by their URIs."""
        for value in artifact.mlmd_artifact.custom_properties.values():
            for local, uri in self._copies.items():
                if value.string_value == local or value.string_value.startswith(f"{local}/"):
                    value.string_value = uri.rstrip("/") + value.string_value.removeprefix(local)


def _remote(artifacts: Artifacts) -> list[types.Artifact]:
    return [artifact for listed in artifacts.values() for artifact in listed if is_remote(artifact.uri)]


def _in_bucket(value: Any) -> bool:
    return isinstance(value, str) and is_remote(value)
