"""The gate: what a model must reach to be pushed, alone and beside the served model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.evaluation.metric_names import (
    BACKGROUND,
    CHARACTER,
    FIGURES,
    LABELS,
    MODEL,
    RANDOM_STORY,
    REAL,
    SERVED,
)
from storygan_tf.evaluation.result import TRUSTED_CEILING, TRUSTED_PLACED, Check, Judge, Row

Difference = Callable[[str], tuple[float, float] | None]
"""Gives the 95% interval of a figure's difference between the model and the served model."""

_ABOVE = {
    "min_ssim_over_random": ("ssim", RANDOM_STORY),
    "min_f1_over_floor": ("label_f1", BACKGROUND),
    "min_f1_over_random": ("label_f1", RANDOM_STORY),
    "min_placed_over_random": ("placed_accuracy", RANDOM_STORY),
}
"""Thresholds on how far a figure must be above a baseline's."""

_AGAINST_SERVED = {
    "max_ssim_drop": "ssim",
    "max_f1_drop": "label_f1",
    "max_placed_drop": "placed_accuracy",
    "max_object_error_rise": "object_error",
    "max_fid_rise": "fid_domain",
}


def required_ceiling(rows: Sequence[Row], role: str) -> tuple[str, float]:
    """Returns by which figure of the true test frames a judge is trusted, and what it must reach.

    Args:
        rows: of the evaluation.
        role: of the judge; a domain judge of data without labels is trusted by the objects that it places.
    """
    labelled = any("label_f1" in row.figures for row in rows)
    if role == CHARACTER:
        return "character_f1", TRUSTED_CEILING
    return ("label_f1", TRUSTED_CEILING) if role == LABELS and labelled else ("placed_accuracy", TRUSTED_PLACED)


_BASELINES = {RANDOM_STORY: "a random training story", BACKGROUND: "the median background"}


def gate(
    rows: Sequence[Row], judges: Sequence[Judge], settings: EvaluationConfig, difference: Difference
) -> tuple[Check, ...]:
    """Returns how the model stands to every threshold that is asked.

    A model that equals a baseline never passes it. Where no threshold on labels or placed objects applies, the object
    error stands in, which needs no labels and which no picture of the empty table passes.

    Args:
        rows: of the evaluation.
        judges: that judged.
        settings: with the thresholds.
        difference: between the model and the served model.
    """
    return tuple(_Gate({row.name: row for row in rows}, judges, settings, difference).checks())


class _Gate:
    def __init__(
        self, rows: dict[str, Row], judges: Sequence[Judge], settings: EvaluationConfig, difference: Difference
    ) -> None:
        self._rows = rows
        self._untrusted = {judge.role for judge in judges if not judge.trusted}
        self._settings = settings
        self._difference = difference

    def checks(self) -> Iterator[Check]:
        absolute = [self._above(name) for name in _ABOVE if self._threshold(name) is not None]
        yield from absolute
        # A threshold below 0 asks nothing that a picture of the empty table could not give.
        judged = any(
            check.passed is not None and check.threshold >= 0 for check in absolute if _ABOVE[check.name][0] != "ssim"
        )
        if self._threshold("min_object_gain") is not None:
            yield self._object_gain(stands_in=not judged)
        if SERVED in self._rows:
            yield from (self._served(name) for name in _AGAINST_SERVED if self._threshold(name) is not None)

    def _threshold(self, name: str) -> float | None:
        value: float | None = getattr(self._settings, name)
        return value

    def _asked(self, name: str) -> float:
        return float(getattr(self._settings, name))

    def _value(self, row: str, figure: str) -> float | None:
        return self._rows[row].value(figure)

    def _silent(self, name: str, figure: str) -> Check | None:
        """Returns why a threshold does not apply, None where it does."""
        title = FIGURES[figure].title
        if self._value(MODEL, figure) is None:
            return self._does_not_apply(name, f"{title}: absent, its threshold does not apply.")
        role = FIGURES[figure].judge
        if role in self._untrusted:
            return self._does_not_apply(name, f"{title}: untrusted, its threshold does not apply: {self._why(role)}.")
        return None

    def _why(self, role: str) -> str:
        """Returns why a judge is untrusted."""
        figure, asked = required_ceiling([*self._rows.values()], role)
        ceiling = self._value(REAL, figure)
        if ceiling is None:
            return "nothing is known of how the judge sees the true frames"
        return f"{FIGURES[figure].title} of the true frames is {ceiling:.3f}, less than the {asked} asked of a judge"

    def _does_not_apply(self, name: str, why: str) -> Check:
        return Check(name, None, self._asked(name), None, why)

    def _above(self, name: str) -> Check:
        figure, baseline = _ABOVE[name]
        silent = self._silent(name, figure)
        if silent is not None:
            return silent
        value, other = _known(self._value(MODEL, figure)), _known(self._value(baseline, figure))
        above, threshold = round(value - other, 6), self._asked(name)
        passed = above > threshold
        missed = "" if passed else f", {threshold - above:.3f} short"
        why = (
            f"{FIGURES[figure].title} {value:.3f} against {other:.3f} of {_BASELINES[baseline]}: {above:+.3f}, "
            f"{_more(passed)} the {threshold:+.3f} asked{missed}."
        )
        return Check(name, above, threshold, passed, why)

    def _object_gain(self, stands_in: bool) -> Check:
        name = "min_object_gain"
        value, floor = self._value(MODEL, "object_error"), self._value(BACKGROUND, "object_error")
        if value is None or floor is None:
            return self._does_not_apply(name, "Object error: absent, its threshold does not apply.")
        gain, threshold = round(1 - value / floor, 6), self._asked(name)
        told = f"Object error {value:.1f} against {floor:.1f} of the median background: {100 * gain:.1f}% less"
        if not stands_in:
            return self._does_not_apply(name, f"{told}; a threshold on labels or placed objects applies instead.")
        passed = gain > threshold
        return Check(name, gain, threshold, passed, f"{told}, {_more(passed)} the {100 * threshold:.1f}% asked.")

    def _served(self, name: str) -> Check:
        figure = _AGAINST_SERVED[name]
        silent = self._silent(name, figure)
        if silent is not None:
            return dataclasses.replace(silent, why=f"Against the served model: {silent.why}")
        found = self._difference(figure)
        if found is None:
            why = (
                f"Against the served model: {FIGURES[figure].title}: too few stories to tell a difference from chance."
            )
            return self._does_not_apply(name, why)
        kind = FIGURES[figure]
        value, other = _known(self._value(MODEL, figure)), _known(self._value(SERVED, figure))
        # Positive is worse, whichever way the figure goes.
        sign = -1.0 if kind.better == "higher" else 1.0
        worse = round(sign * (value - other), 6)
        low, high = found
        surely = round(min(sign * low, sign * high), 6)
        passed = surely <= self._asked(name)
        verdict = "not surely worse" if passed else "surely worse"
        why = (
            f"{kind.title} {value:.{kind.digits}f} against {other:.{kind.digits}f} of the served model: "
            f"{value - other:+.{kind.digits}f}, 95% interval {low:+.{kind.digits}f} to {high:+.{kind.digits}f}: "
            f"{verdict} by more than {self._asked(name):g}."
        )
        return Check(name, worse, self._asked(name), passed, why)


def _more(passed: bool) -> str:
    return "more than" if passed else "not more than"


def _known(value: float | None) -> float:
    """Returns a value that is there: baselines have every figure that the model has."""
    if value is None:
        raise ValueError("gate: a baseline lacks a figure that the model has.")
    return value
