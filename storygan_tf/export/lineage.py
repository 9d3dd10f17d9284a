"""The lineage of a model: a JSON file inside the model that records how it was trained and evaluated.

Because the record is part of the model, reading it needs no metadata store, no run directory and no network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from storygan_tf.common.errors import DataError, ModelError
from storygan_tf.common.model_paths import ASSETS_EXTRA, find_model

LINEAGE_FILE = "lineage.json"
"""Name of the lineage in a model's `assets.extra` folder."""

LOCK_FILE = Path(__file__).parents[2] / "requirements.lock"

REPORTED_ELSEWHERE = ("settings", "metrics", "blessed", "reason")
"""Fields of a lineage that reports and model cards show in sections of their own."""

_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Lineage:
    """The data, code, settings and packages that a model was trained with, and the result of its evaluation.

    Attributes:
        run_id: ID of the pipeline run.
        storygan_version: version of this distribution.
        data_fingerprint: SHA-256 of the data folder.
        data: source and counts of the stories.
        code: SHA-256 of the code of each pipeline step, by the name of the step.
        settings: all settings of the run.
        settings_sha256: `settings_fingerprint` of `settings`.
        metrics: values of the model's metrics by name.
        blessed: whether the model passed the gate.
        reason: why the model was or was not blessed.
        judges: SHA-256 of the networks that judged the model, by role.
        lock: SHA-256 of `requirements.lock`; empty if the distribution has none.
        packages: SHA-256 of the installed packages and their versions.
        python: version of Python.
        tensorflow: version of TensorFlow.
        model_sha256: `model_fingerprint` of the export.
        initial: the model that the training started from: its name as `model` and the SHA-256 of its content as
            `sha256` (`storygan_tf.training.warm_start.InitialModel.lineage_entry`); empty if it started from random
            weights.

    Raises:
        DataError: if `settings_sha256` is not the fingerprint of `settings`.
    """

    run_id: str
    storygan_version: str
    data_fingerprint: str
    data: Mapping[str, Any]
    code: Mapping[str, str]
    settings: Mapping[str, Any]
    settings_sha256: str
    metrics: Mapping[str, float]
    blessed: bool
    reason: str
    judges: Mapping[str, str]
    lock: str
    packages: str
    python: str
    tensorflow: str
    model_sha256: str
    initial: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = settings_fingerprint(self.settings)
        if self.settings_sha256 != expected:
            raise DataError(
                f"lineage: settings_sha256: found {self.settings_sha256!r}, expected {expected!r}, the fingerprint of "
                "the settings in the same file: one of the two was changed; write the lineage again."
            )

    def to_json(self) -> str:
        """Returns all fields as JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = LINEAGE_FILE) -> Lineage:
        """Parses a lineage that `to_json` wrote.

        Args:
            text: the JSON text.
            where: name of the text in error messages.

        Raises:
            DataError: if the text is not JSON, a field is missing, unknown or of the wrong type, or the settings do not
                match their fingerprint.
        """
        try:
            values = json.loads(text, parse_constant=_reject_constant)
        except ValueError as error:
            raise DataError(f"{where}: is not JSON ({error}); the file is damaged: push the model again.") from error
        problem = "; ".join(_problems(values))
        if problem:
            raise DataError(f"{where}: is not a lineage of this version of storygan: {problem}. Push the model again.")
        try:
            return cls(**values)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error


def _reject_constant(constant: str) -> None:
    """Raises ValueError for NaN and infinities, which Python parses but which are not JSON."""
    raise ValueError(f"found {constant}, expected a number")


def _problems(values: Any) -> Iterator[str]:
    """Yields a description of each missing, unknown or mistyped field of a parsed lineage."""
    if not isinstance(values, dict):
        yield f"found {type(values).__name__}, expected an object"
        return
    known = {field.name: str(field.type) for field in dataclasses.fields(Lineage)}
    for name in sorted((known.keys() ^ values.keys()) - _OPTIONAL_FIELDS):
        yield f"field {name!r} is missing" if name in known else f"field {name!r} is unknown"
    for name in sorted(known.keys() & values.keys()):
        if not _has_type(values[name], known[name]):
            yield f"field {name!r}: found {json.dumps(values[name])[:60]}, expected {_TYPE_NAMES[known[name]]}"


_OPTIONAL_FIELDS = {"initial"}
"""Fields that a lineage written by an earlier version lacks."""

_TYPE_NAMES = {
    "str": "text",
    "bool": "true or false",
    "Mapping[str, Any]": "an object",
    "Mapping[str, str]": "an object of texts",
    "Mapping[str, float]": "an object of numbers",
}
"""Names of the fields' types in error messages."""


