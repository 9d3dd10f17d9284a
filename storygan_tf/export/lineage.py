"""Where a model comes from: told in a JSON inside the model itself, so that it is known wherever the model goes.

Nothing else is asked: no metadata store, no run directory, no network.
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
"""In a model's `assets.extra`."""

LOCK_FILE = Path(__file__).parents[2] / "requirements.lock"

REPORTED_ELSEWHERE = ("settings", "metrics", "blessed", "reason")
"""Parts of a lineage that a report and a model card have sections for."""

_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Lineage:
    """What a model was made of, by whom judged, and how.

    Attributes:
        run_id: of the pipeline run.
        storygan_version: of this distribution.
        data_fingerprint: of the stories given.
        data: their source and counts.
        code: step of the pipeline -> SHA-256 of the code behind it.
        settings: everything that was configured.
        settings_sha256: `settings_fingerprint` of them.
        metrics: the model's figures.
        blessed: whether the gate let it pass.
        reason: why.
        judges: role -> SHA-256 of the network that judged.
        lock: SHA-256 of `requirements.lock`; empty where the distribution has none.
        packages: SHA-256 of the installed packages and their versions.
        python: version.
        tensorflow: version.
        model_sha256: `model_fingerprint` of the export.
        initial: what the training started from (`storygan_tf.training.warm_start.InitialModel.lineage_entry`):
            `model`, as it was named, and `sha256` of its content; empty where it started afresh.

    Raises:
        DataError: where `settings_sha256` is not of `settings`.
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
                "the settings beside it: one of the two was changed; write the lineage again."
            )

    def to_json(self) -> str:
        """Returns everything as JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = LINEAGE_FILE) -> Lineage:
        """Reads what `to_json` wrote.

        Args:
            text: JSON.
            where: how an error calls it.

        Raises:
            DataError: for anything else: no JSON, a field too many or too few, a value of another type, settings that
                are not those of the fingerprint.
        """
        try:
            values = json.loads(text, parse_constant=_refuse)
        except ValueError as error:
            raise DataError(f"{where}: is no JSON ({error}); it is damaged: push the model again.") from error
        problem = "; ".join(_problems(values))
        if problem:
            raise DataError(f"{where}: is no lineage of this version of storygan: {problem}. Push the model again.")
        try:
            return cls(**values)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error


def _refuse(constant: str) -> None:
    """Keeps out NaN and infinities, which Python reads and JSON does not know."""
    raise ValueError(f"found {constant}, expected a number")


def _problems(values: Any) -> Iterator[str]:
    """Yields what is wrong with the fields of a lineage."""
    if not isinstance(values, dict):
        yield f"found {type(values).__name__}, expected an object"
        return
    known = {field.name: str(field.type) for field in dataclasses.fields(Lineage)}
    for name in sorted((known.keys() ^ values.keys()) - _ADDED):
        yield f"field {name!r} is missing" if name in known else f"field {name!r} is unknown"
    for name in sorted(known.keys() & values.keys()):
        if not _is_of(values[name], known[name]):
            yield f"field {name!r}: found {json.dumps(values[name])[:60]}, expected {_EXPECTED[known[name]]}"


_ADDED = {"initial"}
"""Fields that a lineage of an earlier version does not have."""

_EXPECTED = {
    "str": "text",
    "bool": "true or false",
    "Mapping[str, Any]": "an object",
    "Mapping[str, str]": "an object of texts",
    "Mapping[str, float]": "an object of numbers",
}
"""How an error calls the types of the fields."""


def _is_of(value: Any, kind: str) -> bool:
    if kind in ("str", "bool"):
        return type(value).__name__ == kind
    if not isinstance(value, dict):
        return False
    if kind == "Mapping[str, float]":
        return all(type(entry) in (int, float) and math.isfinite(entry) for entry in value.values())
    return kind == "Mapping[str, Any]" or all(isinstance(entry, str) for entry in value.values())


def read_lineage(model: str | Path) -> Lineage:
    """Reads the lineage inside a model.

    Args:
        model: a run directory, a model base directory (its newest whole version) or a version directory.

    Raises:
        ModelError: where there is no model, or it tells no lineage.
        DataError: where what it tells is damaged.
    """
    version = find_model(model)
    lineage = lineage_of(version)
    if lineage is None:
        raise ModelError(
            f"--model {model}: tells no lineage, expected {version / ASSETS_EXTRA / LINEAGE_FILE}. It was exported by "
            "an older version, or not pushed by the pipeline; `storygan run` pushes models with their lineage."
        )
    return lineage


def lineage_of(version: Path) -> Lineage | None:
    """Reads the lineage inside a version directory; None where there is none.

    Raises:
        DataError: where it is damaged.
    """
    path = version / ASSETS_EXTRA / LINEAGE_FILE
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); it is damaged: push the model again.") from error
    return Lineage.from_json(text, str(path))


def settings_fingerprint(settings: Mapping[str, Any]) -> str:
    """Returns a SHA-256 over settings, the same whatever the order of their names."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode()).hexdigest()


def lock_fingerprint(path: Path = LOCK_FILE) -> str:
    """Returns the SHA-256 of the source tree's `requirements.lock`; empty where the distribution has none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def packages_fingerprint() -> str:
    """Returns a SHA-256 over the installed packages and their versions: sorted lines `name==version`."""
    found = {
        f"{re.sub(r'[-_.]+', '-', name).lower()}=={distribution.version}"
        for distribution in importlib.metadata.distributions()
        if (name := distribution.metadata["Name"])
    }
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(found)).encode()).hexdigest()


def model_fingerprint(path: str | Path) -> str:
    """Returns a SHA-256 over the files of a SavedModel, by name, without those that are told of it afterwards.

    Args:
        path: its directory; `assets.extra` in it is left out.

    Returns:
        64 hexadecimal digits. The same wherever the model lies.

    Raises:
        ModelError: where there is no SavedModel.
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
    """Yields nested values as (dotted name, text); members of a list go by their `name`."""
    if isinstance(values, Mapping) and (values or not name):
        for key, value in values.items():
            yield from flatten(value, f"{name}.{key}".lstrip("."))
    elif isinstance(values, list | tuple) and values and isinstance(values[0], Mapping):
        for index, value in enumerate(values):
            yield from flatten(value, f"{name}.{value.get('name', index)}")
    else:
        yield name, values if isinstance(values, str) else json.dumps(values)


def lineage_summary(lineage: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the entries of a lineage, without the parts that a report tells elsewhere."""
    return list(flatten({key: value for key, value in lineage.items() if key not in REPORTED_ELSEWHERE}))
