"""The model card of an exported StoryGAN in Markdown: intended use, training, data and evaluation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from storygan_tf.evaluation.metric_names import METRICS
from storygan_tf.evaluation.result import TRUSTED_CEILING, Evaluation
from storygan_tf.export.lineage import lineage_summary
from storygan_tf.reporting import charts
from storygan_tf.reporting.report import ROLES

TEMPLATES = Path(__file__).parent / "templates"

_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def render_model_card(
    evaluation: Evaluation, settings: Mapping[str, Any], lineage: Mapping[str, Any], info: Mapping[str, Any]
) -> str:
    """Returns the model card as Markdown. All values are escaped, so that none of them is interpreted as markup.

    Args:
        evaluation: evaluation of the model.
        settings: nested mappings of the settings of the run.
        lineage: fields of the model's `storygan_tf.export.lineage.Lineage`; may be empty.
        info: JSON values that the export's signature `info` returns.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escape_markdown,
    )
    sources = charts.sources(evaluation)
    example = (info.get("examples") or [["A sentence."] * evaluation.frames])[0]
    return environment.get_template("model_card.md.j2").render(
        evaluation=evaluation,
        settings=settings,
        phases=[phase for phase in settings.get("training", {}).get("phases", ()) if phase.get("epochs") != 0],
        data=lineage_summary(lineage.get("data", {})),
        lineage=lineage_summary({name: value for name, value in lineage.items() if name != "data"}),
        info=info,
        sources=sources,
        lines=charts.metric_lines(sources, evaluation),
        example=_Verbatim("".join(["[\n", *(f"    {json.dumps(sentence)},\n" for sentence in example), "]"])),
        kinds=METRICS,
        roles=ROLES,
        hash_digits=charts.HASH_DIGITS,
        trusted_ceiling=TRUSTED_CEILING,
    )


class _Verbatim(str):
    """Text in a block of code, which is not escaped."""

    __slots__ = ()


def _escape_markdown(value: Any) -> Any:
    """Returns a value as text on one line with escaped markup, or unchanged if it is `_Verbatim`."""
    if isinstance(value, _Verbatim):
        return value
    line = re.sub(r"\s+", " ", str(value))
    return _MARKDOWN.sub(r"\\\1", re.sub("[&<>]", lambda match: _HTML[match.group()], line))
