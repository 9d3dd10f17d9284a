"""Checkpoints that are whole or not there: written aside, renamed, verified by hash when read."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from storygan_tf.errors import TrainingError

_STATE = "state.json"
_KEEP = 2


class CheckpointStore:
    """A folder of numbered checkpoints, of which the newest two are kept.

    Args:
        directory: made where it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def save(self, trackable: tf.Module, number: int, state: dict[str, Any]) -> Path:
        """Saves everything that `trackable` tracks, and `state`, as checkpoint `number`.

        Raises:
            TrainingError: where the disk is full or not writable; older checkpoints stay as they were.
        """
        target, aside = self.directory / f"{number:09d}", self.directory / f"writing-{number:09d}"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            tf.train.Checkpoint(trained=trackable).write(str(aside / "weights"))
            (aside / _STATE).write_text(json.dumps({"state": state, "sha256": _hashes(aside)}, indent=1))
            shutil.rmtree(target, ignore_errors=True)
            aside.replace(target)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise TrainingError(
                f"checkpoint {target}: could not be written ({error}). Free some space or give another place; the "
                "same command goes on from the last whole checkpoint."
            ) from error
        for old in self._numbered()[:-_KEEP]:
            shutil.rmtree(old)
        return target

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Returns the newest whole checkpoint and its state, or None; broken ones are named in a warning."""
        for path in reversed(self._numbered()):
            try:
                saved = json.loads((path / _STATE).read_text())
                if saved["sha256"] == _hashes(path):
                    return path, saved["state"]
            except (OSError, ValueError, KeyError):
                pass
            logging.getLogger(__name__).warning("checkpoint %s is damaged; the one before it is used.", path)
        return None

    def restore(self, trackable: tf.Module, path: Path) -> None:
        """Restores everything that `trackable` tracks.

        Raises:
            TrainingError: where the checkpoint holds other variables.
        """
        try:
            tf.train.Checkpoint(trained=trackable).read(str(path / "weights")).assert_consumed()
        except (AssertionError, ValueError) as error:
            raise TrainingError(f"checkpoint {path}: is of another model or schedule ({error}).") from error

    def _numbered(self) -> list[Path]:
        return sorted(path for path in self.directory.iterdir() if path.name.isdigit())


def _hashes(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.iterdir() if path.name != _STATE)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
