"""The preprocessing function of Transform: sentence vectors by an encoder and a PCA, inside the Transform graph.

The encoder is loaded into the graph; the PCA, its mean and its scale are fitted once, on the training split. If the
training starts from another model, the encoder and the PCA of that model are loaded together, and nothing is fitted.
Serving computes its vectors with the same graph (`pipeline.vectorizer_export`), so training and serving cannot differ.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from pipeline.step_inputs import StepArguments
from storygan_tf.common.errors import ConfigError, DataError
from storygan_tf.config.schema import Settings, StoryGANConfig
from storygan_tf.data import example_schema
from storygan_tf.text.exported_vectorizer import load_vectorizer
from storygan_tf.text.hashed_ngram_encoder import split_words
from storygan_tf.text.sentence_encoder import SentenceEncoder, load_encoder

WORDS_FILE = "words"
"""Asset of the Transform graph: the words of the training sentences, one per line, most frequent first."""

_PASSED_THROUGH = (
    example_schema.STORY_ID,
    example_schema.SENTENCES,
    example_schema.IMAGES,
    example_schema.LABELS,
    example_schema.OBJECTS,
    example_schema.DRAWN,
)

_SMALLEST_SCALE = 1e-6
"""Scales below this are not divided by: all training sentences are equal, and only rounding errors would grow."""


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Adds sentence vectors to the features of stories.

    Args:
        inputs: dense features as in `storygan_tf.data.example_schema`: `sentences` string `[batch, frames]` and others.
        custom_config: `StepArguments` as a dictionary, from `pipeline.step_inputs.transform_arguments`.

    Returns:
        `story_id`, `sentences`, `images`, `labels`, `objects` and `drawn_frames`, unchanged and as far as they are in
        `inputs`, and `vectors`, float32 `[batch, frames * sentence_size]`.

    Raises:
        ConfigError: if the settings cannot be read or do not fit the data, the encoder or the initial model.
        DataError: if stories have different lengths.
        ModelError: if the encoder or the initial model cannot be loaded.
    """
    _, settings = StepArguments.from_custom_config(custom_config)
    sentences = _checked_sentences(inputs, settings.model)
    flat = tf.reshape(sentences, [-1])
    tft.vocabulary(split_words(flat).flat_values, vocab_filename=WORDS_FILE, name="words")
    vectors = _initial_model_vectors(flat, settings) if settings.training.init_from else _fitted_vectors(flat, settings)
    outputs = {name: inputs[name] for name in _PASSED_THROUGH if name in inputs}
    width = settings.model.frames * settings.model.sentence_size
    return {**outputs, example_schema.VECTORS: tf.reshape(vectors, [-1, width])}


def _checked_sentences(inputs: dict[str, Any], model: StoryGANConfig) -> tf.Tensor:
    sentences = inputs.get(example_schema.SENTENCES)
    if not isinstance(sentences, tf.Tensor):
        raise DataError(
            f"Transform: {example_schema.SENTENCES!r} is {type(sentences).__name__}, expected a dense tensor [B, T]: "
            "every story needs the same number of frames, and the schema must give the feature its fixed shape."
        )
    if sentences.shape.rank != 2 or sentences.shape[1] != model.frames:
        found = sentences.shape.as_list()
        raise ConfigError(
            f"model.frames: found {model.frames}, but {example_schema.SENTENCES!r} in the data has shape {found}."
        )
    return sentences


def _initial_model_vectors(sentences: tf.Tensor, settings: Settings) -> tf.Tensor:
    """Computes vectors by the vectorizer of the model that the training starts from.

    Args:
        sentences: string `[n]`.
        settings: `training.init_from` and `model.sentence_size` are used.

    Returns:
        float32 `[n, sentence_size]`.
    """
    where, size = settings.training.init_from, settings.model.sentence_size
    vectorizer = tft.make_and_track_object(lambda: load_vectorizer(where), name="initial_vectorizer")
    if vectorizer.width != size:
        raise ConfigError(
            f"model.sentence_size: found {size}, but the initial model {where!r} has vectors of {vectorizer.width}; "
            "expected the same."
        )
    return vectorizer(sentences)


def _fitted_vectors(sentences: tf.Tensor, settings: Settings) -> tf.Tensor:
    """Computes vectors by the encoder and reduces them by a PCA that is fitted on the training split.

    Args:
        sentences: string `[n]`.
        settings: `data.encoder` and `model` are used.

    Returns:
        float32 `[n, sentence_size]`.
    """
    handle = settings.data.encoder
    encoder = tft.make_and_track_object(lambda: load_encoder(handle), name="sentence_encoder")
    return _reduce(_encode(encoder, sentences, settings.model), settings.model.sentence_size)


def _encode(encoder: SentenceEncoder, sentences: tf.Tensor, model: StoryGANConfig) -> tf.Tensor:
    if model.sentence_size > encoder.width:
        raise ConfigError(
            f"model.sentence_size: found {model.sentence_size}, but sentence encoder {encoder.handle!r} gives vectors "
            f"of {encoder.width}; expected at most that."
        )
    return encoder(sentences)


def _reduce(vectors: tf.Tensor, size: int) -> tf.Tensor:
    """Projects vectors on their principal components.

    The mean is subtracted, and all components are divided by one scalar, so that the mean squared component is 1. The
    components are not whitened, which would amplify noise in directions of little variance.

    Args:
        vectors: float32 `[n, width]`.
        size: number of components to keep.

    Returns:
        float32 `[n, size]`.
    """
    # The names keep the cache keys of the analyzers the same when the function is traced again.
    centred = vectors - tft.mean(vectors, reduce_instance_dims=False, name="vector_mean")
    components = tft.pca(vectors, size, tf.float32, name="vector_pca")
    # The scale is computed from the covariance. To compute it from the projected vectors would need a second pass, and
    # several passes fail with Transform 1.15 and Beam 2.74 (tft's deep_copy lacks newer arguments of
    # AppliedPTransform).
    covariance = tft.covariance(vectors, tf.float32, name="vector_covariance")
    variances = tf.einsum("wk,wv,vk->k", components, covariance, components)
    scale = tf.sqrt(tf.reduce_mean(variances))
    return tf.matmul(centred, components) / tf.where(scale > _SMALLEST_SCALE, scale, 1.0)
