"""What pages show of figures: the cells of their tables, and the geometry of what templates draw as SVG or boxes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from storygan_tf.evaluation import metric_names
from storygan_tf.evaluation.metric_names import FIGURES
from storygan_tf.evaluation.result import Confusion, Evaluation, Figure, Judge, Row

ROW_LABELS = {
    metric_names.MODEL: "model",
    metric_names.SERVED: "served model",
    metric_names.REAL: "true frames",
    metric_names.RANDOM_STORY: "random story",
    metric_names.BACKGROUND: "background",
}
"""Rows of an evaluation, as short as the head of a column."""

BETTER = {"higher": "higher is better", "lower": "lower is better", "one": "best at 1"}

HASH_DIGITS = 12
"""Digits that are shown of a SHA-256."""

MOST_BARS = 24
"""Bars of one statistic; the smaller ones are counted."""

CURVE_WIDTH, CURVE_HEIGHT, CURVE_LEFT, CURVE_BOTTOM = 304, 150, 52, 20
DOT_WIDTH, DOT_LEFT, DOT_RIGHT, DOT_LINE = 304, 100, 52, 17
_CURVE_RIGHT, _CURVE_TOP, _DOT_MARGIN, _DOT_LABEL = 10, 8, 8, 13


@dataclasses.dataclass(frozen=True)
class Source:
    """A row of an evaluation, as a page calls it.

    Attributes:
        label: in the heads of tables and in drawings.
        row: its figures.
    """

    label: str
    row: Row


@dataclasses.dataclass(frozen=True)
class Cell:
    """A figure as text.

    Attributes:
        value: with the digits of its kind.
        interval: `low to high`; empty where there is none.
    """

    value: str
    interval: str

    def __str__(self) -> str:
        return f"{self.value} ({self.interval})" if self.interval else self.value


@dataclasses.dataclass(frozen=True)
class FigureLine:
    """A figure of all sources.

    Attributes:
        name: of `figures.FIGURES`.
        title: as tables head it.
        better: which values are better.
        judge: the first digits of its network's SHA-256; empty for pixels alone.
        trusted: whether the network is.
        cells: one for each source; None where it has no such figure.
    """

    name: str
    title: str
    better: str
    judge: str
    trusted: bool
    cells: tuple[Cell | None, ...]


@dataclasses.dataclass(frozen=True)
class Dot:
    """A figure of one source, drawn: everything but the texts in the coordinates of the drawing."""

    source: Source
    label: str
    value: str
    x: float
    low: float
    high: float
    y: float


@dataclasses.dataclass(frozen=True)
class DotChart:
    """A figure of all sources that have it, on one scale."""

    line: FigureLine
    dots: tuple[Dot, ...]
    height: float


@dataclasses.dataclass(frozen=True)
class Curve:
    """One loss over all epochs.

    Attributes:
        name: of the loss.
        points: of the curve, in the coordinates of the drawing; a list for each phase that has the loss.
        phases: (x where the phase begins, its name).
        low, high: values at the lower and upper edge.
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
    """A number as a bar.

    Attributes:
        name: what it is of.
        text: the number.
        share: length, 0 to 1.
    """

    name: str
    text: str
    share: float


@dataclasses.dataclass(frozen=True)
class Bars:
    """Bars of one scale.

    Attributes:
        name: what they are of.
        bars: from top to bottom.
        more: how many are not shown.
    """

    name: str
    bars: tuple[Bar, ...]
    more: int = 0


@dataclasses.dataclass(frozen=True)
class Heat:
    """How the values of an attribute are seen in one row's frames.

    Attributes:
        names: of the values.
        lines: for each true value its counts by seen value, each with its share of the line, 0 to 1.
        right: share of all objects that are seen right; None where there are no objects.
    """

    names: tuple[str, ...]
    lines: tuple[tuple[tuple[int, float], ...], ...]
    right: float | None


def sources(evaluation: Evaluation) -> list[Source]:
    """Returns the rows of an evaluation with their short names."""
    return [Source(ROW_LABELS.get(row.name, row.name), row) for row in evaluation.rows]


def judge_of(evaluation: Evaluation, name: str) -> Judge | None:
    """Returns the network behind a figure, None for pixels alone; the domain judge tells placed objects too."""
    role = FIGURES[name].judge
    judge = evaluation.judge(role) if role else None
    return evaluation.judge(metric_names.LABELS) if judge is None and role == metric_names.PLACED else judge


def digits(name: str, value: float) -> str:
    """Returns a figure's value with the digits of its kind."""
    text = f"{value:.{FIGURES[name].digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def figure_lines(shown: Sequence[Source], evaluation: Evaluation) -> list[FigureLine]:
    """Returns the figures that any source has.

    Args:
        shown: the sources, in the order of the cells.
        evaluation: tells who judged.
    """
    names = [name for name in FIGURES if any(name in source.row.figures for source in shown)]
    return [_figure_line(name, shown, judge_of(evaluation, name)) for name in names]


def _figure_line(name: str, shown: Sequence[Source], judge: Judge | None) -> FigureLine:
    kind = FIGURES[name]
    cells = tuple(_cell(name, source.row.figures.get(name)) for source in shown)
    digest = judge.sha256[:HASH_DIGITS] if judge else ""
    return FigureLine(name, kind.title, BETTER[kind.better], digest, judge is None or judge.trusted, cells)


def _cell(name: str, figure: Figure | None) -> Cell | None:
    if figure is None:
        return None
    if figure.low is None or figure.high is None:
        return Cell(digits(name, figure.value), "")
    return Cell(digits(name, figure.value), f"{digits(name, figure.low)} to {digits(name, figure.high)}")


