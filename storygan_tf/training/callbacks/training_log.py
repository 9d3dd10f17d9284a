"""What a training leaves for people to look at: the history, and TensorBoard's curves and storyboards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.data.storyboard import StoryRow, storyboard_image
from storygan_tf.data.training_input import Stories
from storygan_tf.training.training_state import HISTORY

TENSORBOARD = "tensorboard"
"""Name of TensorBoard's folder in a working folder."""


class TrainingLog:
    """Writes into a working folder.

    Args:
        directory: the working folder.
        boards: the stories that are drawn after each epoch.
    """

    def __init__(self, directory: Path, boards: Stories) -> None:
        self.directory = directory
        self.boards = boards
        self._writer = tf.summary.create_file_writer(str(directory / TENSORBOARD))

    def write_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes the history file.

        Raises:
            DataError: where the disk is full or not writable.
        """
        write_atomically(self.directory / HISTORY, json.dumps(history, indent=1).encode())

    def write_epoch(self, number: int, entry: Mapping[str, Any], drawn: np.ndarray) -> None:
        """Shows an epoch in TensorBoard.

        Args:
            number: epochs done in all phases.
            entry: of the history.
            drawn: uint8 [boards, T, 64, 64, 3].
        """
        with self._writer.as_default(step=number):
            for name, value in entry["losses"].items():
                tf.summary.scalar(f"{entry['phase']}/{name}", value)
            for name in ("stories_per_second", "data_wait", "variety"):
                if entry.get(name) is not None:
                    tf.summary.scalar(name, entry[name])
            if len(drawn):
                tf.summary.image("storyboard", storyboard(self.boards, drawn)[np.newaxis])
        # A kill would lose what is still in memory, and the epoch is not trained again.
        self._writer.flush()


def storyboard(boards: Stories, drawn: np.ndarray) -> np.ndarray:
    """Returns drawn stories above the true ones, uint8 [height, width, 3]."""
    rows = [
        StoryRow(story_id, tuple(sentences), {"generated": fake, "true": real})
        for story_id, sentences, fake, real in zip(boards.ids, boards.sentences, drawn, boards.images, strict=True)
    ]
    return np.asarray(storyboard_image(rows).convert("RGB"))


def describe(history: Sequence[Mapping[str, Any]]) -> str:
    """Returns a line of the newest epoch: its phase, losses and rollbacks."""
    if not history:
        return ""
    entry = history[-1]
    losses = " ".join(f"{name} {value:.3g}" for name, value in entry["losses"].items())
    times = len(entry.get("rollbacks", ()))
    back = f" (diverged and went back {times} time{'s' * (times > 1)})" if times else ""
    return f"{entry['phase']}: {losses}{back}"
