"""Fits a StoryGAN on stories, phase by phase: strategy, checkpoints, resume, logs.

Everything that a training leaves stands in its working folder: `checkpoints/`, `tensorboard/` and `history.json`. The
same call on the same folder goes on from the last whole checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from storygan_tf.checkpoints import CheckpointStore
from storygan_tf.config import PhaseConfig, Settings, TrainConfig
from storygan_tf.datasets.files import write_whole
from storygan_tf.errors import TrainingError
from storygan_tf.metrics.baselines import median_background
from storygan_tf.progress import progress
from storygan_tf.stories import Stories, training_dataset
from storygan_tf.storyboard import StoryRow, storyboard_image
from storygan_tf.storygan import StoryGAN, to_uint8

HISTORY = "history.json"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy called `auto`, `one-device` or `mirrored` in `TrainConfig.strategy`.

    `auto` mirrors over the GPUs where there are two or more, else uses one device. `mirrored` takes all GPUs, or
    without any all logical CPUs.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")


def steps_per_epoch(training: TrainConfig, phase: PhaseConfig, stories: int) -> int:
    """Returns the outer steps of an epoch: as configured, or one pass over `stories`."""
    return training.steps_per_epoch or max(1, math.ceil(stories / phase.story_batch))


class Trainer:
    """Trains one StoryGAN by its settings.

    Args:
        settings: `model` and `training` are used.
        train: stories to train on.
        boards: test stories that are drawn after each epoch.
        work_dir: working folder; made where it is not there.
    """

    def __init__(self, settings: Settings, train: Stories, boards: Stories, work_dir: Path) -> None:
        self.settings = settings
        self.train_stories = train
        self.boards = boards
        self.work_dir = work_dir
        self.store = CheckpointStore(work_dir / CHECKPOINTS)
        self.background = median_background([train.images])
        self.strategy = make_strategy(settings.training.strategy)
        with self.strategy.scope():
            keras.utils.set_random_seed(settings.training.seed)
            self.gan = StoryGAN(settings.model)

    def run(self, on_epoch: Callable[[int], None] | None = None) -> StoryGAN:
        """Trains to the end of the last phase, from the last checkpoint where there is one.

        Args:
            on_epoch: called with the number of epochs done after each one's checkpoint.

        Returns:
            The trained model.

        Raises:
            TrainingError: where a loss is no longer finite, or a checkpoint cannot be written or used.
        """
        phases = self.settings.training.phases
        total = sum(phase.epochs for phase in phases)
        history, first, done = self._restore()
        writer = tf.summary.create_file_writer(str(self.work_dir / TENSORBOARD))
        with writer.as_default(), progress("training", total, unit="epoch") as advance:
            advance(len(history), self._describe(history))
            for number in range(first, len(phases)):
                if number > first or not history:
                    self._compile(number)
                for epoch in range(done if number == first else 0, phases[number].epochs):
                    entry = self._epoch(number, epoch)
                    history.append(entry)
                    self._record(history, number, epoch + 1)
                    advance(1, self._describe(history))
                    if on_epoch:
                        on_epoch(len(history))
        return self.gan

    def _restore(self) -> tuple[list[dict[str, Any]], int, int]:
        """Returns the history so far, the phase to go on with and the epochs already done in it."""
        found = self.store.newest()
        if found is None:
            return [], 0, 0
        path, state = found
        self._compile(state["phase"])
        with self.strategy.scope():
            self.store.restore(self.gan, path)
        return state["history"], state["phase"], state["epochs"]

    def _compile(self, number: int) -> None:
        phase = self.settings.training.phases[number]
        with self.strategy.scope():
            self.gan.compile(phase, phase.epochs * self._steps(phase), self.background)

    def _steps(self, phase: PhaseConfig) -> int:
        return steps_per_epoch(self.settings.training, phase, len(self.train_stories.ids))

    def _epoch(self, number: int, epoch: int) -> dict[str, Any]:
        """Trains one epoch of a phase and returns its entry of the history."""
        phase = self.settings.training.phases[number]
        steps = self._steps(phase)
        began = time.perf_counter()
        data = self._dataset(number, epoch * steps, steps)
        fitted = self.gan.fit(data, epochs=1, steps_per_epoch=steps, verbose=0, shuffle=False)
        losses = {name: float(values[-1]) for name, values in fitted.history.items()}
        _check_finite(losses, phase.name, epoch)
        return {
            "phase": phase.name,
            "epoch": epoch + 1,
            "step": (epoch + 1) * steps,
            "seconds": round(time.perf_counter() - began, 3),
            "losses": losses,
        }

    def _dataset(self, number: int, start: int, steps: int) -> tf.data.Dataset:
        phase = self.settings.training.phases[number]
        replicas = self.strategy.num_replicas_in_sync
        data = training_dataset(
            self.train_stories, phase, (self.settings.training.seed, number), start, steps, replicas=replicas
        )
        return self.strategy.distribute_datasets_from_function(lambda _: data) if replicas > 1 else data

    def _record(self, history: list[dict[str, Any]], number: int, epochs: int) -> None:
        """Saves the checkpoint, then what people look at."""
        state = {"phase": number, "epochs": epochs, "history": history}
        self.store.save(self.gan, len(history), state)
        write_whole(self.work_dir / HISTORY, json.dumps(history, indent=1).encode())
        for name, value in history[-1]["losses"].items():
            tf.summary.scalar(f"{history[-1]['phase']}/{name}", value, step=len(history))
        tf.summary.image("storyboard", self._board()[np.newaxis], step=len(history))

    def _board(self) -> np.ndarray:
        """Returns the storyboard of the fixed test stories, uint8 [height, width, 3]."""
        drawn = draw_stories(self.gan, self.boards.vectors)
        rows = [
            StoryRow(story_id, tuple(sentences), {"generated": fake, "true": real})
            for story_id, sentences, fake, real in zip(
                self.boards.ids, self.boards.sentences, drawn, self.boards.images, strict=True
            )
        ]
        return np.asarray(storyboard_image(rows).convert("RGB"))

    @staticmethod
    def _describe(history: list[dict[str, Any]]) -> str:
        if not history:
            return ""
        losses = " ".join(f"{name} {value:.3g}" for name, value in history[-1]["losses"].items())
        return f"{history[-1]['phase']}: {losses}"


def draw_stories(gan: StoryGAN, vectors: np.ndarray) -> np.ndarray:
    """Draws stories in inference mode, the story's position as its seed.

    Args:
        gan: a model.
        vectors: float32 [batch, frames, sentence_size].

    Returns:
        uint8 [batch, frames, 64, 64, 3].
    """
    seeds = tf.range(len(vectors), dtype=tf.int64)
    return np.asarray(to_uint8(gan.generator(tf.constant(vectors), training=False, seed=seeds).images))


def _check_finite(losses: dict[str, float], phase: str, epoch: int) -> None:
    broken = {name: value for name, value in losses.items() if not math.isfinite(value)}
    if broken:
        raise TrainingError(
            f"training diverged in epoch {epoch + 1} of phase {phase!r}: {broken} (expected finite losses). Lower "
            f"training.phases.{phase}.generator_learning_rate or discriminator_learning_rate, and run again: it goes "
            "on from the epoch before."
        )


def read_history(work_dir: Path) -> list[dict[str, Any]]:
    """Returns the history of a working folder, an entry an epoch."""
    history: list[dict[str, Any]] = json.loads((work_dir / HISTORY).read_text())
    return history
