"""What a training remembers beside its weights: where it stands, what happened, how fast it goes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storygan_tf.config.schema import PhaseConfig

HISTORY = "history.json"
"""Name of the history in a working folder."""


@dataclasses.dataclass
class Clock:
    """Where the time of an epoch went, over all runs that took part in it.

    Attributes:
        seconds: of all steps.
        timed_steps: steps without those that made a graph, of which there is one a run.
        timed_seconds: of these.
        waited_seconds: of these, in which the step waited for its data. On a GPU, whose work goes on meanwhile, this is
            more than it cost.
    """

    seconds: float = 0.0
    timed_steps: int = 0
    timed_seconds: float = 0.0
    waited_seconds: float = 0.0

    def add(self, seconds: float, waited: float, *, timed: bool) -> None:
        """Adds a step and the part of it that was spent waiting for data."""
        self.seconds += seconds
        if timed:
            self.timed_steps += 1
            self.timed_seconds += seconds
            self.waited_seconds += waited

    def speed(self, stories: int) -> dict[str, float]:
        """Returns what an entry of the history says of speed, for steps of so many stories; nothing of no step."""
        if not self.timed_seconds:
            return {}
        return {
            "stories_per_second": round(stories * self.timed_steps / self.timed_seconds, 3),
            "data_wait": round(self.waited_seconds / self.timed_seconds, 4),
        }


@dataclasses.dataclass(frozen=True)
class Rollback:
    """One return of a training that diverged.

    Attributes:
        phase: name of the phase in which it diverged.
        epoch: of this phase, from 1.
        step: of this epoch, from 1.
        what: went wrong.
        passed_over: outer steps of data that are not shown again.
        rates: learning rates of generator and discriminators in the configuration of that time.
    """

    phase: str
    epoch: int
    step: int
    what: str
    passed_over: int
    rates: tuple[float, float]


@dataclasses.dataclass
class TrainingState:
    """What a checkpoint holds beside variables: enough to go on as if nothing had happened.

    Attributes:
        phase: number of the phase that comes next.
        epoch: epochs done in it.
        step: outer steps done in its next epoch.
        clock: of this epoch.
        history: an entry an epoch done.
        rollbacks: all so far.
    """

    phase: int = 0
    epoch: int = 0
    step: int = 0
    clock: Clock = dataclasses.field(default_factory=Clock)
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    rollbacks: list[Rollback] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingState:
        """Reads what `to_json` gave, from JSON or not."""
        rollbacks = [Rollback(**entry | {"rates": tuple(entry["rates"])}) for entry in values["rollbacks"]]
        return cls(**values | {"clock": Clock(**values["clock"]), "rollbacks": rollbacks})

    def counted(self, phases: tuple[PhaseConfig, ...]) -> list[Rollback]:
        """Returns the rollbacks that still count: not those of phases whose learning rates were changed since."""
        rates = {phase.name: learning_rates(phase) for phase in phases}
        return [entry for entry in self.rollbacks if rates.get(entry.phase) == entry.rates]

    def slowed(self, phase: PhaseConfig) -> PhaseConfig:
        """Returns a phase with its learning rates halved once for each of its rollbacks that still count."""
        factor = 0.5 ** len(self.counted((phase,)))
        return dataclasses.replace(
            phase,
            generator_learning_rate=phase.generator_learning_rate * factor,
            discriminator_learning_rate=phase.discriminator_learning_rate * factor,
        )

    def where(self, phase: PhaseConfig) -> str:
        """Returns the place in words."""
        return f"step {self.step} of epoch {self.epoch + 1} of phase {phase.name!r}"

    def steps_done(self, steps: int) -> int:
        """Returns the outer steps done in a phase with `steps` an epoch."""
        return self.epoch * steps + self.step

    def data_position(self, phase: PhaseConfig, steps: int) -> int:
        """Returns the outer step of the data that comes next."""
        return self.steps_done(steps) + sum(entry.passed_over for entry in self.rollbacks if entry.phase == phase.name)


def learning_rates(phase: PhaseConfig) -> tuple[float, float]:
    """Returns the learning rates of generator and discriminators."""
    return phase.generator_learning_rate, phase.discriminator_learning_rate


def make_entry(
    state: TrainingState, phase: PhaseConfig, steps: int, losses: Mapping[str, float], variety: float | None
) -> dict[str, Any]:
    """Returns what the history says of the epoch that `state` has just done; see `read_history`."""
    epoch = state.epoch + 1
    rollbacks = [
        {"step": entry.step, "what": entry.what}
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
        "variety": variety,
        **({"rollbacks": rollbacks} if rollbacks else {}),
    }


def stories_per_step(phase: PhaseConfig) -> int:
    """Returns how many whole stories an outer step is trained on; single images where there are no others."""
    if phase.schedule == "joint":
        return phase.story_batch
    return phase.story_steps * phase.story_batch or phase.image_steps * phase.image_batch


def read_history(work_dir: Path) -> list[dict[str, Any]]:
    """Returns the history of a working folder, an entry an epoch.

    Keys of an entry: `phase`, its name; `epoch`, from 1; `step`, outer steps done in the phase; `seconds` of its steps;
    `stories_per_second` and `data_wait`, the share of a step that waits for data, both without the step that made the
    graph (absent where there is no other); `learning_rates` of `generator` and `discriminator`, at their highest;
    `losses`, by name, averaged over the epoch; `variety`, see `divergence.picture_variety`
    (None where it cannot be told); `rollbacks`, those on the way to it (absent where there was none).
    """
    history: list[dict[str, Any]] = json.loads((work_dir / HISTORY).read_text())
    return history
