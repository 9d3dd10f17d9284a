"""Detects divergence of a training from its losses, weights and pictures, and advises what to change.

Three kinds are detected: losses or weights that are not finite; a discriminator that is always right, so that the
generator learns nothing from it; and a generator that draws the same picture for different stories.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.training.session import TrainingSession
from storygan_tf.training.storygan import StoryGAN

MAX_ACCURACY = 0.9999
"""A discriminator whose accuracy over an epoch is at least this has collapsed."""

MIN_JUDGEMENTS = 1000
"""The accuracy over fewer judgements is not reliable enough to detect a collapse."""

DIVERSE_VARIETY = 0.25
"""A `picture_variety` of at least this shows that a generator draws different pictures for different stories."""

COLLAPSED_VARIETY = 0.1
"""A generator that was diverse before has collapsed if its `picture_variety` is less than this."""


class Divergence(NamedTuple):
    """A divergence that was detected.

    Attributes:
        description: what went wrong, with the measured values.
        advice: what to change; contains `{phase}` in place of the configuration key of the phase.
    """

    description: str
    advice: str


class DivergenceError(Exception):
    """Ends a call of `fit` in which the training diverged.

    Args:
        divergence: what was detected.

    Attributes:
        divergence: see the arguments.
    """

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(divergence.description)
        self.divergence = divergence


def not_finite(losses: Mapping[str, float]) -> Divergence | None:
    """Returns the divergence if a value is NaN or infinite, else None.

    Args:
        losses: values by name: losses, and the sums of `weight_sums`.
    """
    broken = ", ".join(f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value))
    if not broken:
        return None
    return Divergence(
        f"losses are not finite ({broken})",
        "Lower {phase}.generator_learning_rate or {phase}.discriminator_learning_rate.",
    )


def session_not_finite(session: TrainingSession) -> Divergence | None:
    """Returns the divergence if losses, weights or optimizers of a training are not finite, else None."""
    with session.strategy.scope():
        return not_finite(session.losses() | weight_sums(session.gan))


def weight_sums(gan: StoryGAN) -> dict[str, float]:
    """Returns the sum of the absolute values of each network and each optimizer, by a name for error messages.

    A sum is finite only if all its values are.
    """
    sums = {f"sum of weights of {network.name}": network.weights for network in gan.networks}
    for name, optimizer in gan.optimizers._asdict().items():
        sums[f"sum of moments of {name}"] = [value for value in optimizer.variables if value.dtype.is_floating]
    return {name: float(tf.add_n([tf.reduce_sum(tf.abs(value)) for value in values])) for name, values in sums.items()}


def judgement_count(phase: PhaseConfig, steps: int) -> dict[str, int]:
    """Returns the number of judgements, on real and on generated pictures, that the accuracies of an epoch average.

    The count is 0 for a discriminator whose loss has weight 0 for the generator: it may be right always.

    Args:
        phase: the phase.
        steps: outer steps in the epoch.
    """
    joint = phase.schedule == "joint"
    images = (1 if joint else phase.image_steps) * phase.image_batch if phase.image_weight else 0
    stories = (1 if joint else phase.story_steps) * phase.story_batch if phase.story_weight else 0
    return {"image_accuracy": 2 * steps * images, "story_accuracy": 2 * steps * stories}


def certain_discriminators(losses: Mapping[str, float], phase: PhaseConfig, steps: int) -> Divergence | None:
    """Returns the divergence if a discriminator was right throughout an epoch, else None.

    Args:
        losses: losses of the epoch by name; `image_accuracy` and `story_accuracy` are used, if present.
        phase: the phase of the epoch.
        steps: outer steps in the epoch.
    """
    certain = [
        f"{name} is {losses[name]:.4f} over {count} judgements"
        for name, count in judgement_count(phase, steps).items()
        if count >= MIN_JUDGEMENTS and losses.get(name, 0.0) >= MAX_ACCURACY
    ]
    if not certain:
        return None
    return Divergence(
        f"a discriminator has collapsed: it is always right ({', '.join(certain)}; expected less than {MAX_ACCURACY})",
        "Lower {phase}.discriminator_learning_rate, or make its work harder: {phase}.mismatched, model.spectral_norm.",
    )


def mode_collapse(variety: float | None, phase: PhaseConfig, history: Sequence[Mapping[str, Any]]) -> Divergence | None:
    """Returns the divergence if the generator draws different stories alike and did not before, else None.

    A generator that was never diverse is only at the beginning of its training. A phase of schedule `pixel` is not
    checked: its losses compare with the real pictures.

    Args:
        variety: `picture_variety` after this epoch; None if it is not defined.
        phase: the phase of this epoch.
        history: history entries of the epochs before.
    """
    best = max((entry["variety"] or 0.0 for entry in history), default=0.0)
    if variety is None or phase.schedule == "pixel" or best < DIVERSE_VARIETY or variety >= COLLAPSED_VARIETY:
        return None
    return Divergence(
        f"diversity has collapsed: stories are drawn alike (variety is {variety:.3f}, was {best:.3f}; expected at "
        f"least {COLLAPSED_VARIETY})",
        "Lower {phase}.generator_learning_rate, {phase}.image_weight or {phase}.story_weight, or raise "
        "{phase}.l1_weight.",
    )


def picture_variety(drawn: np.ndarray, true: np.ndarray) -> float | None:
    """Returns how much generated stories differ from each other, relative to how much the real ones do.

    It is the mean absolute difference of the pixels between each story and the next one (the first one for the last),
    divided by the same for the real stories: 0 if all generated stories are alike, about 1 for a good generator.

    Args:
        drawn: uint8 [stories, frames, height, width, 3], generated stories.
        true: the same shape and type, the real stories.

    Returns:
        At least 0; None for fewer than two stories and if the real ones do not differ.
    """
    difference = _mean_difference(true)
    return _mean_difference(drawn) / difference if difference else None


def _mean_difference(stories: np.ndarray) -> float:
    """Returns the mean absolute difference between each story and the next, in grey levels; 0 without stories."""
    numbers = stories.astype(np.int16)
    return float(np.abs(numbers - np.roll(numbers, 1, axis=0)).mean()) if len(stories) else 0.0
