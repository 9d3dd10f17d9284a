"""A judge: loaded from a folder, saved to one, and asked what frames show.

    saved_model.pb, variables/   the networks, plain TensorFlow: `labels(frames)` and, where places were known,
                                 `objects(frames, places)` of `storygan_tf.evaluation.judge.network`
    judge.json                   names of labels and attributes, held-out figures, SHA-256

A folder may hold `absent.json` instead, which says why there is no judge.
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
"""The frozen judge of `blocks`, trained on stories of a seed that no preset uses."""

JUDGE_FILE = "judge.json"
ABSENT_FILE = "absent.json"

_BATCH = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """Tells labels, features and placed objects of frames; never a part of a training loss.

    Attributes:
        what: what it is, in words for a report.
        label_names: of the labels; empty without labels.
        attributes: of placed objects, in the order in which they are told: attribute -> its values; empty where places
            were unknown.
        held_out: its figures on real stories that it was not trained on (`label_f1`, `frame_accuracy`,
            `placed_accuracy`; each only where it applies), and `training_frames`.
        networks: a trackable with `labels` (`LabelNetwork`) and, where there are attributes, `objects`
            (`ObjectNetwork`), just trained or loaded.
    """

    what: str
    label_names: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    held_out: Mapping[str, float]
    networks: Any

    def look(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Looks at frames.

        Args:
            frames: uint8 `[n, 64, 64, 3]`.

        Returns:
            Which labels each frame shows, bool `[n, L]`, and features for Frechet distances, float32 `[n, D]`, whose
            variances over real training frames add up to 100.

        Raises:
            ValueError: for an array of another type or shape.
        """
        _check_frames(frames)
        # TensorFlow's convolutions refuse an empty batch, so of nothing a blank frame is looked at and not told.
        shown = frames if len(frames) else np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        parts = [self.networks.labels(shown[start : start + _BATCH]) for start in range(0, len(shown), _BATCH)]
        logits, features = (np.concatenate(answers)[: len(frames)] for answers in zip(*parts, strict=True))
        return logits[:, : len(self.label_names)] > 0, features

    def objects(self, frames: np.ndarray, places: np.ndarray, frame_of: np.ndarray) -> dict[str, np.ndarray]:
        """Tells what stands at places.

        Args:
            frames: uint8 `[n, 64, 64, 3]`.
            places: float32 `[m, 2]`, x and y in pixels of the frame; the centre of the first pixel is at 0.5.
            frame_of: int `[m]`, the frame of each place.

        Returns:
            For each attribute int64 `[m]`, indices into its values in `attributes`.

        Raises:
            ValueError: for arrays of other types or shapes.
        """
        _check_frames(frames)
        if places.shape != (len(frame_of), 2):
            raise ValueError(f"places: found {list(places.shape)}, expected [{len(frame_of)}, 2], as many as frame_of.")
        if not self.attributes or not len(places):
            return {name: np.zeros(0, np.int64) for name in self.attributes}
        parts = []
        for start in range(0, len(places), _BATCH):
            chosen = slice(start, start + _BATCH)
            parts.append(self.networks.objects(frames[frame_of[chosen]], places[chosen].astype(np.float32)))
        ends = np.cumsum([len(values) for values in self.attributes.values()])
        logits = np.split(np.concatenate(parts), ends[:-1], axis=1)
        return {name: part.argmax(axis=1) for name, part in zip(self.attributes, logits, strict=True)}

    @functools.cached_property
    def sha256(self) -> str:
        """Of all weights, names and held-out figures: the judge's name in a report, on any machine the same."""
        digest = hashlib.sha256(json.dumps(self._description()).encode())
        for weight in self._weights():
            value = weight.numpy()
            digest.update(f"{value.dtype.str} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()

    def _description(self) -> dict[str, Any]:
        return {
            "label_names": list(self.label_names),
            "attributes": [[name, list(values)] for name, values in self.attributes.items()],
            "held_out": dict(sorted(self.held_out.items())),
        }

    def _weights(self) -> list[tf.Variable]:
        networks = [self.networks.labels, *([self.networks.objects] if self.attributes else [])]
        return [weight for network in networks for weight in network.weights]

    def to_json(self) -> str:
        """Returns what `judge.json` says."""
        return json.dumps({"what": self.what, **self._description(), "sha256": self.sha256}, indent=1) + "\n"


def _check_frames(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise ValueError(
            f"frames: found {frames.dtype} {list(frames.shape)}, expected uint8 [n, {IMAGE_SIZE}, {IMAGE_SIZE}, 3]."
        )


def save_judge(judge: Judge, path: str | Path) -> None:
    """Writes a judge into a folder, aside first, so that it is whole or not there.

    Args:
        judge: the judge.
        path: the folder; replaced where it exists.

    Raises:
        ModelError: where it cannot be written.
    """
    with _replaced(Path(path)) as aside:
        tf.saved_model.save(judge.networks, str(aside))
        (aside / "assets").rmdir()  # of the networks there are none
        (aside / JUDGE_FILE).write_text(judge.to_json(), encoding="utf-8")


def save_missing_reason(reason: str, path: str | Path) -> None:
    """Writes a folder that says why there is no judge; arguments and errors as of `save_judge`."""
    with _replaced(Path(path)) as aside:
        aside.mkdir()
        (aside / ABSENT_FILE).write_text(json.dumps({"reason": reason}) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """Gives a path beside `target` for a folder that then takes its place."""
    try:
        with atomic_folder(target) as aside:
            yield aside
    except (OSError, tf.errors.OpError) as error:
        raise ModelError(
            f"judge {target}: could not be written ({error}). Free some space or choose another place."
        ) from error


def load_judge(path: str | Path) -> Judge:
    """Loads a judge that `save_judge` wrote.

    Raises:
        ModelError: for anything else, and where weights and names are not those that were saved.
    """
    folder = Path(path)
    try:
        values = json.loads((folder / JUDGE_FILE).read_text(encoding="utf-8"))
        judge = Judge(
            what=values["what"],
            label_names=tuple(values["label_names"]),
            attributes={name: tuple(names) for name, names in values["attributes"]},
            held_out=values["held_out"],
            networks=tf.saved_model.load(str(folder)),
        )
        found, expected = judge.sha256, values["sha256"]
    # TensorFlow raises nearly anything for a damaged SavedModel.
    except Exception as error:
        raise ModelError(
            f"judge {folder}: is no usable judge ({type(error).__name__}: {error}); expected a folder with "
            f"{JUDGE_FILE} and a SavedModel, as the training of a judge leaves it."
        ) from error
    if found != expected:
        raise ModelError(
            f"judge {folder}: its weights and names have the SHA-256 {found}, {JUDGE_FILE} says {expected}: it was "
            "changed after it was saved; copy it again or train it again."
        )
    return judge


def read_judge(path: str | Path) -> tuple[Judge | None, str]:
    """Reads a folder that `save_judge` or `save_missing_reason` wrote.

    Returns:
        The judge and an empty text, or None and the reason why there is none.

    Raises:
        ModelError: for anything else.
    """
    absent = Path(path) / ABSENT_FILE
    if not absent.is_file():
        return load_judge(path), ""
    try:
        return None, str(json.loads(absent.read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{absent}: cannot be read ({error}); expected a JSON object with a reason.") from error
