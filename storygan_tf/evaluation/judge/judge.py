"""The domain judge, with functions to load it from a folder and to save it.

The folder of a judge holds:

    saved_model.pb, variables/   the networks in plain TensorFlow: `labels(frames)` and, if the places of objects were
                                 known, `objects(frames, places)` (`storygan_tf.evaluation.judge.network`)
    judge.json                   names of labels and attributes, held-out metrics, SHA-256

If there is no judge, the folder holds only `absent.json` with the reason.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from storygan_tf.common.atomic_files import atomic_folder
from storygan_tf.common.errors import ModelError
from storygan_tf.config.schema import IMAGE_SIZE

BLOCKS = Path(__file__).parent / "blocks"
"""Folder of the frozen judge of `blocks`, trained on stories of a seed that no preset uses."""

JUDGE_FILE = "judge.json"
"""File with a judge's names, held-out metrics and SHA-256."""

ABSENT_FILE = "absent.json"
"""File with the reason why there is no judge."""

_BATCH = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """A classifier of labels and placed objects in frames, which also computes features for Frechet distances.

    It is used only for evaluation, never in a training loss. Use `load_judge` or `train_judge` to create one.

    Attributes:
        description: description of the judge for reports; in `judge.json` its key is `what`.
        label_names: names of the labels; empty if there are none.
        attributes: values of each attribute of placed objects, by attribute; empty if places were unknown.
        held_out: metrics on true stories that the judge was not trained on: `label_f1`, `frame_accuracy` and
            `placed_accuracy`, each if it applies, and the number of `training_frames`.
        networks: trackable object with `labels` (a `LabelNetwork`) and, if there are attributes, `objects` (an
            `ObjectNetwork`).
    """

    description: str
    label_names: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    held_out: Mapping[str, float]
    networks: Any

    def judge_frames(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns detected labels and features of frames.

        Args:
            frames: uint8 `[n, 64, 64, 3]`; n may be 0.

        Returns:
            Which labels are detected in each frame, bool `[n, L]`, and features for Frechet distances, float32
            `[n, D]`, whose variances over the true training frames sum to 100.

        Raises:
            ValueError: if the array has another type or shape.
        """
        _check_frames(frames)
        # TensorFlow's convolutions do not accept an empty batch, so it is replaced by a blank frame, which is cut off.
        filled = frames if len(frames) else np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        parts = [self.networks.labels(filled[start : start + _BATCH]) for start in range(0, len(filled), _BATCH)]
        logits, features = (np.concatenate(outputs)[: len(frames)] for outputs in zip(*parts, strict=True))
        return logits[:, : len(self.label_names)] > 0, features

    def classify_objects(self, frames: np.ndarray, places: np.ndarray, frame_of: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the attributes of the objects at given places.

        Args:
            frames: uint8 `[n, 64, 64, 3]`.
            places: float32 `[m, 2]`, x and y in pixels of the frame; the centre of the first pixel is at 0.5.
            frame_of: int `[m]`, the index of each place's frame.

        Returns:
            For each attribute the indices of the detected values in `attributes`, int64 `[m]`.

        Raises:
            ValueError: if an array has another type or shape.
        """
        _check_frames(frames)
        if places.shape != (len(frame_of), 2):
            raise ValueError(f"places: found {list(places.shape)}, expected [{len(frame_of)}, 2], as frame_of has.")
        if not self.attributes or not len(places):
            return {name: np.zeros(0, np.int64) for name in self.attributes}
        parts = []
        for start in range(0, len(places), _BATCH):
            batch = slice(start, start + _BATCH)
            parts.append(self.networks.objects(frames[frame_of[batch]], places[batch].astype(np.float32)))
        ends = np.cumsum([len(values) for values in self.attributes.values()])
        logits = np.split(np.concatenate(parts), ends[:-1], axis=1)
        return {name: part.argmax(axis=1) for name, part in zip(self.attributes, logits, strict=True)}

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of all weights, names and held-out metrics, which identifies the judge in a report."""
        digest = hashlib.sha256(json.dumps(self._hashed_values()).encode())
        for weight in self._weights():
            value = weight.numpy()
            digest.update(f"{value.dtype.str} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()

    def _hashed_values(self) -> dict[str, Any]:
        return {
            "label_names": list(self.label_names),
            "attributes": [[name, list(values)] for name, values in self.attributes.items()],
            "held_out": dict(sorted(self.held_out.items())),
        }

    def _weights(self) -> list[tf.Variable]:
        networks = [self.networks.labels, *([self.networks.objects] if self.attributes else [])]
        return [weight for network in networks for weight in network.weights]

    def to_json(self) -> str:
        """Returns the content of `judge.json`."""
        return json.dumps({"what": self.description, **self._hashed_values(), "sha256": self.sha256}, indent=1) + "\n"


def _check_frames(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise ValueError(
            f"frames: found {frames.dtype} {list(frames.shape)}, expected uint8 [n, {IMAGE_SIZE}, {IMAGE_SIZE}, 3]."
        )


def save_judge(judge: Judge, path: str | Path) -> None:
    """Writes a judge to a folder, which is never incomplete.

    Args:
        judge: the judge.
        path: the folder to write; it is replaced if it exists.

    Raises:
        ModelError: if the folder cannot be written.
    """
    with _replaced_folder(Path(path)) as partial:
        tf.saved_model.save(judge.networks, str(partial))
        (partial / "assets").rmdir()  # The networks have no assets, and an empty folder cannot be in a package.
        (partial / JUDGE_FILE).write_text(judge.to_json(), encoding="utf-8")


def save_missing_reason(reason: str, path: str | Path) -> None:
    """Writes the reason why there is no judge to a folder, which `read_judge` reads.

    Args:
        reason: the reason.
        path: the folder to write; it is replaced if it exists.

    Raises:
        ModelError: if the folder cannot be written.
    """
    with _replaced_folder(Path(path)) as partial:
        partial.mkdir()
        (partial / ABSENT_FILE).write_text(json.dumps({"reason": reason}) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _replaced_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary path for a folder that then replaces `target`; raises ModelError if that fails."""
    try:
        with atomic_folder(target) as partial:
            yield partial
    except (OSError, tf.errors.OpError) as error:
        raise ModelError(
            f"judge {target}: could not be written ({error}). Free some space or choose another place."
        ) from error


def load_judge(path: str | Path) -> Judge:
    """Loads a judge that `save_judge` wrote.

    Args:
        path: the folder of the judge.

    Raises:
        ModelError: if there is no judge, it cannot be loaded, or its weights or names do not match its SHA-256.
    """
    folder = Path(path)
    try:
        values = json.loads((folder / JUDGE_FILE).read_text(encoding="utf-8"))
        judge = Judge(
            description=values["what"],
            label_names=tuple(values["label_names"]),
            attributes={name: tuple(names) for name, names in values["attributes"]},
            held_out=values["held_out"],
            networks=tf.saved_model.load(str(folder)),
        )
        found, expected = judge.sha256, values["sha256"]
    # TensorFlow raises many types of errors for a damaged SavedModel.
    except Exception as error:
        raise ModelError(
            f"judge {folder}: is no usable judge ({type(error).__name__}: {error}); expected a folder with "
            f"{JUDGE_FILE} and a SavedModel, as the training of a judge writes it."
        ) from error
    if found != expected:
        raise ModelError(
            f"judge {folder}: its weights and names have the SHA-256 {found}, {JUDGE_FILE} says {expected}: it was "
            "changed after it was saved; copy it again or train it again."
        )
    return judge


def read_judge(path: str | Path) -> tuple[Judge | None, str]:
    """Reads a folder that `save_judge` or `save_missing_reason` wrote.

    Args:
        path: the folder.

    Returns:
        The judge and an empty text, or None and the reason why there is no judge.

    Raises:
        ModelError: if the folder holds neither.
    """
    absent = Path(path) / ABSENT_FILE
    if not absent.is_file():
        return load_judge(path), ""
    try:
        return None, str(json.loads(absent.read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{absent}: cannot be read ({error}); expected a JSON object with a reason.") from error
