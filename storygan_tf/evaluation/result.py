"""The result of an evaluation: rows of metrics with intervals, the judges, and the checks of the gate.

It is written as JSON with sorted keys and numbers of six decimals, so that equal evaluations have equal bytes.
`storygan compare` and the report read it again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from storygan_tf.common.errors import DataError

TRUSTED_CEILING = 0.95
"""F1 on the true test frames that a judge must reach for its label metrics to be trusted."""

TRUSTED_PLACED = 0.8
"""Accuracy on the true test frames that a judge must reach for its metrics of placed objects to be trusted."""


@dataclasses.dataclass(frozen=True)
class MetricValue:
    """The value of a metric and its 95% interval over stories.

    Attributes:
        value: value over all stories.
        low: lower end of the interval; None if there is no interval.
        high: upper end of the interval; None if there is no interval.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """The metrics of one source of frames.

    Attributes:
        name: one of `metric_names.ROWS`.
        description: description of the source, for instance with the version of a served model.
        drawn_from: the inputs that the frames were drawn from: `text`, `text and gold labels`, or `-` if they were not
            drawn.
        metrics: values by the names of `metric_names.METRICS`, without those that are absent for this row.
    """

    name: str
    description: str = dataclasses.field(metadata={"json": "what"})
    drawn_from: str = dataclasses.field(metadata={"json": "given"})
    metrics: Mapping[str, MetricValue] = dataclasses.field(metadata={"json": "figures"})

    def value(self, name: str) -> float | None:
        """Returns the value of a metric, or None if it is absent."""
        metric = self.metrics.get(name)
        return None if metric is None else metric.value


@dataclasses.dataclass(frozen=True)
class Judge:
    """A network that judged frames.

    Attributes:
        role: `metric_names.LABELS` (the domain judge's labels and features), `PLACED`, `FID`, `FSD` or `CHARACTER`.
        description: description of the network and its origin.
        sha256: SHA-256 of the network's content.
        held_out: the network's own metrics, by name, on real training frames that it was not trained on.
        trusted: whether its metric of the true test frames reaches `TRUSTED_CEILING` or `TRUSTED_PLACED`.
    """

    role: str
    description: str = dataclasses.field(metadata={"json": "what"})
    sha256: str
    held_out: Mapping[str, float] = dataclasses.field(default_factory=dict)
    trusted: bool = True


