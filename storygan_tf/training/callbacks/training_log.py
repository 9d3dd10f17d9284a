"""Writes the progress of a training: the history file, and losses and storyboards for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.data.stories import Stories
from storygan_tf.data.storyboard import StoryRow, storyboard_image
from storygan_tf.training.storygan import StoryGAN, to_uint8
from storygan_tf.training.training_state import HISTORY
from storygan_tf.training.validation import FIGURES

TENSORBOARD = "tensorboard"
"""Name of TensorBoard's directory in a working directory."""


class TrainingLog:
    """Writes the history file and TensorBoard's event files to a working directory.

    Args:
        directory: the working directory.
        boards: the real stories that storyboards compare with.
    """

    def __init__(self, directory: Path, boards: Stories) -> None:
        self.directory = directory
        self.boards = boards
        self._writer = tf.summary.create_file_writer(str(directory / TENSORBOARD))

    def write_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes the history file, replacing it as a whole.

        Args:
            history: all entries, see `training_state.read_history`.

        Raises:
            DataError: if the disk is full or not writable.
        """
        write_atomically(self.directory / HISTORY, json.dumps(history, indent=1).encode())

    def write_epoch(self, number: int, entry: Mapping[str, Any], drawn: np.ndarray) -> None:
        """Writes the losses, the speed and a storyboard of an epoch for TensorBoard.

        Args:
            number: number of completed epochs of all phases.
            entry: the history entry of the epoch.
            drawn: uint8 [boards, frames, 64, 64, 3], generated frames of the boards' stories; may be empty.
        """
        with self._writer.as_default(step=number):
            for name, value in entry["losses"].items():
                tf.summary.scalar(f"{entry['phase']}/{name}", value)
            for name, value in entry.get("validation", {}).items():
                tf.summary.scalar(f"{entry['phase']}/validation_{name}", value)
            for name in ("stories_per_second", "variety"):
                if entry.get(name) is not None:
                    tf.summary.scalar(name, entry[name])
            if len(drawn):
                tf.summary.image("storyboard", storyboard(self.boards, drawn)[np.newaxis])
        # If the process was killed, events still in memory would be lost: the epoch is not trained again.
        self._writer.flush()


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


def storyboard(boards: Stories, drawn: np.ndarray) -> np.ndarray:
    """Returns a picture of generated stories above the real ones.

    Args:
        boards: the real stories.
        drawn: uint8 [boards, frames, 64, 64, 3], generated frames of the same stories.

    Returns:
        uint8 [height, width, 3].
    """
    rows = [
        StoryRow(story_id, tuple(sentences), {"generated": fake, "true": real})
        for story_id, sentences, fake, real in zip(boards.ids, boards.sentences, drawn, boards.images, strict=True)
    ]
    return np.asarray(storyboard_image(rows).convert("RGB"))


def describe(history: Sequence[Mapping[str, Any]]) -> str:
    """Returns the newest epoch in one line, with its phase, losses and number of rollbacks; empty without epochs."""
    if not history:
        return ""
    entry = history[-1]
    losses = " ".join(f"{name} {value:.3g}" for name, value in entry["losses"].items())
    validation = entry.get("validation", {})
    figures = "".join(f" validation {name} {validation[name]:.3g}" for name in FIGURES if name in validation)
    count = len(entry.get("rollbacks", ()))
    rollbacks = f" (diverged and rolled back {count} time{'s' * (count > 1)})" if count else ""
    return f"{entry['phase']}: {losses}{figures}{rollbacks}"
