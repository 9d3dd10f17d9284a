"""Models side by side: a table and a page of storyboards, of the same stories, by the same judges, from one seed."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence

import numpy as np

from storygan_tf.common.errors import DataError
from storygan_tf.data.storyboard import StoryRow, storyboard_image
from storygan_tf.evaluation import metric_names
from storygan_tf.evaluation.metric_names import FIGURES
from storygan_tf.evaluation.result import TRUSTED_CEILING, Evaluation, Row
from storygan_tf.reporting.charts import HASH_DIGITS, ROW_LABELS, FigureLine, Source, digits, figure_lines
from storygan_tf.reporting.report import ROLES, render_page

BASELINES = (metric_names.REAL, metric_names.RANDOM_STORY, metric_names.BACKGROUND)
"""Rows that are the same for all models, and shown once."""

TERMINAL = 120
"""Characters of a line of the plain table."""

_GAP = "  "
_DAGGER = "†"


@dataclasses.dataclass(frozen=True)
class ComparedModel:
    """A model of a comparison.

    Attributes:
        name: how tables and pictures call it.
        evaluation: of it.
        frames: story id -> uint8 `[T, 64, 64, 3]`, of the stories to be shown at least.
    """

    name: str
    evaluation: Evaluation
    frames: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class StoryToShow:
    """A story whose frames are shown.

    Attributes:
        story_id: its name.
        sentences: T sentences.
        frames: the true ones, uint8 `[T, 64, 64, 3]`.
    """

    story_id: str
    sentences: tuple[str, ...]
    frames: np.ndarray


def comparison_table(compared: Sequence[ComparedModel]) -> str:
    """Returns a plain table: a line for each model and baseline, a column for each figure that any of them has.

    Columns that have no place on a line of `TERMINAL` characters follow below.

    Args:
        compared: at least one.

    Raises:
        DataError: where they do not compare; see `check_comparable`.
    """
    check_comparable(compared)
    evaluation, shown = compared[0].evaluation, _sources(compared)
    lines = figure_lines(shown, evaluation)
    names = ["", *(source.label for source in shown)]
    columns = [_column(line) for line in lines]
    blocks = [_block(names, block) for block in _packed(names, columns)]
    return "\n".join([*blocks, _notes(evaluation, lines, _absent(compared, lines))])


def _column(line: FigureLine) -> list[str]:
    mark = "" if line.trusted else f" {_DAGGER}"
    return [f"{line.title}{mark}", *("absent" if cell is None else f"{cell}{mark}" for cell in line.cells)]


def render_comparison(compared: Sequence[ComparedModel], stories: Sequence[StoryToShow]) -> str:
    """Returns a self-contained HTML page: the table, and the stories' frames by each model under the true ones.

    Args:
        compared: at least one.
        stories: shown from top to bottom.

    Raises:
        DataError: where they do not compare (see `check_comparable`), or one lacks the frames of a story.
    """
    check_comparable(compared)
    evaluation, shown = compared[0].evaluation, _sources(compared)
    return render_page(
        "comparison.html.j2",
        evaluation,
        shown,
        names=[entry.name for entry in compared],
        absent=_absent(compared, figure_lines(shown, evaluation)),
        stories=[(story.story_id, _board(story, compared)) for story in stories],
    )


def check_comparable(compared: Sequence[ComparedModel]) -> None:
    """Refuses what does not compare.

    Raises:
        DataError: for no model at all, two of the same name, or two that were not judged by the same networks, on the
            same stories, split and frames, from the same seed: it names both and what differs.
    """
    if not compared:
        raise DataError("comparison: found no model, expected at least one.")
    names = [entry.name for entry in compared]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"comparison: found {name!r} more than once; give each model a name of its own.")
    first = compared[0]
    for other in compared[1:]:
        expected, found = _conditions(first.evaluation), _conditions(other.evaluation)
        for what, value in expected.items():
            if found[what] != value:
                raise DataError(
                    f"{first.name} and {other.name} do not compare: {what}: found {value} and {found[what]}, expected "
                    "the same; evaluate both again with one judge, on the same stories, from one seed."
                )


def _conditions(evaluation: Evaluation) -> dict[str, object]:
    """Returns what has to be the same, as errors call it."""
    hashes = sorted((judge.role, judge.sha256) for judge in evaluation.judges)
    return {
        "stories (SHA-256)": evaluation.data,
        "split": evaluation.split,
        "frames": evaluation.frames,
        "first frames not judged": evaluation.skipped_frames,
        "judges": ", ".join(f"{role} {digest}" for role, digest in hashes) or "none",
        "seed": evaluation.seed,
    }


def _sources(compared: Sequence[ComparedModel]) -> list[Source]:
    """Returns the rows to show: each model's, then the baselines."""
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
    """Returns a baseline once; where training stories differ, what is made of them may, and is told of each model."""
    found: list[Source] = []
    for entry in compared:
        row = entry.evaluation.row(name)
        if row is not None and all(_values(row) != _values(known.row) for known in found):
            found.append(Source(f"{ROW_LABELS[name]} of {entry.name}", row))
    return found if len(found) > 1 else [Source(ROW_LABELS[name], source.row) for source in found]


def _values(row: Row) -> dict[str, str]:
    return {name: digits(name, figure.value) for name, figure in row.figures.items()}


def _absent(compared: Sequence[ComparedModel], lines: Sequence[FigureLine]) -> dict[str, str]:
    """Returns the figures that no row has -> why."""
    there = [line.name for line in lines]
    reasons = [entry.evaluation.absent for entry in compared]
    return {name: why for absent in reasons for name, why in absent.items() if name not in there}


def _packed(names: Sequence[str], columns: Sequence[Sequence[str]]) -> list[list[Sequence[str]]]:
    """Returns columns in blocks, each of which fits on a line after the names; one column at the least."""
    room = TERMINAL - max(map(len, names))
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
    widths = [max(map(len, column)) for column in (names, *columns)]
    rows = zip(names, *columns, strict=True)
    lines = (_GAP.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _notes(evaluation: Evaluation, lines: Sequence[FigureLine], absent: Mapping[str, str]) -> str:
    notes = [
        f"{evaluation.stories} stories of {evaluation.frames} frames, split {evaluation.split}, seed "
        f"{evaluation.seed}; 95% intervals over stories"
    ]
    notes += [f"judge {judge.sha256[:HASH_DIGITS]}: {ROLES.get(judge.role, judge.role)}" for judge in evaluation.judges]
    notes += [f"absent: {FIGURES[name].title if name in FIGURES else name}: {why}" for name, why in absent.items()]
    if not all(line.trusted for line in lines):
        notes.append(f"{_DAGGER} untrusted: on the true frames the judge does not reach {TRUSTED_CEILING}")
    return "".join(f"{note}\n" for note in notes)


def _board(story: StoryToShow, compared: Sequence[ComparedModel]) -> bytes:
    """Returns a PNG of a story: the true frames, and those of each model below."""
    rows = {"true": story.frames}
    for entry in compared:
        if story.story_id not in entry.frames:
            raise DataError(
                f"comparison: {entry.name}: found no frames of story {story.story_id!r}, expected those of every story "
                "that is shown."
            )
        # A model may be called `true` as well.
        rows[f"{entry.name} " if entry.name in rows else entry.name] = entry.frames[story.story_id]
    buffer = io.BytesIO()
    storyboard_image([StoryRow("", story.sentences, rows)]).save(buffer, "PNG")
    return buffer.getvalue()
