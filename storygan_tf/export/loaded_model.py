"""Finding and asking exported models: `--model M`, the same in every command."""

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

_SIGNATURES = {"serving_default", "generate", "info"}
"""What is asked here."""


class SavedStoryGAN:
    """An exported StoryGAN, loaded.

    Args:
        model: see `find_model`.

    Attributes:
        path: the version directory.
        info: what signature `info` answers.
        frames: sentences and frames a story.

    Raises:
        ModelError: where it cannot be loaded or is no StoryGAN.
    """

    def __init__(self, model: str | Path) -> None:
        self.path = find_model(model)
        try:
            self._loaded = tf.saved_model.load(str(self.path))
            missing = _SIGNATURES - set(self._loaded.signatures)
            if missing:
                raise ValueError(f"it lacks the signatures {', '.join(sorted(missing))}")
            answer = self._loaded.signatures["info"](query=tf.constant([""]))["info"]
            self.info: dict[str, Any] = json.loads(answer.numpy()[0])
            self.frames = int(self.info["frames"])
        # TensorFlow raises nearly anything for a damaged SavedModel.
        except Exception as error:
            raise ModelError(
                f"model {self.path}: is no usable StoryGAN export ({type(error).__name__}: {error})."
            ) from error

    def generate(self, stories: Sequence[Sequence[str]], seeds: Sequence[int] | None = None) -> np.ndarray:
        """Draws stories.

        Args:
            stories: [batch] of T sentences each.
            seeds: [batch] whole numbers; a hash of the sentences where not given.

        Returns:
            uint8 [batch, T, 64, 64, 3].

        Raises:
            ModelError: for a story of another length, or one that the model refuses.
        """
        for story in stories:
            if len(story) != self.frames:
                raise ModelError(
                    f"story {' / '.join(story)[:80]!r}: found {len(story)} sentences, expected {self.frames}: "
                    f"this model tells stories of {self.frames}."
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
                f"stories, expected {self.frames} a story, all of one shape."
            )
        return np.stack(decoded).reshape(len(stories), self.frames, *decoded[0].shape)

    def pictures(
        self, stories: Sequence[Sequence[str]], seeds: Sequence[int] | None = None
    ) -> tuple[list[list[bytes]], list[str]]:
        """Draws stories, of which some may be bad.

        Args:
            stories: [batch] of T sentences each.
            seeds: [batch] whole numbers; a hash of the sentences where not given.

        Returns:
            [batch] of T PNGs each, and [batch] of what is wrong with a story, empty where it is good.
        """
        outputs = self._ask(tf.constant([list(story) for story in stories], tf.string), seeds)
        return outputs["image_bytes"].numpy().tolist(), [error.decode() for error in outputs["error"].numpy()]

    def _ask(self, sentences: tf.Tensor, seeds: Sequence[int] | None) -> dict[str, tf.Tensor]:
        signatures = self._loaded.signatures
        if seeds is None:
            outputs: dict[str, tf.Tensor] = signatures["serving_default"](sentences=sentences)
        else:
            outputs = signatures["generate"](sentences=sentences, seed=tf.constant(seeds, tf.int64))
        return outputs

    def unknown_words(self, sentences: Sequence[str]) -> list[str]:
        """Returns the words that training never saw, in order of appearance."""
        known = set(self.info["words"])
        found = [word for sentence in sentences for word in words(sentence)]
        return list(dict.fromkeys(word for word in found if word not in known))
