"""Checkpoints that are either complete or absent: written under another name, renamed, and verified by hash."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from storygan_tf.common.errors import TrainingError

_STATE = "state.json"
_WITHIN = "within_epoch"
_BEST = "best"


class Checkpoint(NamedTuple):
    """A complete checkpoint.

    Attributes:
        path: its directory, whose name is the number of the checkpoint.
        state: the plain values that were saved with the variables.
    """

    path: Path
    state: dict[str, Any]


class CheckpointStore:
    """A directory of numbered checkpoints, of which only the newest are kept.

    Args:
        directory: the directory; created if it does not exist.
        keep: number of checkpoints to keep.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self.directory = directory
        self.keep = keep
        directory.mkdir(parents=True, exist_ok=True)

    def save(self, trackable: tf.Module, number: int, state: dict[str, Any]) -> Path:
        """Saves a checkpoint, replacing one of the same number, and removes old ones.

        Args:
            trackable: the object whose variables are saved.
            number: number of the checkpoint.
            state: plain values to save with the variables.

        Returns:
            The directory of the checkpoint.

        Raises:
            TrainingError: if the disk is full or not writable; older checkpoints are left unchanged.
        """
        target, partial = self.directory / f"{number:09d}", self.directory / f"writing-{number:09d}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            tf.train.Checkpoint(trained=trackable).write(str(partial / "weights"))
            (partial / _STATE).write_text(json.dumps({"state": state, "sha256": _hashes(partial, state)}, indent=1))
            shutil.rmtree(target, ignore_errors=True)
            partial.replace(target)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise TrainingError(
                f"checkpoint {target}: could not be written ({error}). Free some space or choose another directory; "
                "the same command goes on from the last complete checkpoint."
            ) from error
        self._remove_old()
        return target

    def newest(self) -> Checkpoint | None:
        """Returns the newest checkpoint that is complete, or None. Logs a warning for each damaged one."""
        for path in reversed(self._numbered()):
            try:
                saved = json.loads((path / _STATE).read_text())
                if saved["sha256"] == _hashes(path, saved["state"]):
                    return Checkpoint(path, saved["state"])
            except (OSError, ValueError, KeyError, TypeError):
                pass
            logging.getLogger(__name__).warning("checkpoint %s is damaged; the one before it is used.", path)
        return None

    def restore(self, trackable: tf.Module, path: Path) -> None:
        """Restores all variables of `trackable` from a checkpoint.

        Args:
            trackable: an object of the same structure as the saved one.
            path: directory of the checkpoint.

        Raises:
            TrainingError: if the checkpoint holds other variables.
        """
        try:
            tf.train.Checkpoint(trained=trackable).read(str(path / "weights")).assert_consumed()
        except (AssertionError, ValueError) as error:
            raise TrainingError(f"checkpoint {path}: is of another model or schedule ({error}).") from error

    def last_number(self) -> int:
        """Returns the greatest number of all checkpoints, including damaged ones; 0 without checkpoints."""
        return max((int(path.name) for path in self._numbered()), default=0)

    def clear(self) -> None:
        """Removes all checkpoints."""
        for path in self._numbered():
            shutil.rmtree(path)

    def _remove_old(self) -> None:
        for old in self._numbered()[: -self.keep]:
            shutil.rmtree(old)
        for partial in self.directory.glob("writing-*"):
            shutil.rmtree(partial)

    def _numbered(self) -> list[Path]:
        return sorted(path for path in self.directory.iterdir() if path.name.isdigit())


class TrainingCheckpoints:
    """The checkpoints of a training: those at the end of epochs, one from within an epoch, and that of the best epoch.

    The first two kinds are numbered in one sequence. A training resumes at the newest of them. One that diverged
    returns to the end of an epoch, so that the result does not depend on when it was saved within an epoch.

    Args:
        directory: directory that checkpoints are read from; created if it does not exist.
        own: directory that this process writes to, `directory` by default; another one in all workers but the chief.
    """

    def __init__(self, directory: Path, own: Path | None = None) -> None:
        self._epochs, self._within, self._best = _stores(directory)
        self._own_epochs, self._own_within, self._own_best = _stores(own or directory)

    def save(self, trackable: tf.Module, state: dict[str, Any], *, within: bool = False) -> Path:
        """Saves a checkpoint under the next number. One at the end of an epoch removes those within the epoch.

        Args:
            trackable: the model.
            state: the state of the training, as plain values.
            within: whether the current epoch is not completed.

        Returns:
            The directory of the checkpoint.

        Raises:
            TrainingError: if the disk is full or not writable.
        """
        number = 1 + max(self._own_epochs.last_number(), self._own_within.last_number())
        if within:
            return self._own_within.save(trackable, number, state)
        path = self._own_epochs.save(trackable, number, state)
        self._own_within.clear()
        return path

    def save_best(self, trackable: tf.Module, epoch: int, state: dict[str, Any]) -> None:
        """Saves the checkpoint of the best epoch so far, replacing the last one.

        Args:
            trackable: the model.
            epoch: number of completed epochs of all phases.
            state: the state of the training, as plain values.

        Raises:
            TrainingError: if the disk is full or not writable.
        """
        self._own_best.save(trackable, epoch, state)

    def best(self) -> Checkpoint | None:
        """Returns the checkpoint of the best epoch, or None if there is none or it is damaged."""
        return self._best.newest()

    def newest(self) -> Checkpoint | None:
        """Returns the newest complete checkpoint, or None."""
        checkpoints = [checkpoint for checkpoint in (self._epochs.newest(), self._within.newest()) if checkpoint]
        return max(checkpoints, key=lambda checkpoint: int(checkpoint.path.name), default=None)

    def newest_epoch(self) -> Checkpoint | None:
        """Returns the newest complete checkpoint at the end of an epoch, or None."""
        return self._epochs.newest()

    def restore(self, trackable: tf.Module, path: Path) -> None:
        """Restores all variables of `trackable` from a checkpoint; see `CheckpointStore.restore`."""
        self._epochs.restore(trackable, path)


def _stores(directory: Path) -> tuple[CheckpointStore, CheckpointStore, CheckpointStore]:
    within, best = (CheckpointStore(directory / name, keep=1) for name in (_WITHIN, _BEST))
    return CheckpointStore(directory), within, best


def _hashes(directory: Path, state: dict[str, Any]) -> dict[str, str]:
    """Returns file name -> SHA-256 for all files of a checkpoint; for the state file, the hash of `state`."""
    files = sorted(path for path in directory.iterdir() if path.name != _STATE)
    contents = {path.name: path.read_bytes() for path in files}
    contents[_STATE] = json.dumps(state, sort_keys=True).encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
