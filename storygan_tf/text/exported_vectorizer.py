"""The sentence vectors of an exported model: its encoder and PCA, taken as one by a training that goes on from it."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from storygan_tf.common.errors import ModelError
from storygan_tf.common.model_paths import find_model
from storygan_tf.text.sentence_encoder import SentenceEncoder

INIT_FROM = "--init-from"
"""How a user names the model, and how errors do."""


def load_vectorizer(where: str | Path) -> SentenceEncoder:
    """Loads the sentence encoder and PCA of an exported model: strings [n] -> float32 [n, sentence_size].

    Args:
        where: a pretrained name, a run directory, a model base directory or a version directory.

    Raises:
        ModelError: where there is no model, or it cannot be loaded.
    """
    path = find_model(where, INIT_FROM)
    try:
        vectorizer = tf.saved_model.load(str(path)).vectorizer
    # TensorFlow raises nearly anything for a damaged SavedModel.
    except Exception as error:
        raise ModelError(
            f"{INIT_FROM} {where}: is no usable StoryGAN export ({type(error).__name__}: {error})."
        ) from error
    return SentenceEncoder(vectorizer, f"of the model {where}")
