"""Fits a StoryGAN on stories, phase by phase: checkpoints, resume, divergence, logs.

Everything that a training leaves stands in its working folder: `checkpoints/`, `tensorboard/` and `history.json`. The
same call on the same folder goes on from the last whole checkpoint, which also holds the optimizers, the averages of
the epoch's losses and the place in the data: on one CPU device it ends with the weights of a training that was never
interrupted, bit for bit.

A training that diverges goes back to the end of the epoch before. From there it takes half the learning rates, to the
end of the phase, and data that it has not seen yet: with the same data a CPU would repeat the divergence.
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

from storygan_tf.common.errors import TrainingError
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
    is_chief,
    local_replica_ids,
    make_strategy,
    raise_worker_lost,
    worker_directory,
)
from storygan_tf.training.step_function import (
    any_worker,
    check_same_on_workers,
    check_settings,
    make_step,
    precision,
    sums_of_weights,
)
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

SAVE_SECONDS = 600.0
"""A checkpoint is also saved within an epoch where the last one is older than this."""

_CHECK_STEPS = 20
"""So often it is looked whether losses are finite; on a GPU each look waits for the work that is under way."""


def steps_per_epoch(training: TrainConfig, phase: PhaseConfig, stories: int) -> int:
    """Returns the outer steps of an epoch: as configured, or one pass over `stories`."""
    return training.steps_per_epoch or max(1, math.ceil(stories / phase.story_batch))


class Trainer:
    """Trains one StoryGAN by its settings.

    Args:
        settings: `model` and `training` are used.
        train: stories to train on.
        boards: test stories that are drawn after each epoch.
        work_dir: working folder, shared by all workers; made where it is not there.
        initial: called with a fresh model where there is no checkpoint yet, to give it weights.
        strategy: by default, what `training.strategy` names.
        save_seconds: see `SAVE_SECONDS`.

    Raises:
        ConfigError: for settings that do not fit together or the devices.
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
        check_settings(settings, self.strategy)
        # Every worker saves, as reading variables takes all of them; only the chief's files count.
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
        """Trains to the end of the last phase, from the last checkpoint where there is one.

        Args:
            on_epoch: called with the number of epochs done after each one's checkpoint.

        Returns:
            The trained model.

        Raises:
            TrainingInterruptedError: after SIGTERM or SIGINT, once the step is finished and saved.
            TrainingError: where the training diverges again after the last rollback, or a checkpoint cannot be written
                or used.
        """
        phases = self.settings.training.active_phases
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(StopOnSignal())
            stack.enter_context(raise_worker_lost(self.strategy))
            self._begin()
            advance = stack.enter_context(self._progress())
            while self.state.phase < len(phases):
                done = len(self.state.history)
                trouble = self._train_epoch(stop) or self._end_epoch()
                if trouble:
                    self._roll_back(trouble)
                advance(len(self.state.history) - done, describe(self.state.history))
                if on_epoch and not trouble:
                    on_epoch(len(self.state.history))
                if any_worker(self.strategy, [bool(stop.signal)])[0]:
                    raise self._interrupted(stop)
        return self.gan

    @contextlib.contextmanager
    def _progress(self) -> Iterator[Callable[[int, str], None]]:
        total = sum(phase.epochs for phase in self.settings.training.active_phases)
        if is_chief(self.strategy):
            with progress("training", total, unit="epoch", done=len(self.state.history)) as advance:
                yield advance
        else:
            yield lambda parts, note: None

    # Where it stands

    def _phase(self) -> PhaseConfig:
        """Returns the phase that comes next, or the last one, at the learning rates that rollbacks have left it."""
        phases = self.settings.training.active_phases
        return self.state.slowed(phases[min(self.state.phase, len(phases) - 1)])

    def _steps(self) -> int:
        return steps_per_epoch(self.settings.training, self._phase(), len(self.train_stories.ids))

    def _begin(self) -> None:
        """Takes up the newest checkpoint, or makes the first."""
        found = self.checkpoints.newest()
        check_same_on_workers(self.strategy, "checkpoints", int(found.path.name) if found else 0)
        if found:
            self._restore(found)
        else:
            if self.initial:
                with self.strategy.scope():
                    self.initial(self.gan)
            self._compile()
            self._save()
        self.log.write_history(self.state.history)

    def _compile(self) -> None:
        """Makes the optimizers and the step of the phase that comes next."""
        phase, xla = self._phase(), self.settings.training.xla
        with self.strategy.scope():
            self.gan.compile(phase, phase.epochs * self._steps(), self.background, jit_compile=xla)
        self._step = make_step(self.gan, self.strategy, xla=xla)
        self._has_graph = False

    def _restore(self, found: Checkpoint, rollbacks: list[Rollback] | None = None) -> None:
        """Goes back to a checkpoint, with its own rollbacks or the given ones."""
        self.state = TrainingState.from_json(found.state)
        if rollbacks is not None:
            self.state.rollbacks = rollbacks
        self._compile()
        phase = self._phase()
        with self.strategy.scope():
            self.checkpoints.restore(self.gan, found.path)
            if phase.decay == "constant":  # Then rates are variables, and those of the checkpoint.
                for optimizer, rate in zip(self.gan.optimizers, _rates(phase), strict=True):
                    optimizer.learning_rate = rate
        self._saved_at = time.monotonic()

    def _save(self, *, within: bool = False) -> None:
        self.checkpoints.save(self.gan, self.state.to_json(), within=within)
        self._saved_at = time.monotonic()

    # An epoch

    def _train_epoch(self, stop: StopOnSignal) -> Divergence | None:
        """Trains to the end of the epoch, or to where losses are no longer finite."""
        steps = self._steps()
        if self.state.step == 0:
            self.gan.reset_metrics()
        batches = iter(self._dataset(steps))
        while self.state.step < steps:
            trouble = self._one_step(batches, steps)
            if trouble:
                return trouble
            if self.state.step < steps:
                self._save_within(stop)
        return None

    def _dataset(self, steps: int) -> Any:
        """Returns the data of the rest of the epoch."""
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

    def _one_step(self, batches: Iterator[Any], steps: int) -> Divergence | None:
        began = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - began
        self._step(batch)
        self.state.step += 1
        look = self.state.step % _CHECK_STEPS == 0 or self.state.step == steps
        trouble = divergence.not_finite(self._losses()) if look else None
        self.state.clock.add(time.perf_counter() - began, waited, timed=self._has_graph)
        self._has_graph = True
        return trouble

    def _losses(self) -> dict[str, float]:
        """Returns the losses of the epoch so far."""
        with self.strategy.scope():
            return {name: float(value) for name, value in self.gan.get_metrics_result().items()}

    def _save_within(self, stop: StopOnSignal) -> None:
        """Saves where it is time to, or a signal came; what has diverged is not worth saving."""
        overdue = time.monotonic() - self._saved_at > self.save_seconds
        stopping, overdue = any_worker(self.strategy, [bool(stop.signal), overdue])
        if (stopping or overdue) and not self._broken():
            self._save(within=True)
        if stopping:
            raise self._interrupted(stop)

    def _broken(self) -> Divergence | None:
        """Returns the trouble with losses, weights or optimizers that are not finite, or None."""
        with self.strategy.scope():
            return divergence.not_finite(self._losses() | sums_of_weights(self.gan))

    def _interrupted(self, stop: StopOnSignal) -> TrainingInterruptedError:
        ended = self.state.phase == len(self.settings.training.active_phases)
        return TrainingInterruptedError("the last epoch" if ended else self.state.where(self._phase()), stop.signal)

    def _end_epoch(self) -> Divergence | None:
        """Records the epoch and goes to the next one, unless the training has diverged."""
        phase, steps = self._phase(), self._steps()
        drawn = draw_stories(self.gan, self.boards.vectors) if self.boards.ids else self.boards.images
        variety = divergence.picture_variety(drawn, self.boards.images)
        entry = make_entry(self.state, phase, steps, self._losses(), variety)
        trouble = (
            self._broken()
            or divergence.certain_discriminators(entry["losses"], phase, steps)
            or divergence.mode_collapse(variety, phase, self.state.history)
        )
        if trouble:
            return trouble
        self.log.write_epoch(len(self.state.history) + 1, entry, drawn)
        self._advance(entry, phase)
        self._save()
        self.log.write_history(self.state.history)
        return None

    def _advance(self, entry: dict[str, Any], phase: PhaseConfig) -> None:
        """Goes to the next epoch; where that begins a phase, to its optimizers, which the checkpoint then holds."""
        state = self.state
        state.history.append(entry)
        state.epoch, state.step, state.clock = state.epoch + 1, 0, Clock()
        if state.epoch >= phase.epochs:
            state.phase, state.epoch = state.phase + 1, 0
            if state.phase < len(self.settings.training.active_phases):
                self._compile()

    # Divergence

    def _roll_back(self, trouble: Divergence) -> None:
        """Goes back to the last good checkpoint, with half the learning rates and data that comes later."""
        phase, state = self._phase(), self.state
        counted = state.counted(self.settings.training.active_phases)
        found = self.checkpoints.newest_epoch() if len(counted) < self.settings.training.rollbacks else None
        if not found:
            raise self._diverged(trouble, phase, len(counted))
        before = TrainingState.from_json(found.state)
        done = state.steps_done(self._steps()) - (before.phase == state.phase) * before.steps_done(self._steps())
        rates = learning_rates(self.settings.training.active_phases[state.phase])
        entry = Rollback(phase.name, state.epoch + 1, state.step, trouble.what, done, rates)
        self._restore(found, [*state.rollbacks, entry])
        self._save()
        logging.getLogger(__name__).warning(
            "training diverged at %s: %s. It goes on from checkpoint %s with learning rates of %g (generator) and %g "
            "(discriminators).",
            state.where(phase), trouble.what, found.path, *learning_rates(self.state.slowed(phase)),
        )  # fmt: skip

    def _diverged(self, trouble: Divergence, phase: PhaseConfig, rollbacks: int) -> TrainingError:
        """Returns the error that ends a training which going back does not save."""
        generator, discriminator = learning_rates(phase)
        return TrainingError(
            f"training diverged at {self.state.where(phase)}: {trouble.what}. It had gone back to the last good "
            f"checkpoint {rollbacks} times (training.rollbacks is {self.settings.training.rollbacks}), each time with "
            f"half the learning rates: {generator:g} (generator) and {discriminator:g} (discriminators) now. "
            f"{trouble.advice.format(phase=f'training.phases.{phase.name}')}"
        )


def _rates(phase: PhaseConfig) -> tuple[float, float, float]:
    """Returns the learning rates in the order of `Optimizers`."""
    generator, discriminator = learning_rates(phase)
    return generator, discriminator, discriminator


def draw_stories(gan: StoryGAN, vectors: np.ndarray) -> np.ndarray:
    """Draws stories in inference mode, the story's position as its seed, with averaged weights where there are any.

    Args:
        gan: a model.
        vectors: float32 [batch, frames, sentence_size].

    Returns:
        uint8 [batch, frames, 64, 64, 3].
    """
    seeds = tf.range(len(vectors), dtype=tf.int64)
    return np.asarray(to_uint8(gan.drawn_generator(tf.constant(vectors), training=False, seed=seeds).images))
