"""How a training that has gone wrong is told from its figures, and what to lower then.

Three ways are known by name: losses or weights that are no longer finite; a discriminator that is always right, so that
the generator learns nothing from it; a generator that draws the same picture whatever the story says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from storygan_tf.config.schema import PhaseConfig

SURE = 0.9999
"""A discriminator that was right so often over an epoch has collapsed."""

JUDGED = 1000
"""With fewer judgements an epoch, an accuracy says too little to be called collapsed."""

VARIED = 0.25
"""A generator whose `picture_variety` was once at least this can tell stories apart."""

SAME = 0.1
"""Such a generator has collapsed where its `picture_variety` is less than this."""


class Divergence(NamedTuple):
    """What went wrong.

    Attributes:
        what: with its figures.
        advice: what to change, `{phase}` standing for the phase's key.
    """

    what: str
    advice: str


def not_finite(losses: Mapping[str, float]) -> Divergence | None:
    """Returns the trouble with losses that are NaN or infinite, or None."""
    broken = ", ".join(f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value))
    if not broken:
        return None
    return Divergence(
        f"losses are not finite ({broken})",
        "Lower {phase}.generator_learning_rate or {phase}.discriminator_learning_rate.",
    )


def judgement_count(phase: PhaseConfig, steps: int) -> dict[str, int]:
    """Returns of how many judgements, on true and on drawn pictures, an epoch's accuracies are means.

    A discriminator that the generator does not listen to is left out.
    """
    joint = phase.schedule == "joint"
    images = (1 if joint else phase.image_steps) * phase.image_batch if phase.image_weight else 0
    stories = (1 if joint else phase.story_steps) * phase.story_batch if phase.story_weight else 0
    return {"image_accuracy": 2 * steps * images, "story_accuracy": 2 * steps * stories}


def certain_discriminators(losses: Mapping[str, float], phase: PhaseConfig, steps: int) -> Divergence | None:
    """Returns the trouble with discriminators that were right all through an epoch of `steps` outer steps, or None.

    Args:
        losses: of the epoch; `image_accuracy` and `story_accuracy` are looked at where they are there.
        phase: of the epoch.
        steps: of the epoch.
    """
    sure = [
        f"{name} is {losses[name]:.4f} over {count} judgements"
        for name, count in judgement_count(phase, steps).items()
        if count >= JUDGED and losses.get(name, 0.0) >= SURE
    ]
    if not sure:
        return None
    return Divergence(
        f"a discriminator has collapsed: it is always right ({', '.join(sure)}; expected less than {SURE})",
        "Lower {phase}.discriminator_learning_rate, or make its work harder: {phase}.mismatched, model.spectral_norm.",
    )


def mode_collapse(now: float | None, phase: PhaseConfig, history: Sequence[Mapping[str, Any]]) -> Divergence | None:
    """Returns the trouble with a generator that no longer tells stories apart, or None.

    A generator that never did is not in trouble, but at its beginning; one that is trained by pixel losses alone is led
    by the true pictures.

    Args:
        now: `picture_variety` after this epoch.
        phase: of this epoch.
        history: of the epochs before.
    """
    best = max((entry["variety"] or 0.0 for entry in history), default=0.0)
    if now is None or phase.schedule == "pixel" or best < VARIED or now >= SAME:
        return None
    return Divergence(
        f"diversity has collapsed: stories are drawn alike (variety is {now:.3f}, was {best:.3f}; expected at least "
        f"{SAME})",
        "Lower {phase}.generator_learning_rate, {phase}.image_weight or {phase}.story_weight, or raise "
        "{phase}.l1_weight.",
    )


def picture_variety(drawn: np.ndarray, true: np.ndarray) -> float | None:
    """Returns how much drawn stories differ from each other, over how much the true ones do.

    It is the mean absolute difference between each story and the next (the last one's next is the first), frame by
    frame, over that of the true frames: 0 where all stories are drawn alike, about 1 where they are drawn well.

    Args:
        drawn: uint8 [stories, T, height, width, 3].
        true: the same shape and type.

    Returns:
        0 or more; None where there are fewer than two stories or the true ones do not differ.
    """
    apart = _apart(true)
    return _apart(drawn) / apart if apart else None


def _apart(stories: np.ndarray) -> float:
    numbers = stories.astype(np.int16)
    return float(np.abs(numbers - np.roll(numbers, 1, axis=0)).mean()) if len(stories) else 0.0
