"""Models small enough for a test, and sentence vectorizers for their exports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import StoryGANConfig
from storygan_tf.data.stories import Stories
from storygan_tf.export.signatures import StoryGANExport
from storygan_tf.text.hashed_ngram_encoder import embed


def small_config(**changes: Any) -> StoryGANConfig:
    """Returns the configuration of a StoryGAN that a test builds in seconds, with the given fields changed."""
    fields = {
        "frames": 2,
        "sentence_size": 6,
        "noise_size": 3,
        "context_size": 16,
        "filter_count": 4,
        "filter_length": 12,
        "generator_width": 16,
        "discriminator_width": 2,
    }
    return StoryGANConfig(**{**fields, **changes})


def square_stories(config: StoryGANConfig, count: int, seed: int) -> Stories:
    """Returns stories of a bright square on a dark background, at a position that the vector encodes."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=[count, config.frames, config.sentence_size]).astype(np.float32)
    images = np.full([count, config.frames, 64, 64, 3], 40, np.uint8)
    for story, frame in np.ndindex(count, config.frames):
        row, column = np.clip(32 + 10 * vectors[story, frame, :2], 8, 55).astype(int)
        images[story, frame, row - 8 : row + 8, column - 8 : column + 8] = 220
    ids = [f"story-{number:02d}" for number in range(count)]
    labels = np.zeros([count, config.frames, 0], np.uint8)
    return Stories(ids, [["a square ."] * config.frames] * count, images, vectors, labels)


class HashedVectorizer(tf.Module):
    """Sentence vectors are hashed words: string `[n]` -> float32 `[n, 6]`."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, sentences: tf.Tensor) -> tf.Tensor:
        return 3 * embed(sentences, 6)


class LengthVectorizer(tf.Module):
    """Sentence vectors repeat the sentence's length: string `[n]` -> float32 `[n, 8]`."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, sentences: tf.Tensor) -> tf.Tensor:
        return tf.tile(tf.cast(tf.strings.length(sentences), tf.float32)[:, tf.newaxis], [1, 8])


@contextlib.contextmanager
def info_alone() -> Iterator[None]:
    """Lets exports in the `with` block have the signature `info` alone: the others take long to trace and to load."""
    signatures = StoryGANExport.signatures
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoryGANExport, "signatures", lambda export: {"info": signatures(export)["info"]})
        yield
