"""Exports the sentence vectors of a Transform graph as a SavedModel, the vectorizer.

The vectorizer has the interface of a sentence encoder, string `[n]` -> float32 `[n, sentence_size]`, and needs only
TensorFlow to load. With it `storygan_tf` trains, exports and serves without TFX.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from pipeline.compat import load_transform_function, raw_feature_specs
from storygan_tf.common.atomic_files import atomic_folder
from storygan_tf.config.schema import Settings
from storygan_tf.data import example_schema

_SENTENCES = (tf.TensorSpec([None], tf.string, name="inputs"),)


def export_vectorizer(transform_output_dir: str | Path, out_dir: str | Path, settings: Settings) -> None:
    """Writes the vectorizer of a Transform graph.

    `tf.saved_model.load` and `hub.load` return a callable object with the signature `serving_default` (`inputs` to
    `outputs`). It computes the same vector for a sentence as Transform did, independently of the other sentences.

    Args:
        transform_output_dir: folder that Transform wrote (its `transform_graph` artifact).
        out_dir: folder of the SavedModel to write; an existing folder is replaced as a whole.
        settings: the settings that Transform ran with.
    """
    graph = tft.TFTransformOutput(str(transform_output_dir)).transform_savedmodel_dir
    with atomic_folder(Path(out_dir)) as folder:
        _save(graph, folder, settings)


def _save(transform_savedmodel_dir: str, out_dir: Path, settings: Settings) -> None:
    loaded, transform = load_transform_function(transform_savedmodel_dir)
    vectors = _vectors_function(transform, settings)
    vectorizer = tf.train.Checkpoint(transform=loaded)  # tracks the encoder's variables and tables
    vectorizer.__call__ = vectors
    # hub.KerasLayer requires these attributes.
    vectorizer.variables = []
    vectorizer.trainable_variables = []

    @tf.function(input_signature=_SENTENCES)
    def serving_default(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": vectors(inputs)}

    tf.saved_model.save(vectorizer, str(out_dir), signatures=serving_default)


def _vectors_function(transform: Any, settings: Settings) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function that computes vectors by the Transform graph, which takes whole stories.

    Args:
        transform: function of a Transform graph, from `pipeline.compat.load_transform_function`.
        settings: `model.frames` and `model.sentence_size` are used.

    Returns:
        Function from sentences, string `[n]`, to vectors, float32 `[n, sentence_size]`.
    """
    frames, size = settings.model.frames, settings.model.sentence_size
    specs = raw_feature_specs(transform)

    @tf.function(input_signature=_SENTENCES)
    def vectors(sentences: tf.Tensor) -> tf.Tensor:
        count = tf.shape(sentences)[0]
        padded = tf.concat([sentences, tf.fill([-count % frames], "")], axis=0)
        stories = tf.reshape(padded, [-1, frames])
        features = {name: _blank(spec, tf.shape(stories)[0]) for name, spec in specs.items()}
        outputs = transform({**features, example_schema.SENTENCES: stories})
        return tf.reshape(outputs[example_schema.VECTORS], [-1, size])[:count]

    return vectors


def _blank(spec: tf.TensorSpec, batch: tf.Tensor) -> tf.Tensor:
    """Returns zeros or empty strings `[batch, ...]` for a feature that the vectors do not depend on."""
    return tf.zeros([batch, *spec.shape[1:]], spec.dtype)