def dot_charts(shown: Sequence[Source], evaluation: Evaluation) -> list[DotChart]:
    """Returns a drawing for each figure that more than one source has."""
    charts = (_dot_chart(line, shown) for line in figure_lines(shown, evaluation))
    return [chart for chart in charts if len(chart.dots) > 1]


def _dot_chart(line: FigureLine, shown: Sequence[Source]) -> DotChart:
    found = [(source, source.row.figures[line.name]) for source in shown if line.name in source.row.figures]
    ends = [end for _, figure in found for end in (figure.value, figure.low, figure.high) if end is not None]
    low, high = _range(ends)
    room = DOT_WIDTH - DOT_LEFT - DOT_RIGHT - 2 * _DOT_MARGIN

    def x(value: float) -> float:
        return DOT_LEFT + _DOT_MARGIN + room * (value - low) / (high - low)

    dots = tuple(
        Dot(
            source=source,
            label=shortened(source.label, _DOT_LABEL),
            value=digits(line.name, figure.value),
            x=x(figure.value),
            low=x(figure.value if figure.low is None else figure.low),
            high=x(figure.value if figure.high is None else figure.high),
            y=DOT_LINE * (number + 0.5),
        )
        for number, (source, figure) in enumerate(found)
    )
    return DotChart(line, dots, DOT_LINE * len(dots))


def shortened(text: str, length: int) -> str:
    """Returns a text on one line, of so many characters at the most: its end, for paths differ there."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"…{line[1 - length :]}"


def label_bars(evaluation: Evaluation) -> list[Bars]:
    """Returns for each label its F1 in the frames of the model, of the served model and of the truth."""
    rows = [name for name in (metric_names.MODEL, metric_names.SERVED, metric_names.REAL) if evaluation.row(name)]
    return [
        Bars(label, tuple(Bar(row, f"{by_row[row]:.2f}", min(max(by_row[row], 0), 1)) for row in rows if row in by_row))
        for label in evaluation.label_names
        if (by_row := evaluation.label_f1.get(label))
    ]


def heat(confusion: Confusion, row: str) -> Heat | None:
    """Returns how an attribute is seen in a row's frames, None where that was not counted."""
    counts = confusion.counts.get(row)
    if counts is None:
        return None
    lines = tuple(tuple((count, count / max(sum(line), 1)) for count in line) for line in counts)
    total = sum(map(sum, counts))
    right = sum(counts[index][index] for index in range(len(counts)))
    return Heat(confusion.names, lines, right / total if total else None)


def statistics(values: Mapping[str, Any], prefix: str = "") -> tuple[list[tuple[str, str]], list[Bars]]:
    """Tells statistics of the data.

    Args:
        values: name -> value, or name -> {key: number}, nested at will.
        prefix: of the names.

    Returns:
        Names and single values; and bars for each mapping of numbers, the greatest `MOST_BARS` in the order given.
    """
    single, bars = [], []
    for name, value in values.items():
        title = f"{prefix}{name}"
        if not isinstance(value, Mapping):
            single.append((title, number(value)))
        elif value and all(map(_is_number, value.values())):
            bars.append(_bars(title, value))
        else:
            more_single, more_bars = statistics(value, f"{title}: ")
            single, bars = single + more_single, bars + more_bars
    return single, bars


def number(value: Any) -> str:
    """Returns a value as text: four significant digits of a float, whole numbers whole, text as it is."""
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bars(name: str, values: Mapping[Any, float]) -> Bars:
    greatest = set(sorted(values, key=lambda key: -values[key])[:MOST_BARS])
    most = max(values.values())
    bars = (
        Bar(str(key), number(value), max(value, 0) / most if most > 0 else 0.0)
        for key, value in values.items()
        if key in greatest
    )
    return Bars(name, tuple(bars), len(values) - len(greatest))


def loss_curves(history: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Returns a curve for each loss of a training, in order of appearance; values that are not finite are left out.

    Args:
        history: an entry {phase, epoch, step, seconds, losses: {name: value}} an epoch.
    """
    names = dict.fromkeys(name for entry in history for name in entry["losses"])
    return [curve for name in names for curve in _curve(history, name)]


def _curve(history: Sequence[Mapping[str, Any]], name: str) -> Iterator[Curve]:
    phases = list(_phases(history))
    values = [(x, phase, entry["losses"][name]) for x, phase, entry in phases if name in entry["losses"]]
    values = [(x, phase, value) for x, phase, value in values if math.isfinite(value)]
    if not values:
        return
    low, high = _range([value for *_, value in values])
    lines = itertools.groupby(values, key=lambda point: point[1])
    points = (" ".join(f"{x:.1f},{_y(value, low, high):.1f}" for x, _, value in line) for _, line in lines)
    starts = {phase: (x, entry["phase"]) for x, phase, entry in reversed(phases)}
    yield Curve(name, tuple(points), tuple(starts[phase] for phase in sorted(starts)), low, high, values[-1][2])


def _phases(history: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, int, Mapping[str, Any]]]:
    """Yields of each epoch: its x, the number of its phase, its entry."""
    step = (CURVE_WIDTH - CURVE_LEFT - _CURVE_RIGHT) / max(len(history) - 1, 1)
    runs = itertools.groupby(enumerate(history), key=lambda pair: pair[1]["phase"])
    for phase, (_, run) in enumerate(runs):
        for index, entry in run:
            yield CURVE_LEFT + index * step, phase, entry


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _y(value: float, low: float, high: float) -> float:
    bottom = CURVE_HEIGHT - CURVE_BOTTOM
    return bottom - (bottom - _CURVE_TOP) * (value - low) / (high - low)
