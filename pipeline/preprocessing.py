"""What Transform computes: sentence vectors by encoder and PCA, inside the Transform graph.

The encoder is loaded into the graph; the PCA, its mean and its scale are fitted once, on the training split. Where the
training starts from another model, that one's encoder and PCA are loaded as one, and nothing is fitted. Serving takes
its vectors from the same graph (`pipeline.vectorizer_export`), so that training and serving cannot differ.
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
"""Asset of the Transform graph: the words of the training sentences, the most frequent first, one a line."""

_PASSED_THROUGH = (
    example_schema.STORY_ID,
    example_schema.SENTENCES,
    example_schema.IMAGES,
    example_schema.LABELS,
    example_schema.OBJECTS,
    example_schema.DRAWN,
)

_SMALLEST_SCALE = 1e-6
"""Below it the training sentences are all alike, and dividing by the scale would only blow up rounding errors."""


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Returns the features of `inputs` untouched, and `vectors`.

    Args:
        inputs: dense features of `storygan_tf.data.example_schema`: `sentences` string `[B, T]` and others.
        custom_config: what `pipeline.step_inputs.transform_arguments` gave.

    Returns:
        What of `story_id`, `sentences`, `images`, `labels`, `objects` and `drawn_frames` is in `inputs`, and `vectors`
        float32 `[B, T * sentence_size]`.

    Raises:
        ConfigError: for settings that cannot be read or do not fit the data, the encoder or the initial model.
        DataError: where stories have different lengths.
        ModelError: for an encoder or an initial model that cannot be loaded.
    """
    _, settings = StepArguments.from_custom_config(custom_config)
    sentences = _checked_sentences(inputs, settings.model)
    flat = tf.reshape(sentences, [-1])
    tft.vocabulary(split_words(flat).flat_values, vocab_filename=WORDS_FILE, name="words")
    vectors = _given_vectors(flat, settings) if settings.training.init_from else _fitted_vectors(flat, settings)
    outputs = {name: inputs[name] for name in _PASSED_THROUGH if name in inputs}
    width = settings.model.frames * settings.model.sentence_size
    return {**outputs, example_schema.VECTORS: tf.reshape(vectors, [-1, width])}


def _checked_sentences(inputs: dict[str, Any], model: StoryGANConfig) -> tf.Tensor:
    sentences = inputs.get(example_schema.SENTENCES)
    if not isinstance(sentences, tf.Tensor):
        raise DataError(
            f"Transform: {example_schema.SENTENCES!r} is {type(sentences).__name__}, expected a dense tensor [B, T]: "
            f"every story needs the same number of frames, and the schema must give the feature its fixed shape."
        )
    if sentences.shape.rank != 2 or sentences.shape[1] != model.frames:
        found = sentences.shape.as_list()
        raise ConfigError(
            f"model.frames: found {model.frames}, but {example_schema.SENTENCES!r} in the data has shape {found}."
        )
    return sentences


def _given_vectors(sentences: tf.Tensor, settings: Settings) -> tf.Tensor:
    """Returns the vectors of the model that the training starts from: string `[n]` -> float32 `[n, size]`."""
    where, size = settings.training.init_from, settings.model.sentence_size
    vectorizer = tft.make_and_track_object(lambda: load_vectorizer(where), name="initial_vectorizer")
    if vectorizer.width != size:
        raise ConfigError(
            f"model.sentence_size: found {size}, but the initial model {where!r} has vectors of {vectorizer.width}; "
            "expected the same."
        )
    return vectorizer(sentences)


def _fitted_vectors(sentences: tf.Tensor, settings: Settings) -> tf.Tensor:
    """Returns the encoder's vectors, reduced by a PCA of the training split: string `[n]` -> float32 `[n, size]`."""
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

    The mean is removed, and all components are divided by one scalar, so that the mean squared component is 1. Not
    whitened: that would blow up directions in which there is next to nothing.

    Args:
        vectors: float32 `[n, width]`.
        size: how many components to keep.

    Returns:
        float32 `[n, size]`.
    """
    # Named, so that an analyzer keeps its cache key when the function is traced again.
    centred = vectors - tft.mean(vectors, reduce_instance_dims=False, name="vector_mean")
    components = tft.pca(vectors, size, tf.float32, name="vector_pca")
    # The scale from the covariance and not from the projected vectors: that would need a second pass, and several
    # passes fail in Transform with this Beam (tft's deep_copy builds AppliedPTransform without its newer arguments).
    covariance = tft.covariance(vectors, tf.float32, name="vector_covariance")
    variances = tf.einsum("wk,wv,vk->k", components, covariance, components)
    scale = tf.sqrt(tf.reduce_mean(variances))
    return tf.matmul(centred, components) / tf.where(scale > _SMALLEST_SCALE, scale, 1.0)
