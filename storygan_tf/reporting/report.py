"""The report: one HTML page that says what a run gave, needs nothing else to be read, and runs no script.

Pictures are inside as data URLs and curves as SVG, so that the page can be mailed, archived and opened anywhere.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from storygan_tf.evaluation import metric_names
from storygan_tf.evaluation.result import TRUSTED_CEILING, Evaluation
from storygan_tf.export import lineage
from storygan_tf.reporting import charts

TEMPLATES = Path(__file__).parent / "templates"

MOST_REJECTS = 10
"""Rejects that are shown one by one; the others are counted."""

BOARDS = ("best", "worst", "random")
"""Storyboards of a report, as `Evaluation.boards` names their stories."""

ROLES = {
    metric_names.LABELS: "domain judge: labels, FID and FSD (domain)",
    metric_names.PLACED: "domain judge: placed objects",
    metric_names.FID: "network of FID",
    metric_names.FSD: "network of FSD",
    metric_names.CHARACTER: "network of character F1 and frame accuracy",
}
"""What the networks are there for."""

PUBLISHED = (
    ("StoryGAN", 158.06, 18.59, 9.34),
    ("CP-CSV", 140.24, 21.78, 10.03),
    ("DUCO-StoryGAN", 96.51, 38.01, 13.97),
    ("VLC-StoryGAN", 84.96, 43.02, 17.36),
    ("VP-CSV", 65.51, 56.84, 25.87),
)
"""System, FID, character F1 and frame accuracy (percent): published on the 2,208 test stories of Pororo-SV."""


@dataclasses.dataclass(frozen=True)
class ReportContent:
    """What a report tells.

    Attributes:
        evaluation: figures and checks.
        boards: PNGs of test stories by `best`, `worst` and `random`; what is not there is left out.
        history: of the training: an entry {phase, epoch, step, seconds, losses: {name: value}} an epoch.
        counts: of the stories: {given, accepted, rejected: {reason: count}, splits: {name: count}}; may be empty.
        rejects: stories set aside: {story_id, file, reason} each.
        anomalies: of the stories: {split, feature, found, stops} each; None where nobody looked for any.
        statistics: of the data: name -> value, or name -> {key: number}, drawn as bars.
        settings: nested names and values.
        commands: what for -> the command.
        lineage: where the model comes from; see `lineage.Lineage`.
    """

    evaluation: Evaluation
    boards: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    counts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rejects: Sequence[Mapping[str, Any]] = ()
    anomalies: Sequence[Mapping[str, Any]] | None = None
    statistics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commands: Mapping[str, str] = dataclasses.field(default_factory=dict)
    lineage: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def render_report(content: ReportContent) -> str:
    """Returns the page as HTML."""
    evaluation = content.evaluation
    single, bars = charts.statistics(content.statistics)
    return render_page(
        "report.html.j2",
        evaluation,
        charts.sources(evaluation),
        content=content,
        boards=_boards(content),
        label_bars=charts.label_bars(evaluation),
        heats=_heats(evaluation),
        curves=charts.loss_curves(content.history),
        minutes=sum(entry["seconds"] for entry in content.history) / 60,
        single_statistics=single,
        bar_statistics=bars,
        published=PUBLISHED,
        settings=list(lineage.flatten(content.settings)),
        preset=content.settings.get("preset", ""),
        lineage=lineage.lineage_summary(content.lineage),
        most_rejects=MOST_REJECTS,
    )


def render_page(template: str, evaluation: Evaluation, sources: Sequence[charts.Source], **values: Any) -> str:
    """Returns a page that shows figures; whatever it is given is text in it, never HTML.

    Args:
        template: its file in `TEMPLATES`.
        evaluation: tells what was judged and by whom.
        sources: whose figures are shown.
        **values: what else the template tells.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": charts.number, "picture": picture, "short_hash": _short_hash}
    environment.globals |= {"geometry": charts, "kinds": metric_names.FIGURES, "roles": ROLES}
    return environment.get_template(template).render(
        evaluation=evaluation,
        sources=sources,
        lines=charts.figure_lines(sources, evaluation),
        dot_charts=charts.dot_charts(sources, evaluation),
        trusted_ceiling=TRUSTED_CEILING,
        **values,
    )


def picture(png: bytes) -> str:
    """Returns a PNG as data URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _short_hash(digest: str) -> str:
    return digest[: charts.HASH_DIGITS]


def _boards(content: ReportContent) -> list[tuple[str, bytes, list[tuple[str, str]]]]:
    """Returns of each storyboard: its name, its PNG, its stories each with the value that ranks it."""
    ranks, values = content.evaluation.boards, content.evaluation.story_values
    return [
        (
            name,
            content.boards[name],
            [
                (story, charts.digits(ranks.by, values[story]) if story in values else "")
                for story in getattr(ranks, name)
            ],
        )
        for name in BOARDS
        if name in content.boards
    ]


def _heats(evaluation: Evaluation) -> list[tuple[str, charts.Heat, charts.Heat | None]]:
    """Returns of each attribute: its name, how it is seen in the model's frames, and in the true ones."""
    found = (
        (attribute, charts.heat(confusion, metric_names.MODEL), charts.heat(confusion, metric_names.REAL))
        for attribute, confusion in evaluation.confusions.items()
    )
    return [(attribute, model, ceiling) for attribute, model, ceiling in found if model is not None]
