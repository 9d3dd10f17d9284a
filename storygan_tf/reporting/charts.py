"""Tables and drawings of metrics for the templates: cells as text, and coordinates of SVG and CSS drawings."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from storygan_tf.evaluation import metric_names
from storygan_tf.evaluation.metric_names import METRICS
from storygan_tf.evaluation.result import Confusion, Evaluation, Judge, MetricValue, Row

ROW_LABELS = {
    metric_names.MODEL: "model",
    metric_names.SERVED: "served model",
    metric_names.REAL: "true frames",
    metric_names.RANDOM_STORY: "random story",
    metric_names.BACKGROUND: "background",
}
"""Short names of an evaluation's rows, for heads of columns."""

BETTER = {"higher": "higher is better", "lower": "lower is better", "one": "best at 1"}
"""Explanations of `MetricKind.better`."""

HASH_DIGITS = 12
"""Number of digits of a SHA-256 that are displayed."""

MAX_BARS = 24
"""Most bars of one statistic. The smaller ones are only counted."""

CURVE_WIDTH, CURVE_HEIGHT, CURVE_LEFT, CURVE_BOTTOM = 304, 150, 52, 20
DOT_WIDTH, DOT_LEFT, DOT_RIGHT, DOT_LINE = 304, 100, 52, 17
_CURVE_RIGHT, _CURVE_TOP, _DOT_MARGIN, _DOT_LABEL = 10, 8, 8, 13


@dataclasses.dataclass(frozen=True)
class Source:
    """A row of an evaluation with the label that a page displays for it.

    Attributes:
        label: label in heads of tables and in drawings.
        row: the row with its metrics.
    """

    label: str
    row: Row


@dataclasses.dataclass(frozen=True)
class Cell:
    """The value of a metric as text.

    Attributes:
        value: the value, with the number of decimals of its kind.
        interval: the interval as `low to high`; empty if there is none.
    """

    value: str
    interval: str

    def __str__(self) -> str:
        return f"{self.value} ({self.interval})" if self.interval else self.value


@dataclasses.dataclass(frozen=True)
class MetricLine:
    """The line of a table with the values of one metric for all sources.

    Attributes:
        name: name of the metric in `METRICS`.
        title: heading of the metric in tables.
        better: explanation of which values are better.
        judge: first digits of the SHA-256 of the judge; empty if the metric is computed from pixels alone.
        trusted: whether the judge is trusted.
        cells: one cell per source; None for sources without the metric.
    """

    name: str
    title: str
    better: str
    judge: str
    trusted: bool
    cells: tuple[Cell | None, ...]


@dataclasses.dataclass(frozen=True)
class Dot:
    """The dot of one source in a dot chart.

    Attributes:
        source: the source.
        label: label of the source, shortened.
        value: the value as text.
        x: x coordinate of the value.
        low: x coordinate of the lower end of the interval.
        high: x coordinate of the upper end of the interval.
        y: y coordinate.
    """

    source: Source
    label: str
    value: str
    x: float
    low: float
    high: float
    y: float


@dataclasses.dataclass(frozen=True)
class DotChart:
    """A chart with a dot for each source that has a metric, on one scale.

    Attributes:
        line: the metric.
        dots: the dots from top to bottom.
        height: height of the drawing.
    """

    line: MetricLine
    dots: tuple[Dot, ...]
    height: float


@dataclasses.dataclass(frozen=True)
class Curve:
    """The curve of one loss over all epochs.

    Attributes:
        name: name of the loss.
        points: coordinates of the curve's points as SVG text, one text per phase that has the loss.
        phases: x coordinate of the beginning and name of each phase.
        low: value at the lower edge of the drawing.
        high: value at the upper edge of the drawing.
        last: the last value.
    """

    name: str
    points: tuple[str, ...]
    phases: tuple[tuple[float, str], ...]
    low: float
    high: float
    last: float


@dataclasses.dataclass(frozen=True)
class Bar:
    """A number that is drawn as a bar.

    Attributes:
        name: name of the number.
        text: the number as text.
        share: length of the bar in [0, 1].
    """

    name: str
    text: str
    share: float


@dataclasses.dataclass(frozen=True)
class Bars:
    """A group of bars on one scale.

    Attributes:
        name: name of the group.
        bars: the bars from top to bottom.
        more: number of bars that are left out.
    """

    name: str
    bars: tuple[Bar, ...]
    more: int = 0


