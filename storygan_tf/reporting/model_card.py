"""The model card: what an exported StoryGAN is, what it is good for, and how it was made and judged, as Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from storygan_tf.evaluation.metric_names import FIGURES
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
    """Returns the card as Markdown; whatever it is given is text in it, never markup.

    Args:
        evaluation: of the model.
        settings: nested names and values; of `config.Settings`.
        lineage: where the model comes from; see `lineage.Lineage`. May be empty.
        info: what the export's signature `info` answers.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_text,
    )
    shown = charts.sources(evaluation)
    example = (info.get("examples") or [["A sentence."] * evaluation.frames])[0]
    return environment.get_template("model_card.md.j2").render(
        evaluation=evaluation,
        settings=settings,
        phases=[phase for phase in settings.get("training", {}).get("phases", ()) if phase.get("epochs") != 0],
        data=lineage_summary(lineage.get("data", {})),
        lineage=lineage_summary({name: value for name, value in lineage.items() if name != "data"}),
        info=info,
        sources=shown,
        lines=charts.figure_lines(shown, evaluation),
        example=_Verbatim("".join(["[\n", *(f"    {json.dumps(sentence)},\n" for sentence in example), "]"])),
        kinds=FIGURES,
        roles=ROLES,
        hash_digits=charts.HASH_DIGITS,
        trusted_ceiling=TRUSTED_CEILING,
    )


class _Verbatim(str):
    """Text that is shown as it is, in a block of code."""

    __slots__ = ()


def _text(value: Any) -> Any:
    """Returns what stands for itself in Markdown: on one line, without the signs of markup."""
    if isinstance(value, _Verbatim):
        return value
    line = re.sub(r"\s+", " ", str(value))
    return _MARKDOWN.sub(r"\\\1", re.sub("[&<>]", lambda sign: _HTML[sign.group()], line))
