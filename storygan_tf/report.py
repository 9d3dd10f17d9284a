"""The report: one HTML page that says what a run gave, needs nothing else to be read, and runs no script.

Pictures are inside as data URLs and curves as SVG, so that the page can be mailed, archived and opened anywhere.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from storygan_tf.evaluation import TRUSTED_CEILING, Evaluation

TEMPLATES = Path(__file__).parent / "templates"

MOST_REJECTS = 10
"""Rejects that are shown one by one; the others are counted."""

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 340, 150, 58, 20


@dataclasses.dataclass(frozen=True)
class Content:
    """What a report tells.

    Attributes:
        evaluation: figures and checks.
        storyboard: a PNG of test stories.
        history: of the training: an entry {phase, epoch, step, seconds, losses: {name: value}} an epoch.
        counts: of the stories: {given, accepted, rejected: {reason: count}, splits: {name: count}}; may be empty.
        rejects: stories set aside: {story_id, file, reason} each.
        settings: nested names and values.
        commands: what for -> the command.
    """

    evaluation: Evaluation
    storyboard: bytes
    history: Sequence[Mapping[str, Any]] = ()
    counts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rejects: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commands: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Chart:
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


def render_report(content: Content) -> str:
    """Returns the page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    return environment.get_template("report.html.j2").render(
        content=content,
        evaluation=content.evaluation,
        storyboard=base64.b64encode(content.storyboard).decode(),
        charts=charts(content.history),
        drawing={"width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "bottom": _BOTTOM},
        minutes=sum(entry["seconds"] for entry in content.history) / 60,
        settings=list(_flat(content.settings)),
        preset=content.settings.get("preset", ""),
        most_rejects=MOST_REJECTS,
        trusted_ceiling=TRUSTED_CEILING,
    )


def charts(history: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Returns a chart for each loss of a training, in order of appearance; values that are not finite are left out."""
    names = dict.fromkeys(name for entry in history for name in entry["losses"])
    return [chart for name in names for chart in _chart(history, name)]


def _chart(history: Sequence[Mapping[str, Any]], name: str) -> Iterator[Chart]:
    phases = list(_phases(history))
    values = [(x, phase, entry["losses"][name]) for x, phase, entry in phases if name in entry["losses"]]
    values = [(x, phase, value) for x, phase, value in values if math.isfinite(value)]
    if not values:
        return
    low, high = _range([value for *_, value in values])
    lines = itertools.groupby(values, key=lambda point: point[1])
    points = (" ".join(f"{x:.1f},{_y(value, low, high):.1f}" for x, _, value in line) for _, line in lines)
    starts = {phase: (x, entry["phase"]) for x, phase, entry in reversed(phases)}
    yield Chart(name, tuple(points), tuple(starts[phase] for phase in sorted(starts)), low, high, values[-1][2])


def _phases(history: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, int, Mapping[str, Any]]]:
    """Yields of each epoch: its x, the number of its phase, its entry."""
    step = (_WIDTH - _LEFT - 10) / max(len(history) - 1, 1)
    runs = itertools.groupby(enumerate(history), key=lambda pair: pair[1]["phase"])
    for phase, (_, run) in enumerate(runs):
        for index, entry in run:
            yield _LEFT + index * step, phase, entry


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _y(value: float, low: float, high: float) -> float:
    top, bottom = 8, _HEIGHT - _BOTTOM
    return bottom - (bottom - top) * (value - low) / (high - low)


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yields nested settings as (dotted name, value); members of a list go by their `name`."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _flat(value, f"{name}.{key}".lstrip("."))
    elif isinstance(values, list | tuple) and values and isinstance(values[0], Mapping):
        for index, value in enumerate(values):
            yield from _flat(value, f"{name}.{value.get('name', index)}")
    else:
        yield name, values if isinstance(values, str) else json.dumps(values)


def _figure(value: float | None) -> str:
    return "absent" if value is None else f"{value:.3f}"
