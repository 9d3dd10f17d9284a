"""What an evaluation found: rows of figures with intervals, who judged, and the checks of the gate.

It is written as JSON with sorted keys and figures of six decimals, so that the same question gives the same bytes, and
read again by `storygan compare` and the report.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from storygan_tf.common.errors import DataError

TRUSTED_CEILING = 0.95
"""Label figures of a judge whose F1 on real test frames is lower are untrusted."""

TRUSTED_PLACED = 0.8
"""Placed-object figures of a judge that sees fewer of the true objects right are untrusted."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure and its 95% interval over stories.

    Attributes:
        value: over all stories.
        low: lower end of the interval; None where there is none.
        high: its upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """Figures of one source of frames.

    Attributes:
        name: one of `figures.ROWS`.
        what: the same in words, with what tells it apart (a path or a version).
        given: what the frames were drawn from: `text`, `text and gold labels`, or `-` where nothing was drawn.
        figures: by the names of `figures.FIGURES`; what is not there is absent for this row.
    """

    name: str
    what: str
    given: str
    figures: Mapping[str, Figure]

    def value(self, name: str) -> float | None:
        """Returns a figure's value, None where it is absent."""
        figure = self.figures.get(name)
        return None if figure is None else figure.value


@dataclasses.dataclass(frozen=True)
class Judge:
    """A network that judged.

    Attributes:
        role: `figures.LABELS` (the domain judge, its features included), `PLACED`, `FID`, `FSD` or `CHARACTER`.
        what: what it is and where it came from.
        sha256: of its content.
        held_out: its own figures on real training frames that it was not trained on, by figure name.
        trusted: whether its figure of the real test frames reaches what is asked (`TRUSTED_CEILING`,
            `TRUSTED_PLACED`).
    """

    role: str
    what: str
    sha256: str
    held_out: Mapping[str, float] = dataclasses.field(default_factory=dict)
    trusted: bool = True


@dataclasses.dataclass(frozen=True)
class Check:
    """A threshold and how the model stands to it.

    Attributes:
        name: the field of `EvaluationConfig`.
        value: what is compared with `threshold`; None where it could not be told.
        threshold: as configured.
        passed: None where the threshold does not apply.
        why: the result in a sentence.
    """

    name: str
    value: float | None
    threshold: float
    passed: bool | None
    why: str


@dataclasses.dataclass(frozen=True)
class Confusion:
    """How an attribute of placed objects is seen.

    Attributes:
        names: of the attribute's values.
        counts: by row name: objects by true value (first index) and seen value (second).
    """

    names: tuple[str, ...]
    counts: Mapping[str, tuple[tuple[int, ...], ...]]


@dataclasses.dataclass(frozen=True)
class Boards:
    """Ids of stories to look at: by label F1 where there is a judge, else by SSIM.

    Attributes:
        by: the figure that ranks them.
        best: highest first.
        worst: lowest first.
        random: a seeded choice among the others.
    """

    by: str
    best: tuple[str, ...]
    worst: tuple[str, ...]
    random: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was found about a model.

    Attributes:
        rows: the model first, then what it is compared with.
        absent: figures that no row has -> why.
        checks: the thresholds, absolute and against the served model.
        judges: the networks that judged.
        label_names: of the labels; empty without.
        label_f1: label name -> row name -> F1 of that label alone.
        confusions: attribute -> how it is seen; empty where places are unknown.
        boards: stories to look at.
        story_values: story id -> value of `boards.by` for the model, of the stories in `boards`.
        stories: judged.
        frames: of a story.
        split: of the data.
        skipped_frames: first frames that were not judged.
        seed: of noise, pairing and bootstrap.
        data: SHA-256 of the judged stories (ids, sentences, frames, labels, objects) and the median background.
    """

    rows: tuple[Row, ...]
    absent: Mapping[str, str]
    checks: tuple[Check, ...]
    judges: tuple[Judge, ...]
    label_names: tuple[str, ...]
    label_f1: Mapping[str, Mapping[str, float]]
    confusions: Mapping[str, Confusion]
    boards: Boards
    story_values: Mapping[str, float]
    stories: int
    frames: int
    seed: int
    data: str
    split: str = "test"
    skipped_frames: int = 0

    @property
    def blessed(self) -> bool:
        """Whether every threshold that applies is passed, and at least one does apply."""
        results = [check.passed for check in self.checks if check.passed is not None]
        return bool(results) and all(results)

    @property
    def reason(self) -> str:
        """Why the model is or is not blessed: what failed, else what passed, else why nothing applies."""
        by_result = {
            result: [check.why for check in self.checks if check.passed is result] for result in (False, True, None)
        }
        return " ".join(by_result[False] or by_result[True] or by_result[None]) or "No threshold is asked."

    def row(self, name: str) -> Row | None:
        """Returns the row of that name, None where there is none."""
        return next((row for row in self.rows if row.name == name), None)

    def judge(self, role: str) -> Judge | None:
        """Returns the network of that role, None where there is none."""
        return next((judge for judge in self.judges if judge.role == role), None)

    def to_json(self) -> str:
        """Returns everything as JSON with sorted keys."""
        values = dataclasses.asdict(self) | {"blessed": self.blessed, "reason": self.reason}
        return json.dumps(_rounded(values), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "metrics.json") -> Evaluation:
        """Reads what `to_json` wrote.

        Args:
            text: JSON.
            where: how an error calls it.

        Raises:
            DataError: where it is something else.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            del values["blessed"], values["reason"]
            return cls(
                **values
                | {
                    "rows": tuple(_row(row) for row in values["rows"]),
                    "checks": tuple(Check(**check) for check in values["checks"]),
                    "judges": tuple(Judge(**judge) for judge in values["judges"]),
                    "label_names": tuple(values["label_names"]),
                    "confusions": {name: _confusion(entry) for name, entry in values["confusions"].items()},
                    "boards": Boards(**{key: _tuple(value) for key, value in values["boards"].items()}),
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{where}: is no evaluation of this version of storygan ({type(error).__name__}: {error}); evaluate "
                "the model again with `storygan evaluate`."
            ) from error


def _row(values: dict[str, Any]) -> Row:
    figures = {name: Figure(**figure) for name, figure in values["figures"].items()}
    return Row(**values | {"figures": figures})


def _confusion(values: dict[str, Any]) -> Confusion:
    counts = {name: tuple(map(tuple, matrix)) for name, matrix in values["counts"].items()}
    return Confusion(tuple(values["names"]), counts)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _rounded(values: Any) -> Any:
    """Floats of six decimals: more than they carry, less than what the order of a sum changes."""
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_rounded(value) for value in values]
    return round(values, 6) if isinstance(values, float) else values