@dataclasses.dataclass(frozen=True)
class Check:
    """A threshold and whether the model passes it.

    Attributes:
        name: field of `EvaluationConfig` with the threshold.
        value: the number that is compared with the threshold; None if it could not be computed.
        threshold: the configured threshold.
        passed: whether the model passes; None if the threshold does not apply.
        why: the result in a sentence.
    """

    name: str
    value: float | None
    threshold: float
    passed: bool | None
    why: str


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Confusion matrices of an attribute of placed objects.

    Attributes:
        names: the attribute's values.
        counts: for each row of the evaluation the numbers of objects by true value (first index) and detected value
            (second index).
    """

    names: tuple[str, ...]
    counts: Mapping[str, tuple[tuple[int, ...], ...]]


@dataclasses.dataclass(frozen=True)
class BoardStories:
    """Ids of the stories on the storyboards of a report.

    Attributes:
        ranked_by: the metric that ranks the stories: label F1 if there is a judge, else SSIM.
        best: the stories with the highest values, highest first.
        worst: the stories with the lowest values, lowest first.
        random: a random choice of the other stories.
    """

    ranked_by: str = dataclasses.field(metadata={"json": "by"})
    best: tuple[str, ...]
    worst: tuple[str, ...]
    random: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        rows: metrics of the model first, then of what it is compared with.
        absent: for each metric that no row has, the reason why.
        checks: results of the thresholds, those against baselines before those against the served model.
        judges: the networks that judged.
        label_names: names of the labels; empty if there are none.
        label_f1: F1 of each single label, by label name and row name.
        confusions: confusion matrices by attribute; empty if the places of objects are unknown.
        boards: the stories on the storyboards.
        story_values: value of the metric `boards.ranked_by` of the model's frames for each story in `boards`.
        stories: number of evaluated stories.
        frames: number of frames per story.
        seed: seed of noise, of the choice of random stories and of the bootstrap.
        data: SHA-256 of the evaluated stories (ids, sentences, frames, labels, objects) and the median background.
        split: name of the split.
        skipped_frames: number of frames at the beginning of each story that were not evaluated.
    """

    rows: tuple[Row, ...]
    absent: Mapping[str, str]
    checks: tuple[Check, ...]
    judges: tuple[Judge, ...]
    label_names: tuple[str, ...]
    label_f1: Mapping[str, Mapping[str, float]]
    confusions: Mapping[str, Confusion]
    boards: BoardStories
    story_values: Mapping[str, float]
    stories: int
    frames: int
    seed: int
    data: str
    split: str = "test"
    skipped_frames: int = 0

    @property
    def blessed(self) -> bool:
        """Whether the model passes every threshold that applies, and at least one applies."""
        results = [check.passed for check in self.checks if check.passed is not None]
        return bool(results) and all(results)

    @property
    def reason(self) -> str:
        """Why the model is or is not blessed: the failed checks, else the passed ones, else why none applies."""
        by_result = {
            result: [check.why for check in self.checks if check.passed is result] for result in (False, True, None)
        }
        return " ".join(by_result[False] or by_result[True] or by_result[None]) or "No thresholds are configured."

    def row(self, name: str) -> Row | None:
        """Returns the row with a name, or None if there is none."""
        return next((row for row in self.rows if row.name == name), None)

    def judge(self, role: str) -> Judge | None:
        """Returns the judge with a role, or None if there is none."""
        return next((judge for judge in self.judges if judge.role == role), None)

    def to_json(self) -> str:
        """Returns the evaluation, with `blessed` and `reason`, as JSON with sorted keys."""
        values = _encode(self) | {"blessed": self.blessed, "reason": self.reason}
        return json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "metrics.json") -> Evaluation:
        """Parses an evaluation that `to_json` wrote.

        Args:
            text: the JSON text.
            where: name of the text in error messages.

        Raises:
            DataError: if the text is not an evaluation.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            del values["blessed"], values["reason"]
            return cls(
                **values
                | {
                    "rows": tuple(_row(row) for row in values["rows"]),
                    "checks": tuple(Check(**check) for check in values["checks"]),
                    "judges": tuple(Judge(**_arguments(Judge, judge)) for judge in values["judges"]),
                    "label_names": tuple(values["label_names"]),
                    "confusions": {name: _confusion(entry) for name, entry in values["confusions"].items()},
                    "boards": _board_stories(values["boards"]),
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{where}: is not an evaluation of this version of storygan ({type(error).__name__}: {error}); "
                "evaluate the model again with `storygan evaluate`."
            ) from error


def _row(values: dict[str, Any]) -> Row:
    arguments = _arguments(Row, values)
    return Row(**arguments | {"metrics": {name: MetricValue(**entry) for name, entry in arguments["metrics"].items()}})


def _confusion(values: dict[str, Any]) -> Confusion:
    counts = {name: tuple(map(tuple, matrix)) for name, matrix in values["counts"].items()}
    return Confusion(tuple(values["names"]), counts)


def _board_stories(values: dict[str, Any]) -> BoardStories:
    arguments = _arguments(BoardStories, values)
    ranked_by = arguments.pop("ranked_by")
    return BoardStories(ranked_by, **{name: tuple(story_ids) for name, story_ids in arguments.items()})


def _json_key(field: dataclasses.Field[Any]) -> str:
    """Returns the key of a field in JSON. Some fields have clearer names than their keys, which must not change."""
    return str(field.metadata.get("json", field.name))


def _arguments(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a dataclass's constructor from a JSON object; raises KeyError for an unknown key."""
    names = {_json_key(field): field.name for field in dataclasses.fields(cls)}
    return {names[key]: value for key, value in values.items()}


def _encode(values: Any) -> Any:
    """Returns JSON values: dataclasses as objects, floats rounded to six decimals.

    Six decimals are more than a metric's accuracy and less than what another order of summation changes.
    """
    if dataclasses.is_dataclass(values):
        return {_json_key(field): _encode(getattr(values, field.name)) for field in dataclasses.fields(values)}
    if isinstance(values, Mapping):
        return {key: _encode(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_encode(value) for value in values]
    return round(values, 6) if isinstance(values, float) else values
