"""Checkpoints that are whole or not there: written aside, renamed, verified by hash when read."""

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


class Checkpoint(NamedTuple):
    """A whole checkpoint.

    Attributes:
        path: its folder, named by its number.
        state: what was saved beside the variables.
    """

    path: Path
    state: dict[str, Any]


class CheckpointStore:
    """A folder of numbered checkpoints, of which the newest are kept.

    Args:
        directory: made where it is not there.
        keep: how many.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self.directory = directory
        self.keep = keep
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
            (aside / _STATE).write_text(json.dumps({"state": state, "sha256": _hashes(aside, state)}, indent=1))
            shutil.rmtree(target, ignore_errors=True)
            aside.replace(target)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise TrainingError(
                f"checkpoint {target}: could not be written ({error}). Free some space or give another place; the "
                "same command goes on from the last whole checkpoint."
            ) from error
        self._forget_old()
        return target

    def newest(self) -> Checkpoint | None:
        """Returns the newest whole checkpoint, or None; broken ones are named in a warning."""
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
        """Restores everything that `trackable` tracks.

        Raises:
            TrainingError: where the checkpoint holds other variables.
        """
        try:
            tf.train.Checkpoint(trained=trackable).read(str(path / "weights")).assert_consumed()
        except (AssertionError, ValueError) as error:
            raise TrainingError(f"checkpoint {path}: is of another model or schedule ({error}).") from error

    def last_number(self) -> int:
        """Returns the greatest number of a checkpoint, damaged or not; 0 where there is none."""
        return max((int(path.name) for path in self._numbered()), default=0)

    def clear(self) -> None:
        """Removes all checkpoints."""
        for path in self._numbered():
            shutil.rmtree(path)

    def _forget_old(self) -> None:
        for old in self._numbered()[: -self.keep]:
            shutil.rmtree(old)
        for half in self.directory.glob("writing-*"):
            shutil.rmtree(half)

    def _numbered(self) -> list[Path]:
        return sorted(path for path in self.directory.iterdir() if path.name.isdigit())


class TrainingCheckpoints:
    """The checkpoints of a training: of the ends of epochs, and one from within the epoch that is going on.

    They are numbered together. A training goes on from the newest of all; one that diverged goes back to the end of an
    epoch, so that what becomes of it does not depend on when it was saved in between.

    Args:
        directory: made where it is not there; they are read from here.
        own: where this process writes; elsewhere in all processes but the chief's.
    """

    def __init__(self, directory: Path, own: Path | None = None) -> None:
        self._epochs, self._within = _stores(directory)
        self._own_epochs, self._own_within = _stores(own or directory)

    def save(self, trackable: tf.Module, state: dict[str, Any], *, within: bool = False) -> Path:
        """Saves everything that `trackable` tracks, and `state`.

        Args:
            trackable: the model.
            state: of the training.
            within: whether an epoch is going on.

        Raises:
            TrainingError: see `CheckpointStore.save`.
        """
        number = 1 + max(self._own_epochs.last_number(), self._own_within.last_number())
        if within:
            return self._own_within.save(trackable, number, state)
        path = self._own_epochs.save(trackable, number, state)
        self._own_within.clear()
        return path

    def newest(self) -> Checkpoint | None:
        """Returns the newest whole checkpoint, or None."""
        found = [checkpoint for checkpoint in (self._epochs.newest(), self._within.newest()) if checkpoint]
        return max(found, key=lambda checkpoint: int(checkpoint.path.name), default=None)

    def newest_epoch(self) -> Checkpoint | None:
        """Returns the newest whole checkpoint of an epoch's end, or None."""
        return self._epochs.newest()

    def restore(self, trackable: tf.Module, path: Path) -> None:
        """Restores everything that `trackable` tracks; see `CheckpointStore.restore`."""
        self._epochs.restore(trackable, path)


def _stores(directory: Path) -> tuple[CheckpointStore, CheckpointStore]:
    return CheckpointStore(directory), CheckpointStore(directory / _WITHIN, keep=1)


def _hashes(directory: Path, state: dict[str, Any]) -> dict[str, str]:
    """Returns the SHA-256 of each file that holds variables, and of the state."""
    files = sorted(path for path in directory.iterdir() if path.name != _STATE)
    contents = {path.name: path.read_bytes() for path in files}
    contents[_STATE] = json.dumps(state, sort_keys=True).encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
