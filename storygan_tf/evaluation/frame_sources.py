"""Where judged frames come from: an exported model, or pictures that another system left."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

from storygan_tf.common.errors import ModelError
from storygan_tf.data.example_reader import StoryBatch
from storygan_tf.evaluation.external_frames import ImageFrames
from storygan_tf.export.loaded_model import SavedStoryGAN

SAMPLES = 2
"""Samples of a story for its diversity; the first one is judged."""


class FrameSource(Protocol):
    """Gives the frames of stories; small enough to travel to a worker, where it loads what it needs.

    Attributes:
        what: the frames are, in words; no path, for it stands in the evaluation.
        given: what its frames were drawn from.
        samples: how many different samples of a story it can give, 1 or more.
    """

    what: str
    given: str
    samples: int

    def frames(self, batch: StoryBatch, seed: int, sample: int = 0) -> np.ndarray:
        """Returns the frames of the batch's stories: uint8 `[stories, T, 64, 64, 3]`.

        Raises:
            ModelError: where there are none.
        """


class ModelFrames:
    """Frames drawn by an exported StoryGAN.

    Args:
        model: its version directory.
        what: it is, in words.
    """

    given = "text"
    samples = SAMPLES

    def __init__(self, model: str, what: str = "the model") -> None:
        self.model = model
        self.what = what
        self._saved: SavedStoryGAN | None = None

    def __getstate__(self) -> dict[str, object]:
        return vars(self) | {"_saved": None}

    def frames(self, batch: StoryBatch, seed: int, sample: int = 0) -> np.ndarray:
        """Draws the stories, each with a seed of its own (see `FrameSource`)."""
        seeds = [story_seed(seed, name, sample) for name in batch.ids]
        where = f"{self.what}, asked for stories {batch.ids[0]} to {batch.ids[-1]}"
        try:
            if self._saved is None:
                self._saved = SavedStoryGAN(self.model)
            frames = self._saved.generate(batch.sentences, seeds)
        except (ModelError, tf.errors.OpError) as error:
            raise ModelError(f"{where}: {getattr(error, 'message', error)}") from error
        return check_frames(frames, batch.images.shape, where)


def served_frames(version: str | Path) -> ModelFrames:
    """Returns the frames of the served model: a version directory."""
    return ModelFrames(str(version), f"the served model, version {str(version).rpartition('/')[2]}")


class PictureFrames:
    """Frames that another system left as pictures.

    Args:
        images: its pictures.
    """

    samples = 1

    def __init__(self, images: ImageFrames) -> None:
        self._images = images
        self.what = f"pictures of another system (layout {images.layout})"
        self.given = images.given

    def frames(self, batch: StoryBatch, seed: int, sample: int = 0) -> np.ndarray:
        """Reads the stories' frames (see `FrameSource`); seed and sample change nothing."""
        frames = self._images.read(batch.ids)
        stories, T, *shape = batch.images.shape
        if frames.shape[1] == T - 1:
            # The first frame was given to that system, and is left out everywhere.
            frames = np.concatenate([batch.images[:, :1], frames], axis=1)
        return check_frames(frames, (stories, T, *shape), self.what)


def story_seed(seed: int, story_id: str, sample: int = 0) -> int:
    """Returns the seed of a story's noise, 0..2^62: its own, whatever other stories there are."""
    digest = hashlib.sha256(f"{seed}:{story_id}:{sample}".encode() if sample else f"{seed}:{story_id}".encode())
    return int.from_bytes(digest.digest()[:8], "big") >> 2


def check_frames(frames: np.ndarray, expected: tuple[int, ...], where: str) -> np.ndarray:
    """Returns the frames, if they are some.

    Raises:
        ModelError: for another shape or type, or values that are not numbers.
    """
    if frames.shape != expected:
        raise ModelError(f"{where}: found frames of shape {frames.shape}, expected {expected}.")
    if np.issubdtype(frames.dtype, np.floating) and not np.isfinite(frames).all():
        raise ModelError(f"{where}: found values that are not numbers (NaN or infinite), expected frames of uint8.")
    if frames.dtype != np.uint8:
        raise ModelError(f"{where}: found frames of {frames.dtype}, expected uint8, 0 to 255.")
    return frames
