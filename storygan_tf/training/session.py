"""What the parts of a running training share: the model, its place in the phases, and its checkpoints."""

from __future__ import annotations

import math
import time

import numpy as np
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig, Settings, TrainConfig
from storygan_tf.training.checkpoints import Checkpoint, TrainingCheckpoints
from storygan_tf.training.storygan import StoryGAN
from storygan_tf.training.training_state import Rollback, TrainingState, learning_rates


def steps_per_epoch(training: TrainConfig, phase: PhaseConfig, stories: int) -> int:
    """Returns the number of outer steps in an epoch: `training.steps_per_epoch`, by default one pass over the stories.

    Args:
        training: the training configuration.
        phase: the phase.
        stories: number of training stories.
    """
    return training.steps_per_epoch or max(1, math.ceil(stories / phase.story_batch))


class TrainingSession:
    """A training of one model in this process. Callbacks read and change it.

    Args:
        settings: `model` and `training` are used.
        strategy: the strategy that the model was created with.
        gan: the model.
        checkpoints: the checkpoints of the training.
        story_count: number of training stories.
        background: uint8 [64, 64, 3], median of the training frames.

    Attributes:
        state: place in the phases, history and rollbacks.
        saved_at: time of the last checkpoint, by `time.monotonic`.
    """

    def __init__(
        self,
        settings: Settings,
        strategy: tf.distribute.Strategy,
        gan: StoryGAN,
        checkpoints: TrainingCheckpoints,
        *,
        story_count: int,
        background: np.ndarray,
    ) -> None:
        self.settings = settings
        self.strategy = strategy
        self.gan = gan
        self.checkpoints = checkpoints
        self.state = TrainingState()
        self.saved_at = time.monotonic()
        self._story_count = story_count
        self._background = background

    @property
    def phases(self) -> tuple[PhaseConfig, ...]:
        """The phases that have at least one epoch."""
        return self.settings.training.active_phases

    @property
    def phase(self) -> PhaseConfig:
        """The current phase, or the last one after its end, with learning rates reduced by its rollbacks."""
        return self.state.with_reduced_rates(self._configured_phase)

    @property
    def _configured_phase(self) -> PhaseConfig:
        """The current phase, or the last one after its end, as configured."""
        return self.phases[min(self.state.phase, len(self.phases) - 1)]

    @property
    def steps(self) -> int:
        """Number of outer steps in an epoch of the current phase."""
        return steps_per_epoch(self.settings.training, self._configured_phase, self._story_count)

    @property
    def ended(self) -> bool:
        """Whether all phases are completed."""
        return self.state.phase == len(self.phases)

    def compile(self) -> None:
        """Compiles the model for the current phase, with new optimizers."""
        phase = self.phase
        with self.strategy.scope():
            self.gan.compile(
                phase,
                steps=phase.epochs * self.steps,
                background=self._background,
                jit_compile=self.settings.training.xla,
            )

    def restore(self, checkpoint: Checkpoint, rollbacks: list[Rollback] | None = None) -> None:
        """Restores the model and the state from a checkpoint, with other rollbacks than its own if they are given."""
        self.state = TrainingState.from_json(checkpoint.state)
        if rollbacks is not None:
            self.state.rollbacks = rollbacks
        self.compile()
        phase = self.phase
        with self.strategy.scope():
            self.checkpoints.restore(self.gan, checkpoint.path)
            if phase.decay == "constant":  # Constant rates are variables, which the checkpoint has overwritten.
                generator, discriminator = learning_rates(phase)
                for optimizer, rate in zip(self.gan.optimizers, (generator, discriminator, discriminator), strict=True):
                    optimizer.learning_rate = rate
        self.saved_at = time.monotonic()

    def save(self, *, within: bool = False) -> None:
        """Saves a checkpoint.

        Args:
            within: whether the current epoch is not completed.

        Raises:
            TrainingError: if the disk is full or not writable.
        """
        self.checkpoints.save(self.gan, self.state.to_json(), within=within)
        self.saved_at = time.monotonic()

    def save_best(self) -> None:
        """Saves the checkpoint of the best epoch so far.

        Raises:
            TrainingError: if the disk is full or not writable.
        """
        self.checkpoints.save_best(self.gan, len(self.state.history), self.state.to_json())

    def losses(self) -> dict[str, float]:
        """Returns the losses by name, averaged over the epoch so far."""
        with self.strategy.scope():
            return {name: float(tracker.result()) for name, tracker in self.gan.trackers.items()}
