"""Sources of the frames that are evaluated: an exported model, or image files that another system wrote."""

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
"""Number of samples drawn of each story. The first one is evaluated; diversity compares the first two."""


class FrameSource(Protocol):
    """A source of the frames of stories.

    Sources are pickled and sent to workers, so they hold paths and load models when they are first used.

    Attributes:
        description: description of the source for reports. It holds no path, so that the evaluation does not depend on
            where the model is stored.
        drawn_from: the inputs that the frames were drawn from.
        samples: number of different samples of a story that the source can return, 1 or more.
    """

    description: str
    drawn_from: str
    samples: int

    def frames(self, batch: StoryBatch, seed: int, sample: int = 0) -> np.ndarray:
        """Returns the frames of the stories in a batch.

        Args:
            batch: the stories, with their true frames.
            seed: seed of the evaluation, from which each story's seed is derived.
            sample: number of the sample, less than `samples`.

        Returns:
            uint8 `[stories, T, 64, 64, 3]`.

        Raises:
            ModelError: if the source cannot draw the stories.
        """


class ModelFrames:
    """A source that draws frames with an exported StoryGAN.

    Args:
        model: version directory of the export.
        description: description of the model for reports.
    """

    drawn_from = "text"
    samples = SAMPLES

    def __init__(self, model: str, description: str = "the model") -> None:
        self.model = model
        self.description = description
        self._saved: SavedStoryGAN | None = None

    def __getstate__(self) -> dict[str, object]:
        """Returns the state to pickle, without the loaded model."""
        return vars(self) | {"_saved": None}

    def frames(self, batch: StoryBatch, seed: int, sample: int = 0) -> np.ndarray:
        """Returns frames that the model draws, each story with a seed of its own (see `FrameSource.frames`)."""
        seeds = [story_seed(seed, name, sample) for name in batch.ids]
        where = f"{self.description}, drawing stories {batch.ids[0]} to {batch.ids[-1]}"
        try:
            if self._saved is None:
                self._saved = SavedStoryGAN(self.model)
            frames = self._saved.generate(batch.sentences, seeds)
        except (ModelError, tf.errors.OpError) as error:
            raise ModelError(f"{where}: {getattr(error, 'message', error)}") from error
        return check_frames(frames, batch.images.shape, where)


def served_frames(version: str | Path) -> ModelFrames:
    """Returns a source that draws frames with the served model.

    Args:
        version: version directory of the served model.
    """
    return ModelFrames(str(version), f"the served model, version {str(version).rpartition('/')[2]}")


class PictureFrames:
    """A source that reads frames which another system wrote as image files.

    Args:
        images: the image files.
    """

    samples = 1

    def __init__(self, images: ImageFrames) -> None:
        self._images = images
        self.description = f"pictures of another system (layout {images.layout})"
        self.drawn_from = images.drawn_from

    def frames(self, batch: StoryBatch, seed: int, sample: int = 0) -> np.ndarray:
        """Returns the frames in the image files (see `FrameSource.frames`); `seed` and `sample` have no effect.

        If the files hold T-1 frames per story, the true first frame is put before them.
        """
        frames = self._images.read(batch.ids)
        stories, T, *shape = batch.images.shape
        if frames.shape[1] == T - 1:
            # The other system received the first frame, which is not evaluated.
            frames = np.concatenate([batch.images[:, :1], frames], axis=1)
        return check_frames(frames, (stories, T, *shape), self.description)


def story_seed(seed: int, story_id: str, sample: int = 0) -> int:
    """Returns the seed of a story's noise, which does not depend on the other stories of its batch.

    Args:
        seed: seed of the evaluation.
        story_id: id of the story.
        sample: number of the sample.

    Returns:
        A whole number in [0, 2^62).
    """
    digest = hashlib.sha256(f"{seed}:{story_id}:{sample}".encode() if sample else f"{seed}:{story_id}".encode())
    return int.from_bytes(digest.digest()[:8], "big") >> 2


def check_frames(frames: np.ndarray, expected: tuple[int, ...], where: str) -> np.ndarray:
    """Returns the frames unchanged if they are valid.

    Args:
        frames: the frames, expected to be uint8.
        expected: the expected shape.
        where: name of the source in error messages.

    Raises:
        ModelError: if the frames have another shape or type, or values that are not finite.
    """
    if frames.shape != expected:
        raise ModelError(f"{where}: found frames of shape {frames.shape}, expected {expected}.")
    if np.issubdtype(frames.dtype, np.floating) and not np.isfinite(frames).all():
        raise ModelError(f"{where}: found values that are not numbers (NaN or infinite), expected frames of uint8.")
    if frames.dtype != np.uint8:
        raise ModelError(f"{where}: found frames of {frames.dtype}, expected uint8, 0 to 255.")
    return frames
