"""The gate: compares a model's metrics with the configured thresholds, which decide whether the model is pushed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.evaluation.metric_names import (
    BACKGROUND,
    CHARACTER,
    LABELS,
    METRICS,
    MODEL,
    RANDOM_STORY,
    REAL,
    SERVED,
)
from storygan_tf.evaluation.result import TRUSTED_CEILING, TRUSTED_PLACED, Check, Judge, Row

Difference = Callable[[str], tuple[float, float] | None]
"""Function from a metric's name to the 95% interval of the model's value minus the served model's; None if unknown."""

_OVER_BASELINE = {
    "min_ssim_over_random": ("ssim", RANDOM_STORY),
    "min_f1_over_floor": ("label_f1", BACKGROUND),
    "min_f1_over_random": ("label_f1", RANDOM_STORY),
    "min_placed_over_random": ("placed_accuracy", RANDOM_STORY),
}
"""Metric and baseline of each threshold on the margin of a metric over a baseline."""

_AGAINST_SERVED = {
    "max_ssim_drop": "ssim",
    "max_f1_drop": "label_f1",
    "max_placed_drop": "placed_accuracy",
    "max_object_error_rise": "object_error",
    "max_fid_rise": "fid_domain",
}
"""Metric of each threshold on the difference from the served model."""

_BASELINES = {RANDOM_STORY: "a random training story", BACKGROUND: "the median background"}


def required_ceiling(rows: Sequence[Row], role: str) -> tuple[str, float]:
    """Returns the metric of the true test frames by which a judge is trusted, and the value that it must reach.

    Args:
        rows: the rows of the evaluation.
        role: role of the judge. If the data has no labels, the domain judge is trusted by the objects that it places.
    """
    labelled = any("label_f1" in row.metrics for row in rows)
    if role == CHARACTER:
        return "character_f1", TRUSTED_CEILING
    return ("label_f1", TRUSTED_CEILING) if role == LABELS and labelled else ("placed_accuracy", TRUSTED_PLACED)


def gate(
    rows: Sequence[Row], judges: Sequence[Judge], settings: EvaluationConfig, difference: Difference
) -> tuple[Check, ...]:
    """Returns the result of each configured threshold.

    A model that only equals a baseline does not pass. If no threshold on labels or placed objects applies, the
    threshold on the object error does: it needs no labels, and a picture of the empty background does not pass it.

    Args:
        rows: the rows of the evaluation.
        judges: the networks that judged.
        settings: the thresholds; those that are None are left out.
        difference: function for intervals of the difference between the model and the served model.
    """
    return tuple(_Gate({row.name: row for row in rows}, judges, settings, difference).checks())


