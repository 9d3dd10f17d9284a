"""Chooses the epoch whose weights a training ends with, by its validation (`TrainConfig.keep_best`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HIGHER_IS_BETTER = frozenset({"ssim"})


def best_epoch(history: Sequence[Mapping[str, Any]], phase: str, name: str) -> int | None:
    """Returns the index of the best epoch of a phase in the history, the first of several equal ones.

    Args:
        history: see `training_state.read_history`.
        phase: name of the phase.
        name: name of a value in `validation` of the entries.

    Returns:
        The index; None if no epoch of the phase has the value.
    """
    sign = -1.0 if name in _HIGHER_IS_BETTER else 1.0
    values = {
        index: sign * entry["validation"][name]
        for index, entry in enumerate(history)
        if entry["phase"] == phase and name in entry.get("validation", {})
    }
    return min(values, key=lambda index: values[index], default=None)
