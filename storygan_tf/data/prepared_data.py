"""Prepared stories: what a training reads, in one layout (`docs/devices.md`).

    FOLDER/
        Split-train/*.gz     transformed records: gzipped TFRecords (`storygan_tf.data.example_schema`)
        Split-test/*.gz
        vectorizer/          SavedModel, strings [n] -> vectors [n, sentence_size]; without it nothing can be exported
        labels.json          names of the stories' labels; absent where they have none
        settings.json        {"settings": ...}: what they were prepared with; may be absent

A run directory of the pipeline is read, too: the newest output of its Transform.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from storygan_tf.common.errors import DataError
from storygan_tf.data.example_schema import LABELS_FILE

TRAIN = "Split-train"
TEST = "Split-test"
VECTORIZER = "vectorizer"
SETTINGS = "settings.json"

TRANSFORM = Path("pipeline") / "Transform"
"""Below a run directory: `transformed_examples/<n>` and `transform_graph/<n>`, n counting the steps that ran."""

EXAMPLES = Path("pipeline") / "StoryExampleGen" / "examples"
"""Below a run directory: <n>, with the names of the labels."""

_FIELDS = {"model": ("frames", "sentence_size"), "data": ("encoder", "max_sentence_length")}
"""Settings that prepared stories decide."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Prepared stories, found.

    Attributes:
        train: record files of the training stories, sorted.
        test: of the test stories.
        vectorizer: SavedModel of the sentence vectors; None where there is none.
        transform_graph: what Transform wrote, from which a vectorizer can be made; None where there is none.
        labels: names of the stories' labels.
        settings: assignments (`model.frames=4`) that a training on them needs; empty where they do not tell.
    """

    train: tuple[Path, ...]
    test: tuple[Path, ...]
    vectorizer: Path | None
    transform_graph: Path | None
    labels: tuple[str, ...]
    settings: tuple[str, ...]

    @classmethod
    def find(cls, path: str | Path) -> Prepared:
        """Finds prepared stories.

        Args:
            path: a folder as above, a run directory, or one of the outputs of its Transform.

        Raises:
            DataError: where there are none, or what is beside them cannot be read.
        """
        given = Path(path).absolute()
        if not given.is_dir():
            raise DataError(f"{path}: no such folder; expected {_EXPECTED}.")
        folder = given if (given / TRAIN).is_dir() else _newest(given / TRANSFORM / "transformed_examples")
        train, test = (_records(folder / split) if folder else () for split in (TRAIN, TEST))
        if folder is None or not train or not test:
            raise DataError(f"{path}: holds no prepared stories; expected {_EXPECTED}.")
        run = _run_of(folder)
        examples = _newest(run / EXAMPLES, LABELS_FILE) if run else folder
        return cls(
            train=train,
            test=test,
            vectorizer=_saved_model(folder / VECTORIZER),
            transform_graph=_transform_graph(run, folder.name) if run else None,
            labels=tuple(_read(examples / LABELS_FILE, [])) if examples else (),
            settings=_settings((run or folder) / SETTINGS),
        )

    @property
    def can_export(self) -> bool:
        """Whether a model that was trained on them can be exported."""
        return bool(self.vectorizer or self.transform_graph)

    def fingerprint(self) -> str:
        """Returns a SHA-256 of the records, wherever they stand."""
        digest = hashlib.sha256()
        for file in (*self.train, *self.test):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


_EXPECTED = (
    f"a folder with {TRAIN}/*.gz and {TEST}/*.gz of transformed records (and {VECTORIZER}/), or the run directory of a "
    "`storygan run` that has come past Transform"
)


def _records(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.gz")))


def _newest(folder: Path, content: str = f"{TRAIN}/*.gz") -> Path | None:
    """Returns the folder of the greatest number that has such content, None where there is none."""
    numbered = [path for path in folder.glob("*") if path.name.isdigit() and any(path.glob(content))]
    return max(numbered, key=lambda path: int(path.name), default=None)


def _run_of(folder: Path) -> Path | None:
    """Returns the run directory that an output of Transform belongs to, None where it is none."""
    depth = len(TRANSFORM.parts) + 1
    return folder.parents[depth] if folder.parent.match(str(TRANSFORM / "transformed_examples")) else None


def _saved_model(folder: Path) -> Path | None:
    return folder if (folder / "saved_model.pb").is_file() else None


def _transform_graph(run: Path, number: str) -> Path | None:
    graph = run / TRANSFORM / "transform_graph" / number
    return graph if _saved_model(graph / "transform_fn") else None


def _settings(file: Path) -> tuple[str, ...]:
    told = _read(file, {"settings": {}})
    try:
        values = [(section, field, told["settings"].get(section, {}).get(field)) for section, field in _fields()]
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f'{file}: found no settings, expected {{"settings": {{...}}}}, or no such file.') from error
    return tuple(f"{section}.{field}={json.dumps(value)}" for section, field, value in values if value is not None)


def _fields() -> list[tuple[str, str]]:
    return [(section, field) for section, fields in _FIELDS.items() for field in fields]


def _read(file: Path, absent: Any) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else absent
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}); expected JSON. Prepare the stories again.") from error
