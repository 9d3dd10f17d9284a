"""The state of a training in addition to its variables: its position, its rollbacks, its history and its speed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storygan_tf.common.errors import TrainingError
from storygan_tf.config.schema import PhaseConfig

HISTORY = "history.json"
"""Name of the history file in a working directory."""


@dataclasses.dataclass
class Clock:
    """How long the steps of an epoch took, summed over all runs that trained a part of it.

    Attributes:
        seconds: seconds of all steps.
        timed_steps: number of steps, except the first one of each run, which builds the graph.
        timed_seconds: seconds of the timed steps.
    """

    seconds: float = 0.0
    timed_steps: int = 0
    timed_seconds: float = 0.0

    def add(self, seconds: float, *, timed: bool) -> None:
        """Adds a step.

        Args:
            seconds: seconds of the step, with the time that it waited for its data.
            timed: whether the step counts for the speed; false for the step that builds the graph.
        """
        self.seconds += seconds
        if timed:
            self.timed_steps += 1
            self.timed_seconds += seconds

    def speed(self, stories: int) -> dict[str, float]:
        """Returns `stories_per_second` of a history entry; an empty dictionary without timed steps.

        Args:
            stories: number of stories that a step trains on.
        """
        if not self.timed_seconds:
            return {}
        return {"stories_per_second": round(stories * self.timed_steps / self.timed_seconds, 3)}


@dataclasses.dataclass(frozen=True)
class Rollback:
    """One return of a diverged training to the checkpoint of an epoch.

    Attributes:
        phase: name of the phase in which the training diverged.
        epoch: number of the epoch in this phase, from 1.
        step: number of the outer step in this epoch, from 1.
        description: what went wrong.
        skipped_steps: number of outer steps whose data is not used again.
        rates: learning rates of the generator and the discriminators in the configuration at that time.
    """

    phase: str
    epoch: int
    step: int
    description: str
    skipped_steps: int
    rates: tuple[float, float]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Rollback:
        """Returns the rollback of its fields, which may have been written to JSON and read."""
        return cls(**{**values, "rates": tuple(values["rates"])})


_FORMAT = 3
"""Version of the values in state files. It grows when a training can no longer be continued to the same weights."""


@dataclasses.dataclass
class TrainingState:
    """The state that a checkpoint holds in addition to variables, so that a training can continue exactly.

    Attributes:
        phase: index of the current phase among the active phases; their number after the last one.
        epoch: number of completed epochs of this phase.
        step: number of completed outer steps of the current epoch.
        clock: times of the current epoch.
        history: one entry for each completed epoch of all phases, see `read_history`.
        rollbacks: all rollbacks so far.
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0
    clock: Clock = dataclasses.field(default_factory=Clock)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    rollbacks: list[Rollback] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns the state as plain values that JSON can represent."""
        return dataclasses.asdict(self) | {"format": _FORMAT}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingState:
        """Returns the state of values that `to_json` returned, which may have been written to JSON and read.

        Raises:
            TrainingError: if the values are of another version of this package.
        """
        if values.get("format") != _FORMAT:
            raise TrainingError(
                f"the checkpoints are those of another version of storygan: found format {values.get('format', 1)}, "
                f"expected {_FORMAT}. Such a training cannot be continued. Start it again in an empty directory; "
                "--init-from with the old run starts with its weights."
            )
        fields = {name: value for name, value in values.items() if name != "format"}
        rollbacks = [Rollback.from_json(entry) for entry in values["rollbacks"]]
        return cls(**fields | {"clock": Clock(**values["clock"]), "rollbacks": rollbacks})

    def end_epoch(self, entry: dict[str, Any]) -> None:
        """Adds the history entry of the current epoch and moves on to the next one."""
        self.history.append(entry)
        self.epoch, self.step, self.clock = self.epoch + 1, 0, Clock()

    def current_rollbacks(self, phases: tuple[PhaseConfig, ...]) -> list[Rollback]:
        """Returns the rollbacks of phases whose learning rates have not been reconfigured since.

        Only these count towards the limit of rollbacks and reduce learning rates.
        """
        rates = {phase.name: learning_rates(phase) for phase in phases}
        return [entry for entry in self.rollbacks if rates.get(entry.phase) == entry.rates]

    def with_reduced_rates(self, phase: PhaseConfig) -> PhaseConfig:
        """Returns the phase with its learning rates halved once for each of its current rollbacks."""
        factor = 0.5 ** len(self.current_rollbacks((phase,)))
        return dataclasses.replace(
            phase,
            generator_learning_rate=phase.generator_learning_rate * factor,
            discriminator_learning_rate=phase.discriminator_learning_rate * factor,
        )

    def describe_position(self, phase: PhaseConfig) -> str:
        """Returns the current step, epoch and phase in words."""
        return f"step {self.step} of epoch {self.epoch + 1} of phase {phase.name!r}"

    def steps_done(self, steps: int) -> int:
        """Returns the number of completed outer steps of the current phase, which has `steps` steps in an epoch."""
        return self.epoch * steps + self.step

    def data_position(self, phase: PhaseConfig, steps: int) -> int:
        """Returns which outer step's data is the next to be used in the current phase, counted from 0.

        Args:
            phase: the current phase.
            steps: outer steps in an epoch.
        """
        return self.steps_done(steps) + sum(
            entry.skipped_steps for entry in self.rollbacks if entry.phase == phase.name
        )


def learning_rates(phase: PhaseConfig) -> tuple[float, float]:
    """Returns the learning rates of the generator and of the discriminators."""
    return phase.generator_learning_rate, phase.discriminator_learning_rate


def make_entry(
    state: TrainingState,
    phase: PhaseConfig,
    steps: int,
    losses: Mapping[str, float],
    *,
    validation: Mapping[str, float],
    variety: float | None,
) -> dict[str, Any]:
    """Returns the history entry of the current epoch, all of whose steps are completed; see `read_history`.

    Args:
        state: the state of the training.
        phase: the current phase, with the learning rates that were used.
        steps: outer steps in an epoch.
        losses: losses averaged over the epoch, by name.
        validation: losses and figures of held-out stories, by name; empty without such stories.
        variety: see `divergence.picture_variety`.
    """
    epoch = state.epoch + 1
    rollbacks = [
        {"step": entry.step, "what": entry.description}
        for entry in state.rollbacks
        if (entry.phase, entry.epoch) == (phase.name, epoch)
    ]
    return {
        "phase": phase.name,
        "epoch": epoch,
        "step": epoch * steps,
        "seconds": round(state.clock.seconds, 3),
        **state.clock.speed(stories_per_step(phase)),
        "learning_rates": dict(zip(("generator", "discriminator"), learning_rates(phase), strict=True)),
        "losses": dict(losses),
        **({"validation": dict(validation)} if validation else {}),
        "variety": variety,
        **({"rollbacks": rollbacks} if rollbacks else {}),
    }


def stories_per_step(phase: PhaseConfig) -> int:
    """Returns the number of whole stories that an outer step trains on; of single frames if it has no whole stories."""
    if phase.schedule == "joint":
        return phase.story_batch
    return phase.story_steps * phase.story_batch or phase.image_steps * phase.image_batch


def read_history(work_dir: Path) -> list[dict[str, Any]]:
    """Returns the history of a training from its working directory: one entry for each completed epoch.

    An entry has these keys:

    - `phase`: name of the phase.
    - `epoch`: number of the epoch in the phase, from 1.
    - `step`: number of outer steps completed in the phase.
    - `seconds`: seconds of all steps of the epoch.
    - `stories_per_second`: speed. It leaves out the step that builds the graph, and is absent if there is no other
      step.
    - `learning_rates`: of `generator` and `discriminator`, before any decay within the phase.
    - `losses`: losses by name, averaged over the epoch.
    - `validation`: losses and figures of held-out stories by name (`validation.validated_names`); absent without such
      stories.
    - `kept`: True for the epoch whose weights the training ended with, if `TrainConfig.keep_best` is set and it is not
      the last one; absent otherwise.
    - `variety`: see `divergence.picture_variety`; None if it is not defined.
    - `rollbacks`: the rollbacks in this epoch, each with `step` and `what` (a description); absent if there are none.

    Args:
        work_dir: the working directory.
    """
    history: list[dict[str, Any]] = json.loads((work_dir / HISTORY).read_text())
    return history
