"""Finds prepared stories, the input of a training, on disk (`docs/devices.md`).

Prepared stories are stored in a folder with this layout:

    FOLDER/
        Split-train/*.gz     transformed records: gzipped TFRecords (`storygan_tf.data.example_schema`)
        Split-val/*.gz       may be absent: then a training is not validated
        Split-test/*.gz
        vectorizer/          SavedModel, string [n] -> float32 [n, sentence_size]; needed to export a model
        labels.json          names of the labels; absent if the stories have none
        settings.json        {"settings": ...}: the settings that the stories were prepared with; may be absent

They are also found in a run directory of the pipeline, as the newest output of its Transform step.
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
VAL = "Split-val"
TEST = "Split-test"
VECTORIZER = "vectorizer"
SETTINGS = "settings.json"

TRANSFORM = Path("pipeline") / "Transform"
"""Folder in a run directory that holds `transformed_examples/<n>` and `transform_graph/<n>` for execution number n."""

EXAMPLES = Path("pipeline") / "StoryExampleGen" / "examples"
"""Folder in a run directory that holds `<n>/labels.json` for execution number n."""

_FIELDS = {"model": ("frames", "sentence_size"), "data": ("encoder", "max_sentence_length")}
"""Sections and fields of the settings that a training must share with the preparation of its stories."""


@dataclasses.dataclass(frozen=True)
class PreparedData:
    """The files of prepared stories.

    Attributes:
        train: record files of the training stories, sorted.
        val: record files of the validation stories, sorted; empty if there are none.
        test: record files of the test stories, sorted.
        vectorizer: SavedModel of the sentence encoder and PCA, or None if there is none.
        transform_graph: output of Transform from which a vectorizer can be exported, or None if there is none.
        labels: names of the labels.
        settings: assignments, such as `model.frames=4`, that a training on these stories needs; empty if there is no
            `settings.json`.
    """

    train: tuple[Path, ...]
    val: tuple[Path, ...]
    test: tuple[Path, ...]
    vectorizer: Path | None
    transform_graph: Path | None
    labels: tuple[str, ...]
    settings: tuple[str, ...]

    @classmethod
    def find(cls, path: str | Path) -> PreparedData:
        """Finds prepared stories.

        Args:
            path: a folder with the layout of this module's docstring, a run directory, or a folder
                `pipeline/Transform/transformed_examples/<n>` in a run directory.

        Raises:
            DataError: if there are no prepared stories, or `labels.json` or `settings.json` cannot be read.
        """
        start = Path(path).absolute()
        if not start.is_dir():
            raise DataError(f"{path}: no such folder; expected {_EXPECTED}.")
        folder = start if (start / TRAIN).is_dir() else _newest(start / TRANSFORM / "transformed_examples")
        train, val, test = (_records(folder / split) if folder else () for split in (TRAIN, VAL, TEST))
        if folder is None or not train or not test:
            raise DataError(f"{path}: holds no prepared stories; expected {_EXPECTED}.")
        run = _run_directory(folder)
        examples = _newest(run / EXAMPLES, LABELS_FILE) if run else folder
        return cls(
            train=train,
            val=val,
            test=test,
            vectorizer=_saved_model(folder / VECTORIZER),
            transform_graph=_transform_graph(run, folder.name) if run else None,
            labels=tuple(_read(examples / LABELS_FILE, [])) if examples else (),
            settings=_settings((run or folder) / SETTINGS),
        )

    @property
    def can_export(self) -> bool:
        """Whether a model that is trained on these stories can be exported, which needs a vectorizer."""
        return bool(self.vectorizer or self.transform_graph)

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the records, which does not depend on where the files are stored."""
        digest = hashlib.sha256()
        for file in (*self.train, *self.val, *self.test):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


_EXPECTED = (
    f"a folder with {TRAIN}/*.gz and {TEST}/*.gz of transformed records (and {VECTORIZER}/), or the run directory of a "
    "`storygan run` whose Transform step is complete"
)


def _records(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.gz")))


def _newest(folder: Path, content: str = f"{TRAIN}/*.gz") -> Path | None:
    """Returns the folder with the greatest number as its name that has files matching `content`, or None."""
    numbered = [path for path in folder.glob("*") if path.name.isdigit() and any(path.glob(content))]
    return max(numbered, key=lambda path: int(path.name), default=None)


def _run_directory(folder: Path) -> Path | None:
    """Returns the run directory that `folder` belongs to, or None if it is not an output of Transform."""
    depth = len(TRANSFORM.parts) + 1
    return folder.parents[depth] if folder.parent.match(str(TRANSFORM / "transformed_examples")) else None


def _saved_model(folder: Path) -> Path | None:
    return folder if (folder / "saved_model.pb").is_file() else None


def _transform_graph(run: Path, number: str) -> Path | None:
    graph = run / TRANSFORM / "transform_graph" / number
    return graph if _saved_model(graph / "transform_fn") else None


def _settings(file: Path) -> tuple[str, ...]:
    """Returns the assignments of `_FIELDS` that a `settings.json` holds; none if the file is absent."""
    content = _read(file, {"settings": {}})
    try:
        values = [(section, field, content["settings"].get(section, {}).get(field)) for section, field in _fields()]
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f'{file}: found no settings, expected {{"settings": {{...}}}}. Prepare the stories again, or remove '
            "the file."
        ) from error
    return tuple(f"{section}.{field}={json.dumps(value)}" for section, field, value in values if value is not None)


def _fields() -> list[tuple[str, str]]:
    return [(section, field) for section, fields in _FIELDS.items() for field in fields]


def _read(file: Path, absent: Any) -> Any:
    """Returns the content of a JSON file, or `absent` if there is no such file."""
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else absent
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}); expected JSON. Prepare the stories again.") from error
