"""The sentence vectors of a Transform graph as a SavedModel of its own.

It keeps the contract of a sentence encoder, string `[n]` -> float32 `[n, sentence_size]`, and needs only TensorFlow to
load, so that `storygan_tf` can train, export and serve without TFX.
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

    Loaded by `tf.saved_model.load` or `hub.load`, it can be called, has a signature `serving_default` (`inputs` to
    `outputs`), and gives each sentence the vector that Transform wrote for it, whatever the other sentences are.

    Args:
        transform_output_dir: what Transform wrote (its `transform_graph` artifact).
        out_dir: the folder of the SavedModel to write; what is there is replaced. It appears complete or not at all.
        settings: those that Transform ran with.
    """
    graph = tft.TFTransformOutput(str(transform_output_dir)).transform_savedmodel_dir
    with atomic_folder(Path(out_dir)) as aside:
        _save(graph, aside, settings)


def _save(transform_savedmodel_dir: str, out_dir: Path, settings: Settings) -> None:
    loaded, transform = load_transform_function(transform_savedmodel_dir)
    vectors = _vectors_function(transform, settings)
    vectorizer = tf.train.Checkpoint(transform=loaded)  # keeps the encoder's variables and tables
    vectorizer.__call__ = vectors
    # hub.KerasLayer asks for these.
    vectorizer.variables = []
    vectorizer.trainable_variables = []

    @tf.function(input_signature=_SENTENCES)
    def serving_default(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": vectors(inputs)}

    tf.saved_model.save(vectorizer, str(out_dir), signatures=serving_default)


def _vectors_function(transform: Any, settings: Settings) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function of sentences `[n]` that asks the Transform graph, which takes stories `[B, T]`."""
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
    """Returns zeros or empty strings for a feature that the vectors do not depend on."""
    return tf.zeros([batch, *spec.shape[1:]], spec.dtype)
