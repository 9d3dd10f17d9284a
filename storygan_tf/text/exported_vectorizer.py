"""Loads the sentence encoder and PCA of an exported model as one encoder, for a training that starts from the model."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from storygan_tf.common.errors import ModelError
from storygan_tf.common.model_paths import find_model
from storygan_tf.text.sentence_encoder import SentenceEncoder

INIT_FROM = "--init-from"
"""Command-line option for the model, which error messages name."""


def load_vectorizer(model: str | Path) -> SentenceEncoder:
    """Returns the sentence encoder and PCA of an exported model as one encoder.

    The encoder maps sentences, string `[n]`, to vectors, float32 `[n, sentence_size]`.

    Args:
        model: a pretrained name, a run directory, a model base directory or a version directory.

    Raises:
        ModelError: if there is no model, or it cannot be loaded.
    """
    path = find_model(model, INIT_FROM)
    try:
        vectorizer = tf.saved_model.load(str(path)).vectorizer
    # TensorFlow raises exceptions of many types for a damaged SavedModel.
    except Exception as error:
        raise ModelError(
            f"{INIT_FROM} {model}: is no usable StoryGAN export ({type(error).__name__}: {error})."
        ) from error
    return SentenceEncoder(vectorizer, f"of the model {model}")
