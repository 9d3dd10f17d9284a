"""Computes an evaluation from measurements: metrics with intervals, trusted judges, storyboards and checks."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from storygan_tf.evaluation.gate import gate, required_ceiling
from storygan_tf.evaluation.measure import NETWORK_SETTINGS, JudgePanel, Measurements
from storygan_tf.evaluation.metric_names import (
    BACKGROUND,
    CHARACTER,
    LABELS,
    METRICS,
    MODEL,
    PLACED,
    REAL,
    ROWS,
    SERVED,
)
from storygan_tf.evaluation.plan import Plan
from storygan_tf.evaluation.result import BoardStories, Confusion, Evaluation, Judge, MetricValue, Row
from storygan_tf.metrics.bootstrap import difference_interval, interval
from storygan_tf.metrics.frechet import FrechetReference, Moments
from storygan_tf.metrics.jackknife import group_difference_interval, group_interval

BOARD_STORIES = 3
"""Most stories on each of the storyboards `best`, `worst` and `random`."""

FRECHET = ("fid_domain", "fsd_domain", "fid", "fsd")
"""Metrics that are Frechet distances."""

_DOMAIN_METRICS = ("label_f1", "frame_accuracy", "consistency", "placed_accuracy", "fid_domain", "fsd_domain")


def summarize(plan: Plan, panel: JudgePanel, measurements: Measurements) -> Evaluation:
    """Returns the evaluation that follows from measurements.

    Args:
        plan: the plan of the evaluation.
        panel: its networks.
        measurements: measurements of all test stories.
    """
    return _Summary(plan, panel, measurements).evaluation()


class _Summary:
    """Computes the parts of one evaluation (see `summarize`)."""

    def __init__(self, plan: Plan, panel: JudgePanel, measurements: Measurements) -> None:
        self._plan = plan
        self._panel = panel
        self._measurements = measurements
        self._tables = sorted(measurements.stories, key=lambda table: table.ids[0])
        self._ids = [name for table in self._tables for name in table.ids]
        self._pairs = functools.cache(self._read_pairs)
        self._reference = functools.cache(self._build_reference)

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
            data=self._data_digest(),
            skipped_frames=plan.first_frame,
        )

    def _row(self, name: str) -> Row:
        source = self._plan.sources.get(name)
        metrics = {metric: found for metric in METRICS if (found := self._metric(name, metric)) is not None}
        if source is None:
            return Row(name, ROWS[name], "-", metrics)
        return Row(name, source.description, source.drawn_from, metrics)

    def _metric(self, row: str, metric: str) -> MetricValue | None:
        if metric in FRECHET:
            return self._frechet(row, metric)
        pairs = self._pairs(row, metric)
        if pairs is None:
            return None
        numerators, denominators = pairs
        value = float(numerators.sum() / denominators.sum())
        if len(self._ids) < 2:
            return MetricValue(value)
        return MetricValue(value, *interval(numerators, denominators, *self._bootstrap))

    def _read_pairs(self, row: str, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns numerators and denominators, each float64 `[stories]`, or None if the metric is absent."""
        values = [table.values.get((row, metric), np.zeros((len(table.ids), 2))) for table in self._tables]
        numerators, denominators = np.concatenate(values).T
        return (numerators, denominators) if denominators.sum() > 0 else None

    def _groups(self, row: str, metric: str) -> list[int]:
        return sorted(group for *key, group in self._measurements.moments if key == [row, metric])

    def _moments(self, row: str, metric: str) -> Moments:
        return functools.reduce(
            Moments.__add__, (self._measurements.moments[row, metric, group] for group in self._groups(row, metric))
        )

    def _build_reference(self, metric: str) -> FrechetReference:
        return FrechetReference(self._moments(REAL, metric))

    def _frechet(self, row: str, metric: str) -> MetricValue | None:
        if not self._groups(REAL, metric) or self._moments(REAL, metric).count < 2:
            return None
        if row == REAL:
            return MetricValue(0.0, 0.0, 0.0)
        value = self._reference(metric).distance(self._moments(row, metric))
        return MetricValue(value, *(group_interval(self._paired_groups(row, metric)) or (None, None)))

    def _paired_groups(self, row: str, metric: str) -> list[tuple[Moments, Moments]]:
        """Returns for each group of stories the moments of a row and of the true frames."""
        moments = self._measurements.moments
        return [(moments[row, metric, group], moments[REAL, metric, group]) for group in self._groups(row, metric)]

    def _difference(self, metric: str) -> tuple[float, float] | None:
        """Returns the 95% interval of the model's metric minus the served model's, or None if there is none."""
        if metric in FRECHET:
            model_groups, served_groups = (self._paired_groups(row, metric) for row in (MODEL, SERVED))
            return group_difference_interval(model_groups, served_groups)
        model, served = self._pairs(MODEL, metric), self._pairs(SERVED, metric)
        if model is None or served is None or len(self._ids) < 2:
            return None
        return difference_interval(model, served, *self._bootstrap)

    @property
    def _bootstrap(self) -> tuple[int, int]:
        """Seed and number of replicates of the bootstrap."""
        return self._plan.settings.seed, self._plan.settings.replicates

    def _judges(self, rows: Sequence[Row]) -> Iterator[Judge]:
        domain = self._panel.domain
        if domain is not None:
            placed = {name: value for name, value in domain.held_out.items() if name == "placed_accuracy"}
            others = {name: value for name, value in domain.held_out.items() if name not in placed}
            yield Judge(LABELS, domain.description, domain.sha256, others, _trusted(rows, LABELS))
            if _ceiling(rows, "placed_accuracy") is not None:
                yield Judge(PLACED, domain.description, domain.sha256, placed, _trusted(rows, PLACED))
        for role, network in self._panel.networks.items():
            yield Judge(role, network.description, network.sha256, {}, role != CHARACTER or _trusted(rows, CHARACTER))

    def _absent(self, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
        for name in METRICS:
            if not any(name in row.metrics for row in rows):
                yield name, self._why_absent(name)

    def _why_absent(self, metric: str) -> str:
        role = METRICS[metric].judge
        reasons = {
            f"no network is configured (evaluation.{NETWORK_SETTINGS.get(role)})": role
            in NETWORK_SETTINGS.keys() - self._panel.networks,
            f"there is no domain judge: {self._panel.no_domain}": metric in _DOMAIN_METRICS
            and self._panel.domain is None,
            "the places of objects are unknown to the data or to its judge": metric == "placed_accuracy",
            "the frames do not come from a model that could draw a second sample": metric == "diversity",
            "one sample has no covariance; evaluate more stories": metric in FRECHET,
            "the data has no labels": METRICS[metric].judge in (LABELS, CHARACTER) and not self._plan.test.label_names,
            "no evaluated frame shares a label with an earlier one": metric == "consistency",
        }
        return next((why for why, holds in reasons.items() if holds), "no true frame differs from the background")

    def _label_f1(self) -> dict[str, dict[str, float]]:
        counts = {row: counts for (row, name), counts in self._measurements.counts.items() if name == LABELS}
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
            counts = {
                row: self._measurements.counts[row, attribute]
                for row in ROWS
                if (row, attribute) in self._measurements.counts
            }
            if counts:
                found[attribute] = Confusion(
                    names, {row: tuple(map(tuple, matrix.tolist())) for row, matrix in counts.items()}
                )
        return found

    def _ranked_by(self) -> str:
        return "label_f1" if self._pairs(MODEL, "label_f1") else "ssim"

    def _values(self) -> dict[str, float]:
        """Returns the value of the metric that ranks stories for each story that has one."""
        numerators, denominators = self._pairs(MODEL, self._ranked_by()) or ((), ())
        values = zip(self._ids, numerators, denominators, strict=True)
        return {name: float(numerator / denominator) for name, numerator, denominator in values if denominator}

    def _boards(self) -> BoardStories:
        values = self._values()
        ranked = sorted(values, key=lambda name: (-values[name], name))
        count = min(BOARD_STORIES, -(-len(ranked) // 3))
        best, worst = ranked[:count], ranked[count:][-count:][::-1]
        others = ranked[count : len(ranked) - count]
        random = np.random.default_rng(self._plan.settings.seed)
        chosen = sorted(random.choice(len(others), min(count, len(others)), replace=False)) if others else []
        return BoardStories(
            self._ranked_by(), tuple(best), tuple(worst), tuple(sorted(others[index] for index in chosen))
        )

    def _story_values(self, boards: BoardStories) -> dict[str, float]:
        values = self._values()
        return {name: values[name] for name in (*boards.best, *boards.worst, *boards.random)}

    def _data_digest(self) -> str:
        """Returns the SHA-256 of the stories, the names of the labels and the median background."""
        digest = hashlib.sha256(b"".join(digest for table in self._tables for digest in table.digests))
        digest.update(repr(self._plan.test.label_names).encode())
        digest.update(self._plan.background.tobytes())
        return digest.hexdigest()


def _f1(true_positives: int, false_positives: int, false_negatives: int) -> float:
    denominator = 2 * true_positives + false_positives + false_negatives
    return float(2 * true_positives / denominator) if denominator else 0.0


def _trusted(rows: Sequence[Row], role: str) -> bool:
    """Returns whether a judge's metric of the true test frames reaches its required value (`required_ceiling`)."""
    metric, required = required_ceiling(rows, role)
    ceiling = _ceiling(rows, metric)
    return ceiling is not None and ceiling >= required


def _ceiling(rows: Sequence[Row], metric: str) -> float | None:
    """Returns a metric of the true test frames, or None if it is absent."""
    return next(row for row in rows if row.name == REAL).value(metric)
