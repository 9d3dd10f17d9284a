"""Warm-up requests in an export, which TensorFlow Serving runs before it serves the version.

TensorFlow optimizes a graph when it first runs, which takes seconds. The warm-up requests move this work to the time
before the version takes over, so that the first client does not wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from storygan_tf.common.model_paths import ASSETS_EXTRA, BASE_DIRECTORY
from storygan_tf.config.schema import StoryGANConfig
from storygan_tf.data import example_schema

SERVING_WARMUP_FILE = f"{ASSETS_EXTRA}/tf_serving_warmup_requests"
"""Path below a version directory where TensorFlow Serving expects the requests, a TFRecord file of PredictionLog."""

_SENTENCE = "A sentence."


def serving_warmup_inputs(config: StoryGANConfig) -> dict[str, dict[str, Any]]:
    """Returns the inputs of one request per signature.

    Args:
        config: configuration of the exported generator.

    Returns:
        For each signature its inputs by name, arrays with one story each.
    """
    story = [_SENTENCE] * config.frames
    sentences = {"sentences": np.array([[sentence.encode() for sentence in story]], object)}
    seed = {"seed": np.zeros([1], np.int64)}
    example = example_schema.story_example("warm-up", story, []).SerializeToString(deterministic=True)
    return {
        "serving_default": sentences,
        "generate": sentences | seed,
        "generate_raw": sentences | seed,
        "generate_from_vectors": {"vectors": np.zeros([1, config.frames, config.sentence_size], np.float32)} | seed,
        "generate_from_examples": {"examples": np.array([example], object)},
        "info": {"query": np.array([b""], object)},
    }


def write_serving_warmup(version: Path, config: StoryGANConfig) -> None:
    """Writes the warm-up requests of an export; the same configuration always gives the same bytes.

    Args:
        version: version directory of the export.
        config: configuration of the exported generator.
    """
    with tf.io.TFRecordWriter(str(version / SERVING_WARMUP_FILE)) as file:
        for signature, inputs in serving_warmup_inputs(config).items():
            file.write(_prediction_log(signature, inputs).SerializeToString(deterministic=True))


def _prediction_log(signature: str, inputs: Mapping[str, np.ndarray]) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = BASE_DIRECTORY.name
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
