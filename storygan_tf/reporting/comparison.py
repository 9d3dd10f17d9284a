"""Comparison of several models on the same stories, with the same judges and seed: a plain table and an HTML page."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence

import numpy as np

from storygan_tf.common.errors import DataError
from storygan_tf.data.storyboard import StoryRow, storyboard_image
from storygan_tf.evaluation import metric_names
from storygan_tf.evaluation.metric_names import METRICS
from storygan_tf.evaluation.result import TRUSTED_CEILING, Evaluation, Row
from storygan_tf.reporting.charts import HASH_DIGITS, ROW_LABELS, MetricLine, Source, format_value, metric_lines
from storygan_tf.reporting.report import ROLES, render_page

BASELINES = (metric_names.REAL, metric_names.RANDOM_STORY, metric_names.BACKGROUND)
"""Rows that do not depend on the model."""

TERMINAL_WIDTH = 120
"""Most characters on a line of the plain table."""

_GAP = "  "
_DAGGER = "†"


@dataclasses.dataclass(frozen=True)
class ComparedModel:
    """A model of a comparison.

    Attributes:
        name: name of the model in tables and pictures.
        evaluation: evaluation of the model.
        frames: the model's frames by story id, uint8 `[T, 64, 64, 3]`, at least for the displayed stories.
    """

    name: str
    evaluation: Evaluation
    frames: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class StoryToShow:
    """A story to display in a comparison.

    Attributes:
        story_id: id of the story.
        sentences: T sentences.
        frames: the true frames, uint8 `[T, 64, 64, 3]`.
    """

    story_id: str
    sentences: tuple[str, ...]
    frames: np.ndarray


def comparison_table(compared: Sequence[ComparedModel]) -> str:
    """Returns a plain table with a line per model and baseline, and a column per metric that any of them has.

    Columns that do not fit on a line of `TERMINAL_WIDTH` characters follow in further tables.

    Args:
        compared: the models, at least one.

    Raises:
        DataError: if the models are not comparable (see `check_comparable`).
    """
    check_comparable(compared)
    evaluation, displayed = compared[0].evaluation, _sources(compared)
    lines = metric_lines(displayed, evaluation)
    names = ["", *(source.label for source in displayed)]
    columns = [_column(line) for line in lines]
    blocks = [_block(names, block) for block in _split_columns(names, columns)]
    return "\n".join([*blocks, _notes(evaluation, lines, _absent(compared, lines))])


def _column(line: MetricLine) -> list[str]:
    """Returns the cells of a metric's column with its head."""
    mark = "" if line.trusted else f" {_DAGGER}"
    return [f"{line.title}{mark}", *("absent" if cell is None else f"{cell}{mark}" for cell in line.cells)]


def render_comparison(compared: Sequence[ComparedModel], stories: Sequence[StoryToShow]) -> str:
    """Returns a self-contained HTML page with a table of metrics, and the true and each model's frames of stories.

    Args:
        compared: the models, at least one.
        stories: the displayed stories from top to bottom.

    Raises:
        DataError: if the models are not comparable (see `check_comparable`), or one lacks the frames of a story.
    """
    check_comparable(compared)
    evaluation, displayed = compared[0].evaluation, _sources(compared)
    return render_page(
        "comparison.html.j2",
        evaluation,
        displayed,
        names=[entry.name for entry in compared],
        absent=_absent(compared, metric_lines(displayed, evaluation)),
        stories=[(story.story_id, _board(story, compared)) for story in stories],
    )


def check_comparable(compared: Sequence[ComparedModel]) -> None:
    """Checks that models were evaluated under the same conditions.

    Args:
        compared: the models.

    Raises:
        DataError: if there is no model, two have the same name, or two were not evaluated by the same networks, on the
            same stories, split and frames, with the same seed.
    """
    if not compared:
        raise DataError("comparison: found no model, expected at least one.")
    names = [entry.name for entry in compared]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"comparison: found {name!r} more than once; give each model another name.")
    first = compared[0]
    for other in compared[1:]:
        expected, found = _conditions(first.evaluation), _conditions(other.evaluation)
        for condition, value in expected.items():
            if found[condition] != value:
                raise DataError(
                    f"{first.name} and {other.name} do not compare: {condition}: found {value} and "
                    f"{found[condition]}, expected the same; evaluate both again with one judge, on the same stories, "
                    "with one seed."
                )


