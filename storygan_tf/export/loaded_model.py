"""Loading an exported model and drawing stories with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from storygan_tf.common.errors import ModelError
from storygan_tf.common.model_paths import find_model
from storygan_tf.text.tokenization import words

_REQUIRED_SIGNATURES = {"serving_default", "generate", "info"}


class SavedStoryGAN:
    """An exported StoryGAN, loaded to draw stories in this process.

    Args:
        model: a pretrained name or a path, as `storygan_tf.common.model_paths.find_model` takes it.

    Attributes:
        path: the version directory.
        info: JSON values that the signature `info` returns.
        frames: number of sentences and frames per story.

    Raises:
        ModelError: if the model cannot be loaded or is not a StoryGAN.
    """

    def __init__(self, model: str | Path) -> None:
        self.path = find_model(model)
        try:
            self._loaded = tf.saved_model.load(str(self.path))
            missing = _REQUIRED_SIGNATURES - set(self._loaded.signatures)
            if missing:
                raise ValueError(f"it lacks the signatures {', '.join(sorted(missing))}")
            info = self._loaded.signatures["info"](query=tf.constant([""]))["info"]
            self.info: dict[str, Any] = json.loads(info.numpy()[0])
            self.frames = int(self.info["frames"])
        # TensorFlow raises many types of errors for a damaged SavedModel.
        except Exception as error:
            raise ModelError(
                f"model {self.path}: is no usable StoryGAN export ({type(error).__name__}: {error}). Export it again."
            ) from error

    def generate(self, stories: Sequence[Sequence[str]], seeds: Sequence[int] | None = None) -> np.ndarray:
        """Returns the frames of stories.

        Args:
            stories: stories of T sentences each.
            seeds: one seed per story; 0 for every story by default.

        Returns:
            uint8 `[stories, T, 64, 64, 3]`.

        Raises:
            ModelError: if a story has another number of sentences, or the model returns an error for it.
        """
        for story in stories:
            if len(story) != self.frames:
                raise ModelError(
                    f"story {' / '.join(story)[:80]!r}: found {len(story)} sentences, expected {self.frames}: "
                    f"this model draws stories of {self.frames} sentences."
                )
        pictures, errors = self.pictures(stories, seeds)
        for row, error in enumerate(errors):
            if error:
                raise ModelError(f"story {row + 1}: {error}")
        decoded = [tf.io.decode_png(image).numpy() for story in pictures for image in story]
        shapes = {frame.shape for frame in decoded}
        if len(decoded) != len(stories) * self.frames or len(shapes) != 1:
            raise ModelError(
                f"model {self.path}: found {len(decoded)} pictures of shapes {sorted(shapes)} for {len(stories)} "
                f"stories, expected {self.frames} per story, all of one shape."
            )
        return np.stack(decoded).reshape(len(stories), self.frames, *decoded[0].shape)

    def pictures(
        self, stories: Sequence[Sequence[str]], seeds: Sequence[int] | None = None
    ) -> tuple[list[list[bytes]], list[str]]:
        """Returns the pictures of stories, or an error message for stories that cannot be drawn.

        Args:
            stories: stories of T sentences each.
            seeds: one seed per story; 0 for every story by default.

        Returns:
            T PNG files per story, and one error message per story, which is empty if the story was drawn.
        """
        outputs = self._call(tf.constant([list(story) for story in stories], tf.string), seeds)
        return outputs["image_bytes"].numpy().tolist(), [error.decode() for error in outputs["error"].numpy()]

    def _call(self, sentences: tf.Tensor, seeds: Sequence[int] | None) -> dict[str, tf.Tensor]:
        given = [0] * len(sentences) if seeds is None else seeds
        seed = tf.constant(given, tf.int64)
        outputs: dict[str, tf.Tensor] = self._loaded.signatures["generate"](sentences=sentences, seed=seed)
        return outputs

    def unknown_words(self, sentences: Sequence[str]) -> list[str]:
        """Returns the words that do not occur in the training stories, without repetition, in order of appearance."""
        known = set(self.info["words"])
        all_words = [word for sentence in sentences for word in words(sentence)]
        return list(dict.fromkeys(word for word in all_words if word not in known))
