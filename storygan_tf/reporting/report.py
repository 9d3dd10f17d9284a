"""The report of a run: one self-contained HTML page without scripts.

Images are embedded as data URLs and drawings as SVG, so that the page can be mailed, archived and opened anywhere.
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

MAX_REJECTS = 10
"""Most rejected stories that are listed. The others are only counted."""

BOARDS = ("best", "worst", "random")
"""Storyboards of a report, named as the fields of `BoardStories`."""

ROLES = {
    metric_names.LABELS: "domain judge: labels, FID and FSD (domain)",
    metric_names.PLACED: "domain judge: placed objects",
    metric_names.FID: "network of FID",
    metric_names.FSD: "network of FSD",
    metric_names.CHARACTER: "network of character F1 and frame accuracy",
}
"""Descriptions of the roles of judges."""

PUBLISHED = (
    ("StoryGAN", 158.06, 18.59, 9.34),
    ("CP-CSV", 140.24, 21.78, 10.03),
    ("DUCO-StoryGAN", 96.51, 38.01, 13.97),
    ("VLC-StoryGAN", 84.96, 43.02, 17.36),
    ("VP-CSV", 65.51, 56.84, 25.87),
)
"""System, FID, character F1 and frame accuracy (percent), as published for the 2,208 test stories of Pororo-SV."""


@dataclasses.dataclass(frozen=True)
class ReportContent:
    """The contents of a report.

    Attributes:
        evaluation: the result of the evaluation.
        boards: PNG storyboards of test stories by `best`, `worst` and `random`; missing ones are left out.
        history: training history with an entry {phase, epoch, step, seconds, losses: {name: value}} per epoch.
        counts: numbers of stories, {given, accepted, rejected: {reason: count}, splits: {name: count}}; may be empty.
        rejects: rejected stories, {story_id, file, reason} each.
        anomalies: anomalies of the stories, {split, feature, found, stops} each; None if the stories were not
            validated.
        statistics: statistics of the data by name, each a value or a mapping from keys to numbers, drawn as bars.
        settings: nested mappings of settings.
        commands: command lines by purpose.
        lineage: fields of the model's `storygan_tf.export.lineage.Lineage`; may be empty.
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
    """Returns the report as HTML. All values are escaped, so that none of them is interpreted as HTML."""
    evaluation = content.evaluation
    single, bars = charts.statistics(content.statistics)
    return render_page(
        "report.html.j2",
        evaluation,
        charts.sources(evaluation),
        content=content,
        boards=_boards(content),
        label_bars=charts.label_bars(evaluation),
        heatmaps=_heatmaps(evaluation),
        curves=charts.loss_curves(content.history),
        minutes=sum(entry["seconds"] for entry in content.history) / 60,
        single_statistics=single,
        bar_statistics=bars,
        published=PUBLISHED,
        settings=list(lineage.flatten(content.settings)),
        preset=content.settings.get("preset", ""),
        lineage=lineage.lineage_summary(content.lineage),
        max_rejects=MAX_REJECTS,
    )


def render_page(template: str, evaluation: Evaluation, sources: Sequence[charts.Source], **values: Any) -> str:
    """Returns a page with metrics as HTML. All values are escaped, so that none of them is interpreted as HTML.

    Args:
        template: file name of the template in `TEMPLATES`.
        evaluation: the evaluation with stories and judges.
        sources: the sources whose metrics are displayed.
        **values: further variables of the template.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": charts.format_number, "picture": picture, "short_hash": _short_hash}
    environment.globals |= {"geometry": charts, "kinds": metric_names.METRICS, "roles": ROLES}
    return environment.get_template(template).render(
        evaluation=evaluation,
        sources=sources,
        lines=charts.metric_lines(sources, evaluation),
        dot_charts=charts.dot_charts(sources, evaluation),
        trusted_ceiling=TRUSTED_CEILING,
        **values,
    )


def picture(png: bytes) -> str:
    """Returns a PNG file as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _short_hash(digest: str) -> str:
    return digest[: charts.HASH_DIGITS]


def _boards(content: ReportContent) -> list[tuple[str, bytes, list[tuple[str, str]]]]:
    """Returns for each storyboard its name, its PNG, and the ids and ranking values of its stories."""
    ranks, values = content.evaluation.boards, content.evaluation.story_values
    return [
        (
            name,
            content.boards[name],
            [
                (story, charts.format_value(ranks.ranked_by, values[story]) if story in values else "")
                for story in getattr(ranks, name)
            ],
        )
        for name in BOARDS
        if name in content.boards
    ]


def _heatmaps(evaluation: Evaluation) -> list[tuple[str, charts.Heatmap, charts.Heatmap | None]]:
    """Returns each attribute with its confusion matrices in the model's frames and in the true frames."""
    heatmaps = (
        (attribute, charts.heatmap(confusion, metric_names.MODEL), charts.heatmap(confusion, metric_names.REAL))
        for attribute, confusion in evaluation.confusions.items()
    )
    return [(attribute, model, ceiling) for attribute, model, ceiling in heatmaps if model is not None]