class _Gate:
    """Creates the checks of one evaluation (see `gate`)."""

    def __init__(
        self, rows: dict[str, Row], judges: Sequence[Judge], settings: EvaluationConfig, difference: Difference
    ) -> None:
        self._rows = rows
        self._untrusted = {judge.role for judge in judges if not judge.trusted}
        self._settings = settings
        self._difference = difference

    def checks(self) -> Iterator[Check]:
        over_baseline = [self._baseline_check(name) for name in _OVER_BASELINE if self._is_configured(name)]
        yield from over_baseline
        # A picture of the empty background passes thresholds below 0, so these do not replace the object error.
        objects_checked = any(
            check.passed is not None and check.threshold >= 0
            for check in over_baseline
            if _OVER_BASELINE[check.name][0] != "ssim"
        )
        if self._is_configured("min_object_gain"):
            yield self._object_gain_check(applies=not objects_checked)
        if SERVED in self._rows:
            yield from (self._served_check(name) for name in _AGAINST_SERVED if self._is_configured(name))

    def _is_configured(self, name: str) -> bool:
        return getattr(self._settings, name) is not None

    def _threshold(self, name: str) -> float:
        return float(getattr(self._settings, name))

    def _value(self, row: str, metric: str) -> float | None:
        return self._rows[row].value(metric)

    def _inapplicable(self, name: str, metric: str) -> Check | None:
        """Returns a check that says why a threshold does not apply, or None if it does."""
        title = METRICS[metric].title
        if self._value(MODEL, metric) is None:
            return self._not_applied(name, f"{title}: absent, its threshold does not apply.")
        role = METRICS[metric].judge
        if role in self._untrusted:
            reason = self._untrusted_reason(role)
            return self._not_applied(name, f"{title}: untrusted, its threshold does not apply: {reason}.")
        return None

    def _untrusted_reason(self, role: str) -> str:
        """Returns why a judge is untrusted."""
        metric, required = required_ceiling([*self._rows.values()], role)
        ceiling = self._value(REAL, metric)
        if ceiling is None:
            return "the judge has no result on the true frames"
        return f"{METRICS[metric].title} of the true frames is {ceiling:.3f}, less than the required {required}"

    def _not_applied(self, name: str, why: str) -> Check:
        return Check(name, None, self._threshold(name), None, why)

    def _baseline_check(self, name: str) -> Check:
        """Returns the check of a metric's margin over a baseline."""
        metric, baseline = _OVER_BASELINE[name]
        inapplicable = self._inapplicable(name, metric)
        if inapplicable is not None:
            return inapplicable
        value, other = _required(self._value(MODEL, metric)), _required(self._value(baseline, metric))
        margin, threshold = round(value - other, 6), self._threshold(name)
        passed = margin > threshold
        missing = "" if passed else f", {threshold - margin:.3f} short"
        why = (
            f"{METRICS[metric].title} {value:.3f} against {other:.3f} of {_BASELINES[baseline]}: {margin:+.3f}, "
            f"{_more(passed)} the required {threshold:+.3f}{missing}."
        )
        return Check(name, margin, threshold, passed, why)

    def _object_gain_check(self, applies: bool) -> Check:
        """Returns the check of how much smaller the object error is than that of the median background."""
        name = "min_object_gain"
        value, floor = self._value(MODEL, "object_error"), self._value(BACKGROUND, "object_error")
        if value is None or floor is None:
            return self._not_applied(name, "Object error: absent, its threshold does not apply.")
        gain, threshold = round(1 - value / floor, 6), self._threshold(name)
        result = f"Object error {value:.1f} against {floor:.1f} of the median background: {100 * gain:.1f}% less"
        if not applies:
            return self._not_applied(name, f"{result}; a threshold on labels or placed objects applies instead.")
        passed = gain > threshold
        return Check(name, gain, threshold, passed, f"{result}, {_more(passed)} the required {100 * threshold:.1f}%.")

    def _served_check(self, name: str) -> Check:
        """Returns the check that a metric is not significantly worse than the served model's."""
        metric = _AGAINST_SERVED[name]
        inapplicable = self._inapplicable(name, metric)
        if inapplicable is not None:
            return dataclasses.replace(inapplicable, why=f"Against the served model: {inapplicable.why}")
        interval = self._difference(metric)
        kind, threshold = METRICS[metric], self._threshold(name)
        if interval is None:
            return self._not_applied(
                name, f"Against the served model: {kind.title}: too few stories to tell a difference from chance."
            )
        value, other = _required(self._value(MODEL, metric)), _required(self._value(SERVED, metric))
        # Positive differences are worse, for metrics of either direction.
        sign = -1.0 if kind.better == "higher" else 1.0
        worse = round(sign * (value - other), 6)
        low, high = interval
        surely_worse = round(min(sign * low, sign * high), 6)
        passed = surely_worse <= threshold
        verdict = "not surely worse" if passed else "surely worse"
        why = (
            f"{kind.title} {value:.{kind.digits}f} against {other:.{kind.digits}f} of the served model: "
            f"{value - other:+.{kind.digits}f}, 95% interval {low:+.{kind.digits}f} to {high:+.{kind.digits}f}: "
            f"{verdict} by more than {threshold:g}."
        )
        return Check(name, worse, threshold, passed, why)


def _more(passed: bool) -> str:
    return "more than" if passed else "not more than"


def _required(value: float | None) -> float:
    """Returns the value; raises ValueError for None. Baselines have every metric that the model has."""
    if value is None:
        raise ValueError("gate: a baseline lacks a metric that the model has.")
    return value