def _has_type(value: Any, kind: str) -> bool:
    """Returns whether a parsed value has a type that `_TYPE_NAMES` lists."""
    if kind in ("str", "bool"):
        return type(value).__name__ == kind
    if not isinstance(value, dict):
        return False
    if kind == "Mapping[str, float]":
        return all(type(entry) in (int, float) and math.isfinite(entry) for entry in value.values())
    return kind == "Mapping[str, Any]" or all(isinstance(entry, str) for entry in value.values())


def read_lineage(model: str | Path) -> Lineage:
    """Reads the lineage of a model.

    Args:
        model: a run directory, a model base directory, of which the newest complete version is read, or a version
            directory.

    Raises:
        ModelError: if there is no model or it has no lineage.
        DataError: if the lineage is damaged.
    """
    version = find_model(model)
    lineage = lineage_of(version)
    if lineage is None:
        raise ModelError(
            f"--model {model}: has no lineage, expected {version / ASSETS_EXTRA / LINEAGE_FILE}. It was exported by an "
            "older version, or not pushed by the pipeline; `storygan run` pushes models with their lineage."
        )
    return lineage


def lineage_of(version: Path) -> Lineage | None:
    """Returns the lineage in a version directory, or None if there is none.

    Raises:
        DataError: if the lineage cannot be read.
    """
    path = version / ASSETS_EXTRA / LINEAGE_FILE
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); the file is damaged: push the model again.") from error
    return Lineage.from_json(text, str(path))


def settings_fingerprint(settings: Mapping[str, Any]) -> str:
    """Returns a SHA-256 of settings that does not depend on the order of their names."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode()).hexdigest()


def lock_fingerprint(path: Path = LOCK_FILE) -> str:
    """Returns the SHA-256 of the source tree's `requirements.lock`, or an empty text if the distribution has none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def packages_fingerprint() -> str:
    """Returns the SHA-256 of the installed packages and their versions, as sorted lines `name==version`."""
    found = {
        f"{re.sub(r'[-_.]+', '-', name).lower()}=={distribution.version}"
        for distribution in importlib.metadata.distributions()
        if (name := distribution.metadata["Name"])
    }
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(found)).encode()).hexdigest()


def model_fingerprint(path: str | Path) -> str:
    """Returns a SHA-256 of the names and contents of a SavedModel's files.

    Files in `assets.extra`, which may be added to a finished model, are left out.

    Args:
        path: directory of the SavedModel.

    Returns:
        64 hexadecimal digits, which do not depend on the path of the model.

    Raises:
        ModelError: if there is no SavedModel.
    """
    root = Path(path)
    if not (root / "saved_model.pb").is_file():
        raise ModelError(f"model {path}: found no saved_model.pb, expected the directory of a SavedModel.")
    files = {file.relative_to(root).as_posix(): file for file in root.rglob("*") if file.is_file()}
    digest = hashlib.sha256()
    for name in sorted(files):
        if not name.startswith(f"{ASSETS_EXTRA}/"):
            digest.update(f"{name} {files[name].stat().st_size}\n".encode())
            _digest_file(files[name], digest)
    return digest.hexdigest()


def _digest_file(path: Path, digest: Any) -> None:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)


def flatten(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yields nested values as pairs of a dotted name and a text.

    Members of a list of mappings are named by their entry `name`, or by their index if they have none.

    Args:
        values: nested mappings and lists.
        name: dotted name of `values` itself.
    """
    if isinstance(values, Mapping) and (values or not name):
        for key, value in values.items():
            yield from flatten(value, f"{name}.{key}".lstrip("."))
    elif isinstance(values, list | tuple) and values and isinstance(values[0], Mapping):
        for index, value in enumerate(values):
            yield from flatten(value, f"{name}.{value.get('name', index)}")
    else:
        yield name, values if isinstance(values, str) else json.dumps(values)


def lineage_summary(lineage: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the entries of a lineage by dotted name, without the fields in `REPORTED_ELSEWHERE`."""
    return list(flatten({key: value for key, value in lineage.items() if key not in REPORTED_ELSEWHERE}))