def _conditions(evaluation: Evaluation) -> dict[str, object]:
    """Returns the conditions that must be equal for a comparison, by their names in error messages."""
    hashes = sorted((judge.role, judge.sha256) for judge in evaluation.judges)
    return {
        "stories (SHA-256)": evaluation.data,
        "split": evaluation.split,
        "frames": evaluation.frames,
        "skipped first frames": evaluation.skipped_frames,
        "judges": ", ".join(f"{role} {digest}" for role, digest in hashes) or "none",
        "seed": evaluation.seed,
    }


def _sources(compared: Sequence[ComparedModel]) -> list[Source]:
    """Returns the rows of the models, then those of the baselines."""
    models = [Source(entry.name, _model_row(entry)) for entry in compared]
    return [*models, *(source for name in BASELINES for source in _baselines(name, compared))]


def _model_row(entry: ComparedModel) -> Row:
    row = entry.evaluation.row(metric_names.MODEL)
    if row is None:
        raise DataError(
            f"comparison: {entry.name}: its evaluation has no row {metric_names.MODEL!r}; evaluate it again."
        )
    return row


def _baselines(name: str, compared: Sequence[ComparedModel]) -> list[Source]:
    """Returns a baseline's row once if it is the same for all models, else one row per different one.

    The baselines differ if the models were trained on different stories.
    """
    different: list[Source] = []
    for entry in compared:
        row = entry.evaluation.row(name)
        if row is not None and all(_displayed_values(row) != _displayed_values(known.row) for known in different):
            different.append(Source(f"{ROW_LABELS[name]} of {entry.name}", row))
    return different if len(different) > 1 else [Source(ROW_LABELS[name], source.row) for source in different]


def _displayed_values(row: Row) -> dict[str, str]:
    return {name: format_value(name, metric.value) for name, metric in row.metrics.items()}


def _absent(compared: Sequence[ComparedModel], lines: Sequence[MetricLine]) -> dict[str, str]:
    """Returns for each metric without a line the reason why it is absent."""
    displayed = [line.name for line in lines]
    reasons = [entry.evaluation.absent for entry in compared]
    return {name: why for absent in reasons for name, why in absent.items() if name not in displayed}


def _split_columns(names: Sequence[str], columns: Sequence[Sequence[str]]) -> list[list[Sequence[str]]]:
    """Splits columns into blocks that fit on a line together with the names. A block has at least one column."""
    room = TERMINAL_WIDTH - max(map(len, names))
    blocks: list[list[Sequence[str]]] = []
    left = 0
    for column in columns:
        width = len(_GAP) + max(map(len, column))
        if not blocks or width > left:
            blocks.append([])
            left = room
        blocks[-1].append(column)
        left -= width
    return blocks


def _block(names: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    """Returns the text of a table with aligned columns."""
    widths = [max(map(len, column)) for column in (names, *columns)]
    rows = zip(names, *columns, strict=True)
    lines = (_GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _notes(evaluation: Evaluation, lines: Sequence[MetricLine], absent: Mapping[str, str]) -> str:
    """Returns the lines below the plain table: conditions, judges, absent metrics and untrusted metrics."""
    notes = [
        f"{evaluation.stories} stories of {evaluation.frames} frames, split {evaluation.split}, seed "
        f"{evaluation.seed}; 95% intervals over stories"
    ]
    notes += [f"judge {judge.sha256[:HASH_DIGITS]}: {ROLES.get(judge.role, judge.role)}" for judge in evaluation.judges]
    notes += [f"absent: {METRICS[name].title if name in METRICS else name}: {why}" for name, why in absent.items()]
    if not all(line.trusted for line in lines):
        notes.append(f"{_DAGGER} untrusted: on the true frames the judge does not reach {TRUSTED_CEILING}")
    return "".join(f"{note}\n" for note in notes)


def _board(story: StoryToShow, compared: Sequence[ComparedModel]) -> bytes:
    """Returns a PNG of a story with the true frames and below them the frames of each model."""
    rows = {"true": story.frames}
    for entry in compared:
        if story.story_id not in entry.frames:
            raise DataError(
                f"comparison: {entry.name}: found no frames of story {story.story_id!r}, expected those of every "
                "displayed story."
            )
        # The name of a model may be `true`, too.
        rows[f"{entry.name} " if entry.name in rows else entry.name] = entry.frames[story.story_id]
    buffer = io.BytesIO()
    storyboard_image([StoryRow("", story.sentences, rows)]).save(buffer, "PNG")
    return buffer.getvalue()