@dataclasses.dataclass(frozen=True)
class Heatmap:
    """The confusion matrix of an attribute in the frames of one row, for a table with coloured cells.

    Attributes:
        names: the attribute's values.
        lines: for each true value the number of objects by detected value, each with its fraction of the line.
        right: fraction of all objects whose value is detected correctly; None if there are no objects.
    """

    names: tuple[str, ...]
    lines: tuple[tuple[tuple[int, float], ...], ...]
    right: float | None


def sources(evaluation: Evaluation) -> list[Source]:
    """Returns the rows of an evaluation with their short names as labels."""
    return [Source(ROW_LABELS.get(row.name, row.name), row) for row in evaluation.rows]


def judge_of(evaluation: Evaluation, name: str) -> Judge | None:
    """Returns the judge that computed a metric, or None if it was computed from pixels alone.

    Args:
        evaluation: the evaluation.
        name: name of the metric.
    """
    role = METRICS[name].judge
    judge = evaluation.judge(role) if role else None
    return evaluation.judge(metric_names.LABELS) if judge is None and role == metric_names.PLACED else judge


def format_value(name: str, value: float) -> str:
    """Returns the value of a metric as text, with the number of decimals of its kind and without a negative zero."""
    text = f"{value:.{METRICS[name].digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def metric_lines(displayed: Sequence[Source], evaluation: Evaluation) -> list[MetricLine]:
    """Returns a line for each metric that at least one source has.

    Args:
        displayed: the sources, in the order of the cells.
        evaluation: the evaluation whose judges computed the metrics.
    """
    names = [name for name in METRICS if any(name in source.row.metrics for source in displayed)]
    return [_metric_line(name, displayed, judge_of(evaluation, name)) for name in names]


def _metric_line(name: str, displayed: Sequence[Source], judge: Judge | None) -> MetricLine:
    kind = METRICS[name]
    cells = tuple(_cell(name, source.row.metrics.get(name)) for source in displayed)
    digest = judge.sha256[:HASH_DIGITS] if judge else ""
    return MetricLine(name, kind.title, BETTER[kind.better], digest, judge is None or judge.trusted, cells)


def _cell(name: str, metric: MetricValue | None) -> Cell | None:
    if metric is None:
        return None
    if metric.low is None or metric.high is None:
        return Cell(format_value(name, metric.value), "")
    return Cell(
        format_value(name, metric.value), f"{format_value(name, metric.low)} to {format_value(name, metric.high)}"
    )


def dot_charts(displayed: Sequence[Source], evaluation: Evaluation) -> list[DotChart]:
    """Returns a chart for each metric that more than one source has.

    Args:
        displayed: the sources from top to bottom.
        evaluation: the evaluation whose judges computed the metrics.
    """
    charts = (_dot_chart(line, displayed) for line in metric_lines(displayed, evaluation))
    return [chart for chart in charts if len(chart.dots) > 1]


def _dot_chart(line: MetricLine, displayed: Sequence[Source]) -> DotChart:
    values = [(source, source.row.metrics[line.name]) for source in displayed if line.name in source.row.metrics]
    ends = [end for _, metric in values for end in (metric.value, metric.low, metric.high) if end is not None]
    low, high = _axis_limits(ends)
    room = DOT_WIDTH - DOT_LEFT - DOT_RIGHT - 2 * _DOT_MARGIN

    def x(value: float) -> float:
        return DOT_LEFT + _DOT_MARGIN + room * (value - low) / (high - low)

    dots = tuple(
        Dot(
            source=source,
            label=shortened(source.label, _DOT_LABEL),
            value=format_value(line.name, metric.value),
            x=x(metric.value),
            low=x(metric.value if metric.low is None else metric.low),
            high=x(metric.value if metric.high is None else metric.high),
            y=DOT_LINE * (number + 0.5),
        )
        for number, (source, metric) in enumerate(values)
    )
    return DotChart(line, dots, DOT_LINE * len(dots))


