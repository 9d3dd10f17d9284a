"""Trains a StoryGAN phase by phase, with checkpoints, resumption, rollbacks after divergence, and logs.

A training writes to its working directory only: `checkpoints/`, `tensorboard/` and `history.json`. The same call on the
same directory continues from the newest undamaged checkpoint, which also holds the optimizers, the running means of the
epoch's losses and the position in the data. On one CPU device the resumed training ends with the weights of an
uninterrupted one, bit for bit.

A training that diverges returns to the end of the previous epoch. It continues with half the learning rates, to the
end of the phase, and with data that it has not used yet: with the same data a CPU would repeat the divergence.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from storygan_tf.common.errors import ConfigError, TrainingError
from storygan_tf.common.progress import progress
from storygan_tf.config.schema import PhaseConfig, Settings, TrainConfig
from storygan_tf.data.background import median_background
from storygan_tf.data.training_input import Stories, training_dataset
from storygan_tf.training.callbacks import divergence
from storygan_tf.training.callbacks.divergence import Divergence
from storygan_tf.training.callbacks.interruption import StopOnSignal, TrainingInterruptedError
from storygan_tf.training.callbacks.training_log import TENSORBOARD, TrainingLog, describe
from storygan_tf.training.checkpoints import Checkpoint, TrainingCheckpoints
from storygan_tf.training.distribution import (
    any_worker,
    check_devices,
    check_same_on_workers,
    is_chief,
    local_replica_ids,
    make_strategy,
    precision,
    raise_worker_lost,
    worker_directory,
)
from storygan_tf.training.step_function import make_step
from storygan_tf.training.storygan import StoryGAN, to_uint8
from storygan_tf.training.training_state import (
    HISTORY,
    Clock,
    Rollback,
    TrainingState,
    learning_rates,
    make_entry,
    read_history,
)

__all__ = ["HISTORY", "TENSORBOARD", "Trainer", "TrainingInterruptedError", "draw_stories", "read_history"]

CHECKPOINTS = "checkpoints"
"""Name of the directory of the checkpoints in a working directory."""

SAVE_SECONDS = 600.0
"""Age of the last checkpoint, in seconds, at which another one is saved within an epoch."""

_STEPS_BETWEEN_CHECKS = 20
"""Steps between two checks that losses are finite. On a GPU each check waits for the steps that are being computed."""


def steps_per_epoch(training: TrainConfig, phase: PhaseConfig, stories: int) -> int:
    """Returns the number of outer steps in an epoch: `training.steps_per_epoch`, by default one pass over the stories.

    Args:
        training: the training configuration.
        phase: the phase.
        stories: number of training stories.
    """
    return training.steps_per_epoch or max(1, math.ceil(stories / phase.story_batch))


def check_label_weights(settings: Settings) -> None:
    """Checks all phases before the first one starts: the last one may start hours later.

    Raises:
        ConfigError: if a phase has label losses and the model has no labels.
    """
    for phase in settings.training.phases:
        for name in ("label_weight", "generator_label_weight"):
            if getattr(phase, name) and not settings.model.labels:
                raise ConfigError(
                    f"training.phases.{phase.name}.{name}: found {getattr(phase, name)} with model.labels=0, expected "
                    "a model with labels. Set model.labels to their number, or the weight to 0."
                )


class Trainer:
    """Trains one StoryGAN according to its settings.

    Args:
        settings: `model` and `training` are used.
        train: the training stories.
        boards: test stories that are drawn after each epoch; may be empty.
        work_dir: working directory, shared by all workers; created if it does not exist.
        initial: function that sets the weights of a new model; called if there is no checkpoint yet.
        strategy: by default the one that `training.strategy` names.
        save_seconds: see `SAVE_SECONDS`.

    Raises:
        ConfigError: if the settings contradict each other or do not fit the devices.
    """

    def __init__(
        self,
        settings: Settings,
        train: Stories,
        boards: Stories,
        work_dir: Path,
        initial: Callable[[StoryGAN], None] | None = None,
        *,
        strategy: tf.distribute.Strategy | None = None,
        save_seconds: float = SAVE_SECONDS,
    ) -> None:
        self.settings = settings
        self.train_stories = train
        self.boards = boards
        self.strategy = strategy or make_strategy(settings.training.strategy)
        check_label_weights(settings)
        check_devices(settings, self.strategy)
        # Every worker saves, because reading variables takes all of them. Only the chief's files are kept.
        self.own_dir = worker_directory(self.strategy, work_dir)
        self.checkpoints = TrainingCheckpoints(work_dir / CHECKPOINTS, self.own_dir / CHECKPOINTS)
        self.log = TrainingLog(self.own_dir, boards)
        self.initial = initial
        self.save_seconds = save_seconds
        self.background = median_background([train.images])
        self.state = TrainingState()
        with self.strategy.scope(), precision(self.strategy, mixed=settings.training.mixed_precision):
            keras.utils.set_random_seed(settings.training.seed)
            self.gan = StoryGAN(settings.model)

    def run(self, on_epoch: Callable[[int], None] | None = None) -> StoryGAN:
        """Trains to the end of the last phase, starting at the newest checkpoint if there is one.

        Args:
            on_epoch: called after the checkpoint of each epoch with the number of completed epochs.

        Returns:
            The trained model.

        Raises:
            TrainingInterruptedError: after SIGTERM or SIGINT, once the current step is completed and saved.
            TrainingError: if the training diverges and no rollback is left, or a checkpoint cannot be written or used.
            WorkerLostError: if another worker ended.
        """
        phases = self.settings.training.active_phases
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(StopOnSignal())
            stack.enter_context(raise_worker_lost(self.strategy))
            self._start()
            advance = stack.enter_context(self._progress())
            while self.state.phase < len(phases):
                epochs_before = len(self.state.history)
                diverged = self._train_epoch(stop) or self._end_epoch()
                if diverged:
                    self._roll_back(diverged)
                advance(len(self.state.history) - epochs_before, describe(self.state.history))
                if on_epoch and not diverged:
                    on_epoch(len(self.state.history))
                if any_worker(self.strategy, [bool(stop.signal)])[0]:
                    raise self._interrupted(stop)
        return self.gan

    @contextlib.contextmanager
    def _progress(self) -> Iterator[Callable[[int, str], None]]:
        """Yields a function that advances the progress bar by a number of epochs; only the chief shows one."""
        total = sum(phase.epochs for phase in self.settings.training.active_phases)
        if is_chief(self.strategy):
            with progress("training", total, unit="epoch", done=len(self.state.history)) as advance:
                yield advance
        else:
            yield lambda parts, note: None

    # Position

    def _phase(self) -> PhaseConfig:
        """Returns the current phase, or the last one after its end, with learning rates reduced by its rollbacks."""
        phases = self.settings.training.active_phases
        return self.state.with_reduced_rates(phases[min(self.state.phase, len(phases) - 1)])

    def _steps(self) -> int:
        """Returns the number of outer steps in an epoch of the current phase."""
        return steps_per_epoch(self.settings.training, self._phase(), len(self.train_stories.ids))

    def _start(self) -> None:
        """Restores the newest checkpoint, or saves the first one of a new model."""
        checkpoint = self.checkpoints.newest()
        check_same_on_workers(self.strategy, "checkpoints", int(checkpoint.path.name) if checkpoint else 0)
        if checkpoint:
            self._restore(checkpoint)
        else:
            if self.initial:
                with self.strategy.scope():
                    self.initial(self.gan)
            self._compile()
            self._save()
        self.log.write_history(self.state.history)

    def _compile(self) -> None:
        """Creates the optimizers and the step function of the current phase."""
        phase, xla = self._phase(), self.settings.training.xla
        with self.strategy.scope():
            self.gan.compile(phase, steps=phase.epochs * self._steps(), background=self.background, jit_compile=xla)
        self._step = make_step(self.gan, self.strategy, xla=xla)
        self._has_graph = False

    def _restore(self, checkpoint: Checkpoint, rollbacks: list[Rollback] | None = None) -> None:
        """Restores the model and the state from a checkpoint, with other rollbacks than its own if they are given."""
        self.state = TrainingState.from_json(checkpoint.state)
        if rollbacks is not None:
            self.state.rollbacks = rollbacks
        self._compile()
        phase = self._phase()
        with self.strategy.scope():
            self.checkpoints.restore(self.gan, checkpoint.path)
            if phase.decay == "constant":  # Constant rates are variables, which the checkpoint has overwritten.
                for optimizer, rate in zip(self.gan.optimizers, _rates(phase), strict=True):
                    optimizer.learning_rate = rate
        self._saved_at = time.monotonic()

    def _save(self, *, within: bool = False) -> None:
        self.checkpoints.save(self.gan, self.state.to_json(), within=within)
        self._saved_at = time.monotonic()

    # An epoch

    def _train_epoch(self, stop: StopOnSignal) -> Divergence | None:
        """Trains to the end of the epoch; returns the divergence if losses are not finite before, else None."""
        steps = self._steps()
        if self.state.step == 0:
            self.gan.reset_metrics()
        batches = iter(self._dataset(steps))
        while self.state.step < steps:
            diverged = self._train_step(batches, steps)
            if diverged:
                return diverged
            if self.state.step < steps:
                self._save_within(stop)
        return None

    def _dataset(self, steps: int) -> Any:
        """Returns the distributed dataset of the remaining steps of the epoch."""
        phase = self._phase()
        make = functools.partial(
            training_dataset,
            self.train_stories,
            phase,
            (self.settings.training.seed, self.state.phase),
            self.state.data_position(phase, steps),
            steps - self.state.step,
            replicas=self.strategy.num_replicas_in_sync,
        )
        return self.strategy.distribute_datasets_from_function(
            lambda context: make(replica_ids=local_replica_ids(context))
        )

    def _train_step(self, batches: Iterator[Any], steps: int) -> Divergence | None:
        """Runs one outer step; returns the divergence if losses are checked after it and not finite, else None."""
        start = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - start
        self._step(batch)
        self.state.step += 1
        check = self.state.step % _STEPS_BETWEEN_CHECKS == 0 or self.state.step == steps
        diverged = divergence.not_finite(self._losses()) if check else None
        self.state.clock.add(time.perf_counter() - start, waited, timed=self._has_graph)
        self._has_graph = True
        return diverged

    def _losses(self) -> dict[str, float]:
        """Returns the losses by name, averaged over the epoch so far."""
        with self.strategy.scope():
            return {name: float(value) for name, value in self.gan.get_metrics_result().items()}

    def _save_within(self, stop: StopOnSignal) -> None:
        """Saves within the epoch if the last checkpoint is too old or a signal was received; not if it has diverged.

        Raises:
            TrainingInterruptedError: if any worker received a signal.
        """
        overdue = time.monotonic() - self._saved_at > self.save_seconds
        stopping, overdue = any_worker(self.strategy, [bool(stop.signal), overdue])
        if (stopping or overdue) and not self._not_finite():
            self._save(within=True)
        if stopping:
            raise self._interrupted(stop)

    def _not_finite(self) -> Divergence | None:
        """Returns the divergence if losses, weights or optimizers are not finite, else None."""
        with self.strategy.scope():
            return divergence.not_finite(self._losses() | divergence.weight_sums(self.gan))

    def _interrupted(self, stop: StopOnSignal) -> TrainingInterruptedError:
        """Returns the error that ends a training after a signal."""
        ended = self.state.phase == len(self.settings.training.active_phases)
        position = "the last epoch" if ended else self.state.describe_position(self._phase())
        return TrainingInterruptedError(position, stop.signal)

    def _end_epoch(self) -> Divergence | None:
        """Records the epoch, moves on to the next one and saves; returns the divergence instead if there is one."""
        phase, steps = self._phase(), self._steps()
        drawn = draw_stories(self.gan, self.boards.vectors) if self.boards.ids else self.boards.images
        variety = divergence.picture_variety(drawn, self.boards.images)
        entry = make_entry(self.state, phase, steps, self._losses(), variety)
        diverged = (
            self._not_finite()
            or divergence.certain_discriminators(entry["losses"], phase, steps)
            or divergence.mode_collapse(variety, phase, self.state.history)
        )
        if diverged:
            return diverged
        self.log.write_epoch(len(self.state.history) + 1, entry, drawn)
        self._advance(entry, phase)
        self._save()
        self.log.write_history(self.state.history)
        return None

    def _advance(self, entry: dict[str, Any], phase: PhaseConfig) -> None:
        """Moves on to the next epoch; if it begins a phase, creates its optimizers, so that checkpoints hold them."""
        state = self.state
        state.history.append(entry)
        state.epoch, state.step, state.clock = state.epoch + 1, 0, Clock()
        if state.epoch >= phase.epochs:
            state.phase, state.epoch = state.phase + 1, 0
            if state.phase < len(self.settings.training.active_phases):
                self._compile()

    # Divergence

    def _roll_back(self, diverged: Divergence) -> None:
        """Restores the newest checkpoint of an epoch, with half the learning rates and later data.

        Raises:
            TrainingError: if no rollback is left, or there is no checkpoint.
        """
        phase, state = self._phase(), self.state
        rollbacks = state.current_rollbacks(self.settings.training.active_phases)
        checkpoint = self.checkpoints.newest_epoch() if len(rollbacks) < self.settings.training.rollbacks else None
        if not checkpoint:
            raise self._diverged(diverged, phase, len(rollbacks))
        before, steps = TrainingState.from_json(checkpoint.state), self._steps()
        skipped = state.steps_done(steps) - (before.phase == state.phase) * before.steps_done(steps)
        rates = learning_rates(self.settings.training.active_phases[state.phase])
        rollback = Rollback(phase.name, state.epoch + 1, state.step, diverged.description, skipped, rates)
        self._restore(checkpoint, [*state.rollbacks, rollback])
        self._save()
        logging.getLogger(__name__).warning(
            "training diverged at %s: %s. It continues from checkpoint %s with learning rates of %g (generator) and %g "
            "(discriminators).",
            state.describe_position(phase), diverged.description, checkpoint.path,
            *learning_rates(self.state.with_reduced_rates(phase)),
        )  # fmt: skip

    def _diverged(self, diverged: Divergence, phase: PhaseConfig, rollbacks: int) -> TrainingError:
        """Returns the error that ends a training that has diverged with no rollback left."""
        generator, discriminator = learning_rates(phase)
        return TrainingError(
            f"training diverged at {self.state.describe_position(phase)}: {diverged.description}. It had gone back to "
            f"the last good checkpoint {rollbacks} times (training.rollbacks is {self.settings.training.rollbacks}), "
            f"each time with half the learning rates: {generator:g} (generator) and {discriminator:g} (discriminators) "
            f"now. {diverged.advice.format(phase=f'training.phases.{phase.name}')}"
        )


def _rates(phase: PhaseConfig) -> tuple[float, float, float]:
    """Returns the learning rates of a phase in the order of `Optimizers`."""
    generator, discriminator = learning_rates(phase)
    return generator, discriminator, discriminator


def draw_stories(gan: StoryGAN, vectors: np.ndarray) -> np.ndarray:
    """Returns generated stories, drawn in inference mode with averaged weights if the phase has them.

    The seed of a story is its position in the batch.

    Args:
        gan: the model.
        vectors: float32 [batch, frames, sentence_size].

    Returns:
        uint8 [batch, frames, 64, 64, 3].
    """
    seeds = tf.range(len(vectors), dtype=tf.int64)
    return np.asarray(to_uint8(gan.drawn_generator(tf.constant(vectors), training=False, seed=seeds).images))
