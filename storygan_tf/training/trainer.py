"""Trains a StoryGAN phase by phase with `fit`, with resumption, rollbacks after divergence, and logs.

A training writes to its working directory only: `checkpoints/`, `tensorboard/` and `history.json`. The same call on the
same directory continues from the newest undamaged checkpoint, which also holds the optimizers, the running means of the
epoch's losses and the position in the data. On one CPU device the resumed training ends with the weights of an
uninterrupted one, bit for bit.

Each phase is one call of `fit`. A training that resumes within an epoch calls it for the rest of that epoch first.

A training that diverges returns to the end of the previous epoch. It continues with half the learning rates, to the
end of the phase, and with data that it has not used yet: with the same data a CPU would repeat the divergence.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from storygan_tf.common.errors import ConfigError, TrainingError
from storygan_tf.common.progress import progress
from storygan_tf.config.schema import PhaseConfig, Settings
from storygan_tf.data.background import BACKGROUND_STORIES, evenly_spaced, median_background
from storygan_tf.data.stories import Stories, StorySource
from storygan_tf.data.training_input import batch_shares, training_dataset, validation_dataset
from storygan_tf.training.best_epoch import best_epoch
from storygan_tf.training.callbacks.checkpointing import Checkpointing, interrupted
from storygan_tf.training.callbacks.divergence import Divergence, DivergenceError
from storygan_tf.training.callbacks.epoch_monitor import EpochMonitor
from storygan_tf.training.callbacks.interruption import StopOnSignal, TrainingInterruptedError
from storygan_tf.training.callbacks.step_monitor import StepMonitor
from storygan_tf.training.callbacks.training_log import TENSORBOARD, TrainingLog, describe, draw_stories
from storygan_tf.training.checkpoints import TrainingCheckpoints
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
from storygan_tf.training.session import TrainingSession
from storygan_tf.training.storygan import StoryGAN
from storygan_tf.training.training_state import HISTORY, Rollback, TrainingState, learning_rates, read_history

__all__ = ["HISTORY", "TENSORBOARD", "Trainer", "TrainingInterruptedError", "draw_stories", "read_history"]

CHECKPOINTS = "checkpoints"
"""Name of the directory of the checkpoints in a working directory."""

SAVE_SECONDS = 600.0
"""Age of the last checkpoint, in seconds, at which another one is saved within an epoch."""


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
        validation: held-out stories that the model is measured on after each epoch; by default it is not measured.
        strategy: by default the one that `training.strategy` names.
        save_seconds: see `SAVE_SECONDS`.

    Attributes:
        session: the model, its state and its checkpoints.

    Raises:
        ConfigError: if the settings contradict each other or do not fit the devices.
    """

    def __init__(
        self,
        settings: Settings,
        train: StorySource,
        boards: Stories,
        work_dir: Path,
        initial: Callable[[StoryGAN], None] | None = None,
        *,
        validation: Stories | None = None,
        strategy: tf.distribute.Strategy | None = None,
        save_seconds: float = SAVE_SECONDS,
    ) -> None:
        self.settings = settings
        self.train_stories = train
        self.validation_stories = validation
        self.boards = boards
        self.strategy = strategy or make_strategy(settings.training.strategy)
        check_label_weights(settings)
        if settings.training.keep_best and not validation:
            raise ConfigError(
                f"training.keep_best: found {settings.training.keep_best!r} without validation stories, expected "
                "stories of split val (data.val_fraction, training.validation_stories) or an empty value."
            )
        check_devices(settings, self.strategy)
        self.initial = initial
        self.save_seconds = save_seconds
        # Every worker saves, because reading variables takes all of them. Only the chief's files are kept.
        own_dir = worker_directory(self.strategy, work_dir)
        checkpoints = TrainingCheckpoints(work_dir / CHECKPOINTS, own_dir / CHECKPOINTS)
        self.log = TrainingLog(own_dir, boards)
        with self.strategy.scope(), precision(self.strategy, mixed=settings.training.mixed_precision):
            keras.utils.set_random_seed(settings.training.seed)
            gan = StoryGAN(settings.model)
        self.session = TrainingSession(
            settings,
            self.strategy,
            gan,
            checkpoints,
            story_count=len(train),
            background=median_background([train.read(evenly_spaced(len(train), BACKGROUND_STORIES)).images]),
        )

    @property
    def gan(self) -> StoryGAN:
        """The model."""
        return self.session.gan

    @property
    def state(self) -> TrainingState:
        """The place in the phases, the history and the rollbacks."""
        return self.session.state

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
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(StopOnSignal())
            stack.enter_context(raise_worker_lost(self.strategy))
            self._start()
            advance = stack.enter_context(self._progress())
            epoch_saved = functools.partial(self._epoch_saved, stop, advance, on_epoch)
            while not self.session.ended:
                try:
                    self._fit(stop, epoch_saved)
                except DivergenceError as error:
                    epochs = len(self.state.history)
                    self._roll_back(error.divergence)
                    advance(len(self.state.history) - epochs, describe(self.state.history))
            self._keep_best()
        return self.gan

    @contextlib.contextmanager
    def _progress(self) -> Iterator[Callable[[int, str], None]]:
        """Yields a function that advances the progress bar by a number of epochs; only the chief shows one."""
        total = sum(phase.epochs for phase in self.session.phases)
        if is_chief(self.strategy):
            with progress("training", total, unit="epoch", done=len(self.state.history)) as advance:
                yield advance
        else:
            yield lambda parts, note: None

    def _start(self) -> None:
        """Restores the newest checkpoint, or saves the first one of a new model."""
        session = self.session
        checkpoint = session.checkpoints.newest()
        check_same_on_workers(self.strategy, "checkpoints", int(checkpoint.path.name) if checkpoint else 0)
        if checkpoint:
            session.restore(checkpoint)
        else:
            if self.initial:
                with self.strategy.scope():
                    self.initial(self.gan)
            session.compile()
            session.save()
        self.log.write_history(self.state.history)

    # A phase

    def _fit(self, stop: StopOnSignal, epoch_saved: Callable[[], None]) -> None:
        """Trains to the end of the phase, or to the end of the epoch if a part of it is already trained."""
        session, state = self.session, self.state
        phase, steps = session.phase, session.steps
        # A phase that was given fewer epochs than it has already trained ends after one more.
        last = state.epoch + 1 if state.step else max(phase.epochs, state.epoch + 1)
        self.gan.continues_epoch = bool(state.step)

        def end_epoch(epoch: int, logs: Any) -> None:
            if state.epoch < phase.epochs:
                epoch_saved()

        self.gan.fit(
            self._dataset((last - state.epoch) * steps - state.step),
            initial_epoch=state.epoch,
            epochs=last,
            steps_per_epoch=steps - state.step,
            verbose=0,
            callbacks=[
                StepMonitor(session),
                EpochMonitor(session, self.boards, self.log),
                Checkpointing(session, stop, self.save_seconds),
                keras.callbacks.LambdaCallback(on_epoch_end=end_epoch),
            ],
            **self._validation(),
        )
        if state.epoch >= phase.epochs:
            state.phase, state.epoch = state.phase + 1, 0
            if not session.ended:
                session.compile()  # The checkpoint then has the optimizers of the next phase.
            epoch_saved()

    def _dataset(self, steps: int) -> Any:
        """Returns the distributed dataset of the next outer steps of the phase."""
        session, phase = self.session, self.session.phase
        make = functools.partial(
            training_dataset,
            self.train_stories,
            phase,
            (self.settings.training.seed, session.state.phase),
            session.state.data_position(phase, session.steps),
            steps,
            replicas=self.strategy.num_replicas_in_sync,
        )
        return self.strategy.distribute_datasets_from_function(
            lambda context: make(replica_ids=local_replica_ids(context))
        )

    def _validation(self) -> dict[str, Any]:
        """Returns the arguments of `fit` for the held-out stories; none if there are no such stories."""
        stories, replicas = self.validation_stories, self.strategy.num_replicas_in_sync
        if not stories:
            return {}
        size = replicas * max(1, batch_shares(self.session.phase, replicas)["story"])
        make = functools.partial(validation_dataset, stories, size, replicas=replicas)
        data = self.strategy.distribute_datasets_from_function(
            lambda context: make(replica_ids=local_replica_ids(context))
        )
        return {"validation_data": data, "validation_steps": math.ceil(len(stories) / size)}

    def _epoch_saved(
        self, stop: StopOnSignal, advance: Callable[[int, str], None], on_epoch: Callable[[int], None] | None
    ) -> None:
        """Saves the end of an epoch.

        Raises:
            TrainingInterruptedError: if any worker received a signal.
        """
        history = self.state.history
        if self._best_epoch() == len(history) - 1:
            self.session.save_best()
        self.session.save()
        self.log.write_history(history)
        advance(1, describe(history))
        if on_epoch:
            on_epoch(len(history))
        if any_worker(self.strategy, [bool(stop.signal)])[0]:
            raise interrupted(self.session, stop)

    # The best epoch

    def _best_epoch(self) -> int | None:
        """Returns the index in the history of the best epoch of the last phase, if the settings ask for its weights."""
        name = self.settings.training.keep_best
        return best_epoch(self.state.history, self.session.phases[-1].name, name) if name else None

    def _keep_best(self) -> None:
        """Restores the weights of the best epoch at the end of a training, if the settings ask for them."""
        best, history = self._best_epoch(), self.state.history
        if best is None or best == len(history) - 1 or history[best].get("kept"):
            return  # The model has these weights already.
        checkpoint = self.session.checkpoints.best()
        if not checkpoint:
            logging.getLogger(__name__).warning(
                "training.keep_best: the checkpoint of the best epoch is missing; the weights of the last one are kept."
            )
            return
        with self.strategy.scope():
            self.session.checkpoints.restore(self.gan, checkpoint.path)
        history[best]["kept"] = True
        self.session.save()
        self.log.write_history(history)

    # Divergence

    def _roll_back(self, diverged: Divergence) -> None:
        """Restores the newest checkpoint of an epoch, with half the learning rates and later data.

        Raises:
            TrainingError: if no rollback is left, or there is no checkpoint.
        """
        session = self.session
        phase, state, steps = session.phase, session.state, session.steps
        rollbacks = state.current_rollbacks(session.phases)
        left = len(rollbacks) < self.settings.training.rollbacks
        checkpoint = session.checkpoints.newest_epoch() if left else None
        if not checkpoint:
            raise self._diverged(diverged, phase, len(rollbacks))
        before = TrainingState.from_json(checkpoint.state)
        skipped = state.steps_done(steps) - (before.phase == state.phase) * before.steps_done(steps)
        rates = learning_rates(session.phases[state.phase])
        rollback = Rollback(phase.name, state.epoch + 1, state.step, diverged.description, skipped, rates)
        session.restore(checkpoint, [*state.rollbacks, rollback])
        session.save()
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
