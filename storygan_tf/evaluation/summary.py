"""From what adds up over stories to an evaluation: figures with intervals, judges, boards, checks."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from storygan_tf.evaluation.gate import gate, required_ceiling
from storygan_tf.evaluation.measure import SETTINGS, JudgePanel, Measurements
from storygan_tf.evaluation.metric_names import (
    BACKGROUND,
    CHARACTER,
    FIGURES,
    LABELS,
    MODEL,
    PLACED,
    REAL,
    ROWS,
    SERVED,
)
from storygan_tf.evaluation.plan import Plan
from storygan_tf.evaluation.result import Boards, Confusion, Evaluation, Figure, Judge, Row
from storygan_tf.metrics.bootstrap import difference_interval, interval
from storygan_tf.metrics.frechet import FrechetReference, Moments
from storygan_tf.metrics.jackknife import group_difference_interval, group_interval

BOARD_STORIES = 3
"""Stories on each board: best, worst, random."""

FRECHET = ("fid_domain", "fsd_domain", "fid", "fsd")

_DOMAIN = ("label_f1", "frame_accuracy", "consistency", "placed_accuracy", "fid_domain", "fsd_domain")


def summarize(plan: Plan, panel: JudgePanel, tally: Measurements) -> Evaluation:
    """Returns the evaluation of everything that was measured."""
    return _Summary(plan, panel, tally).evaluation()


class _Summary:
    def __init__(self, plan: Plan, panel: JudgePanel, tally: Measurements) -> None:
        self._plan = plan
        self._panel = panel
        self._tally = tally
        self._tables = sorted(tally.stories, key=lambda table: table.ids[0])
        self._ids = [name for table in self._tables for name in table.ids]

    def evaluation(self) -> Evaluation:
        plan = self._plan
        rows = tuple(self._row(name) for name in ROWS if (name, "ssim") in self._tables[0].values)
        judges = tuple(self._judges(rows))
        boards = self._boards()
        return Evaluation(
            rows=rows,
            absent=dict(self._absent(rows)),
            checks=gate(rows, judges, plan.settings, self._difference),
            judges=judges,
            label_names=plan.test.label_names,
            label_f1=self._label_f1(),
            confusions=self._confusions(),
            boards=boards,
            story_values=self._story_values(boards),
            stories=len(plan.test),
            frames=plan.test.frames,
            seed=plan.settings.seed,
            data=self._data(),
            skipped_frames=plan.first,
        )

    def _row(self, name: str) -> Row:
        source = self._plan.sources.get(name)
        figures = {figure: found for figure in FIGURES if (found := self._figure(name, figure)) is not None}
        return Row(name, source.what if source else ROWS[name], source.given if source else "-", figures)

    def _figure(self, row: str, figure: str) -> Figure | None:
        if figure in FRECHET:
            return self._frechet(row, figure)
        pairs = self._pairs(row, figure)
        if pairs is None:
            return None
        numerators, denominators = pairs
        value = float(numerators.sum() / denominators.sum())
        if len(self._ids) < 2:
            return Figure(value)
        return Figure(value, *interval(numerators, denominators, *self._draws))

    @functools.cache  # noqa: B019 - lives as long as one summary
    def _pairs(self, row: str, figure: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns numerators and denominators by story, None where the figure is absent."""
        values = [table.values.get((row, figure), np.zeros((len(table.ids), 2))) for table in self._tables]
        numerators, denominators = np.concatenate(values).T
        return (numerators, denominators) if denominators.sum() > 0 else None

    def _groups(self, row: str, figure: str) -> list[int]:
        return sorted(group for name, what, group in self._tally.moments if (name, what) == (row, figure))

    def _moments(self, row: str, figure: str) -> Moments:
        return functools.reduce(
            Moments.__add__, (self._tally.moments[row, figure, group] for group in self._groups(row, figure))
        )

    @functools.cache  # noqa: B019 - lives as long as one summary
    def _reference(self, figure: str) -> FrechetReference:
        return FrechetReference(self._moments(REAL, figure))

    def _frechet(self, row: str, figure: str) -> Figure | None:
        if not self._groups(REAL, figure) or self._moments(REAL, figure).count < 2:
            return None
        if row == REAL:
            return Figure(0.0, 0.0, 0.0)
        value = self._reference(figure).distance(self._moments(row, figure))
        return Figure(value, *(group_interval(self._paired_groups(row, figure)) or (None, None)))

    def _paired_groups(self, row: str, figure: str) -> list[tuple[Moments, Moments]]:
        """Returns a row's and the true frames' moments, group by group."""
        moments = self._tally.moments
        return [(moments[row, figure, group], moments[REAL, figure, group]) for group in self._groups(row, figure)]

    def _difference(self, figure: str) -> tuple[float, float] | None:
        """Returns the 95% interval of the model's figure minus the served model's; None where there is none."""
        if figure in FRECHET:
            model_groups, served_groups = (self._paired_groups(row, figure) for row in (MODEL, SERVED))
            return group_difference_interval(model_groups, served_groups)
        model, served = self._pairs(MODEL, figure), self._pairs(SERVED, figure)
        if model is None or served is None or len(self._ids) < 2:
            return None
        return difference_interval(model, served, *self._draws)

    @property
    def _draws(self) -> tuple[int, int]:
        """Seed and number of the bootstrap's draws."""
        return self._plan.settings.seed, self._plan.settings.replicates

    def _judges(self, rows: Sequence[Row]) -> Iterator[Judge]:
        domain = self._panel.domain
        if domain is not None:
            placed = {name: value for name, value in domain.held_out.items() if name == "placed_accuracy"}
            others = {name: value for name, value in domain.held_out.items() if name not in placed}
            yield Judge(LABELS, domain.what, domain.sha256, others, _trusted(rows, LABELS))
            if _ceiling(rows, "placed_accuracy") is not None:
                yield Judge(PLACED, domain.what, domain.sha256, placed, _trusted(rows, PLACED))
        for role, network in self._panel.networks.items():
            yield Judge(role, network.what, network.sha256, {}, role != CHARACTER or _trusted(rows, CHARACTER))

    def _absent(self, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
        for name in FIGURES:
            if not any(name in row.figures for row in rows):
                yield name, self._why_absent(name)

    def _why_absent(self, figure: str) -> str:
        role = FIGURES[figure].judge
        reasons = {
            f"no network is given (evaluation.{SETTINGS.get(role)})": role in SETTINGS.keys() - self._panel.networks,
            f"there is no domain judge: {self._panel.no_domain}": figure in _DOMAIN and self._panel.domain is None,
            "the data, or its judge, does not tell where objects are": figure == "placed_accuracy",
            "the frames come from no model that could draw a second sample": figure == "diversity",
            "one sample has no covariance; give more stories": figure in FRECHET,
            "the data has no labels": FIGURES[figure].judge in (LABELS, CHARACTER) and not self._plan.test.label_names,
            "no judged frame shares a label with an earlier one": figure == "consistency",
        }
        return next((why for why, holds in reasons.items() if holds), "no true frame differs from the background")

    def _label_f1(self) -> dict[str, dict[str, float]]:
        counts = {row: counts for (row, what), counts in self._tally.counts.items() if what == LABELS}
        return {
            label: {row: _f1(*counts[row][:, index]) for row in ROWS if row in counts and row != BACKGROUND}
            for index, label in enumerate(self._plan.test.label_names)
            if counts
        }

    def _confusions(self) -> dict[str, Confusion]:
        domain = self._panel.domain
        if domain is None:
            return {}
        found = {}
        for attribute, names in domain.attributes.items():
            counts = {row: self._tally.counts[row, attribute] for row in ROWS if (row, attribute) in self._tally.counts}
            if counts:
                found[attribute] = Confusion(
                    names, {row: tuple(map(tuple, matrix.tolist())) for row, matrix in counts.items()}
                )
        return found

    def _ranked_by(self) -> str:
        return "label_f1" if self._pairs(MODEL, "label_f1") else "ssim"

    def _values(self) -> dict[str, float]:
        """Returns each story's value of the figure that ranks stories."""
        numerators, denominators = self._pairs(MODEL, self._ranked_by()) or ((), ())
        values = zip(self._ids, numerators, denominators, strict=True)
        return {name: float(numerator / denominator) for name, numerator, denominator in values if denominator}

    def _boards(self) -> Boards:
        values = self._values()
        ranked = sorted(values, key=lambda name: (-values[name], name))
        count = min(BOARD_STORIES, -(-len(ranked) // 3))
        best, worst = ranked[:count], ranked[count:][-count:][::-1]
        others = ranked[count : len(ranked) - count]
        random = np.random.default_rng(self._plan.settings.seed)
        chosen = sorted(random.choice(len(others), min(count, len(others)), replace=False)) if others else []
        return Boards(self._ranked_by(), tuple(best), tuple(worst), tuple(sorted(others[index] for index in chosen)))

    def _story_values(self, boards: Boards) -> dict[str, float]:
        values = self._values()
        return {name: values[name] for name in (*boards.best, *boards.worst, *boards.random)}

    def _data(self) -> str:
        digest = hashlib.sha256(b"".join(digest for table in self._tables for digest in table.digests))
        digest.update(repr(self._plan.test.label_names).encode())
        digest.update(self._plan.background.tobytes())
        return digest.hexdigest()


def _f1(true_positives: int, false_positives: int, false_negatives: int) -> float:
    both = 2 * true_positives + false_positives + false_negatives
    return float(2 * true_positives / both) if both else 0.0


def _trusted(rows: Sequence[Row], role: str) -> bool:
    """Whether a judge's figure of the true test frames reaches what is asked of it (`gate.ceiling_asked`)."""
    figure, asked = required_ceiling(rows, role)
    ceiling = _ceiling(rows, figure)
    return ceiling is not None and ceiling >= asked


def _ceiling(rows: Sequence[Row], figure: str) -> float | None:
    return next(row for row in rows if row.name == REAL).value(figure)