def shortened(text: str, length: int) -> str:
    """Returns a text on one line of at most `length` characters. A longer text keeps its end, where paths differ."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"…{line[1 - length :]}"


def label_bars(evaluation: Evaluation) -> list[Bars]:
    """Returns for each label its F1 in the frames of the model and of the served model, and in the true frames."""
    rows = [name for name in (metric_names.MODEL, metric_names.SERVED, metric_names.REAL) if evaluation.row(name)]
    return [
        Bars(label, tuple(Bar(row, f"{by_row[row]:.2f}", min(max(by_row[row], 0), 1)) for row in rows if row in by_row))
        for label in evaluation.label_names
        if (by_row := evaluation.label_f1.get(label))
    ]


def heatmap(confusion: Confusion, row: str) -> Heatmap | None:
    """Returns the confusion matrix of an attribute in the frames of a row, or None if the row has none."""
    counts = confusion.counts.get(row)
    if counts is None:
        return None
    lines = tuple(tuple((count, count / max(sum(line), 1)) for count in line) for line in counts)
    total = sum(map(sum, counts))
    right = sum(counts[index][index] for index in range(len(counts)))
    return Heatmap(confusion.names, lines, right / total if total else None)


def statistics(values: Mapping[str, Any], prefix: str = "") -> tuple[list[tuple[str, str]], list[Bars]]:
    """Returns statistics of the data as single values and groups of bars.

    Args:
        values: single values, mappings from keys to numbers, or further mappings of them, by name.
        prefix: text before each name.

    Returns:
        Pairs of a name and a value as text, and for each mapping to numbers a group with its `MAX_BARS` greatest
        numbers in their original order.
    """
    single, bars = [], []
    for name, value in values.items():
        title = f"{prefix}{name}"
        if not isinstance(value, Mapping):
            single.append((title, format_number(value)))
        elif value and all(map(_is_number, value.values())):
            bars.append(_bars(title, value))
        else:
            more_single, more_bars = statistics(value, f"{title}: ")
            single, bars = single + more_single, bars + more_bars
    return single, bars


def format_number(value: Any) -> str:
    """Returns a value as text: floats with four significant digits, whole numbers in full, text unchanged."""
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bars(name: str, values: Mapping[Any, float]) -> Bars:
    greatest = set(sorted(values, key=lambda key: -values[key])[:MAX_BARS])
    maximum = max(values.values())
    bars = (
        Bar(str(key), format_number(value), max(value, 0) / maximum if maximum > 0 else 0.0)
        for key, value in values.items()
        if key in greatest
    )
    return Bars(name, tuple(bars), len(values) - len(greatest))


def loss_curves(history: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Returns a curve for each loss of a training and each value of its validation, in order of appearance.

    Values that are not finite are left out.

    Args:
        history: for each epoch an entry {phase, epoch, step, seconds, losses: {name: value}}, optionally with
            validation: {name: value}.
    """
    names = dict.fromkeys(name for entry in history for name in _values(entry))
    return [curve for name in names for curve in _curve(history, name)]


def _values(entry: Mapping[str, Any]) -> dict[str, float]:
    """Returns losses and values of the validation of an epoch, by the names of their curves."""
    validation = entry.get("validation", {})
    return {**entry["losses"], **{f"validation {name}": value for name, value in validation.items()}}


def _curve(history: Sequence[Mapping[str, Any]], name: str) -> Iterator[Curve]:
    phases = list(_phases(history))
    values = [(x, phase, _values(entry)[name]) for x, phase, entry in phases if name in _values(entry)]
    values = [(x, phase, value) for x, phase, value in values if math.isfinite(value)]
    if not values:
        return
    low, high = _axis_limits([value for *_, value in values])
    lines = itertools.groupby(values, key=lambda point: point[1])
    points = (" ".join(f"{x:.1f},{_y(value, low, high):.1f}" for x, _, value in line) for _, line in lines)
    starts = {phase: (x, entry["phase"]) for x, phase, entry in reversed(phases)}
    yield Curve(name, tuple(points), tuple(starts[phase] for phase in sorted(starts)), low, high, values[-1][2])


def _phases(history: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, int, Mapping[str, Any]]]:
    """Yields the x coordinate, the number of the phase and the entry of each epoch."""
    step = (CURVE_WIDTH - CURVE_LEFT - _CURVE_RIGHT) / max(len(history) - 1, 1)
    runs = itertools.groupby(enumerate(history), key=lambda pair: pair[1]["phase"])
    for phase, (_, run) in enumerate(runs):
        for index, entry in run:
            yield CURVE_LEFT + index * step, phase, entry


def _axis_limits(values: Sequence[float]) -> tuple[float, float]:
    """Returns the least and the greatest value, or an interval around the value if all are equal."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _y(value: float, low: float, high: float) -> float:
    bottom = CURVE_HEIGHT - CURVE_BOTTOM
    return bottom - (bottom - _CURVE_TOP) * (value - low) / (high - low)
