"""An export behind the local server: its signatures, bad rows, stories of another length, with and without batching."""

from __future__ import annotations

import io
import json
import logging
import urllib.request
from pathlib import Path

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_models import HashedVectorizer, small_config
from tensorflow_serving.apis import predict_pb2

from storygan_tf.export.serving_warmup import serving_warmup_inputs
from storygan_tf.export.signatures import export_storygan
from storygan_tf.models.story_generator import StoryGenerator

CONFIG = small_config(frames=3, generator_width=8)
INFO = {"frames": 3, "examples": [["a", "b", "c"]], "words": ["a"]}

STORY = ["A red cube.", "A blue sphere.", "A green cube."]
VECTORS = np.random.default_rng(1).normal(size=[1, 3, 6]).astype(np.float32)
SEED = np.array([7], np.int64)

WRONG_FRAMES = "This model tells stories of 3 sentences: sentences must be of shape [B, 3]."
WRONG_VECTORS = "This model tells stories of 3 sentences: vectors must be of shape [B, 3, 6]."


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    keras.utils.set_random_seed(5)
    generator = StoryGenerator(CONFIG)
    generator(tf.random.normal([8, 3, 6]), training=True)
    path = tmp_path_factory.mktemp("models") / "storygan" / "1"
    export_storygan(generator, HashedVectorizer(), INFO, path, 40)
    return path


class Messages(logging.Handler):
    """Collects log messages."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.texts: list[str] = []

    def emit(self, record) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture(scope="module")
def server(model, start_server):
    logger, messages = logging.getLogger("serving"), Messages()
    level = logger.level
    logger.addHandler(messages)
    logger.setLevel(logging.INFO)
    with start_server(model_name="storygan", model_base_path=str(model.parent)) as running:
        running.start_messages = list(messages.texts)
        logger.removeHandler(messages)
        logger.setLevel(level)
        yield running


@pytest.fixture(scope="module")
def batching_server(model, start_server, tmp_path_factory):
    """Merges two rows, however long the second one takes to come."""
    parameters = tmp_path_factory.mktemp("batching") / "batching.config"
    parameters.write_text("max_batch_size { value: 2 } batch_timeout_micros { value: 600000000 }")
    options = {"enable_batching": True, "batching_parameters_file": str(parameters), "enable_model_warmup": False}
    with start_server(model_name="storygan", model_base_path=str(model.parent), **options) as running:
        yield running


def request(signature: str, **inputs) -> predict_pb2.PredictRequest:
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "storygan"
    message.model_spec.signature_name = signature
    for name, value in inputs.items():
        message.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return message


def generate(*stories: list[str]) -> predict_pb2.PredictRequest:
    return request("generate", sentences=list(stories), seed=np.full([len(stories)], 7, np.int64))


def failure(server, message: predict_pb2.PredictRequest) -> tuple[str, str]:
    with server.predictions() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Predict(message, 120)
    return caught.value.code().name, caught.value.details()


def together(server, *messages: predict_pb2.PredictRequest) -> list[predict_pb2.PredictResponse | tuple[str, str]]:
    """Sends requests at once: each gives its response, or status and text."""
    answers = []
    with server.predictions() as stub:
        for future in [stub.Predict.future(message, 120) for message in messages]:
            try:
                answers.append(future.result())
            except grpc.RpcError as error:
                answers.append((error.code().name, error.details()))
    return answers


def pixels(pngs) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in pngs]).astype(int)


def test_it_is_warmed_up_by_its_own_requests(model, server):
    assert f"{len(serving_warmup_inputs(CONFIG))} warm-up requests for {model}" in server.start_messages


def test_vectors_over_grpc_and_rest(server, model):
    here = tf.saved_model.load(str(model)).signatures["generate_from_vectors"]
    expected = pixels(here(vectors=tf.constant(VECTORS), seed=tf.constant(SEED))["image_bytes"].numpy()[0])
    with server.predictions() as stub:
        answer = stub.Predict(request("generate_from_vectors", vectors=VECTORS, seed=SEED), 120)
    assert list(answer.outputs["error"].string_val) == [b""]
    assert np.abs(pixels(answer.outputs["image_bytes"].string_val) - expected).max() <= 1
    body = {"signature_name": "generate_from_vectors", "inputs": {"vectors": VECTORS.tolist(), "seed": [7]}}
    with urllib.request.urlopen(f"{server.url}/v1/models/storygan:predict", json.dumps(body).encode()) as answer:
        outputs = json.load(answer)["outputs"]
    assert outputs["error"] == [""]
    assert [len(row) for row in outputs["image_bytes"]] == [3]


def test_a_bad_row_does_not_spoil_the_other_rows(server):
    with server.predictions() as stub:
        answer = stub.Predict(generate(STORY, ["a", " ", "c"], STORY), 120)
    assert list(answer.outputs["error"].string_val) == [b"", b"sentence 2 is blank; write at least one word.", b""]
    assert [bool(png) for png in answer.outputs["image_bytes"].string_val] == [True] * 3 + [False] * 3 + [True] * 3


def test_a_bad_row_does_not_spoil_the_other_requests_of_its_batch(batching_server):
    bad, good = together(batching_server, generate(["", "b", "c"]), generate(STORY))
    assert list(bad.outputs["error"].string_val) == [b"sentence 1 is blank; write at least one word."]
    assert list(good.outputs["error"].string_val) == [b""]
    assert all(good.outputs["image_bytes"].string_val)


WRONG = {
    "too few": (generate(STORY[:2]), WRONG_FRAMES),
    "too many": (generate([*STORY, "d"]), WRONG_FRAMES),
    "no seed": (request("serving_default", sentences=[STORY[:1]]), WRONG_FRAMES),
    "frames of vectors": (request("generate_from_vectors", vectors=VECTORS[:, :2], seed=SEED), WRONG_VECTORS),
    "size of vectors": (request("generate_from_vectors", vectors=VECTORS[:, :, :5], seed=SEED), WRONG_VECTORS),
    "one dimension": (request("generate", sentences=STORY, seed=SEED), "Shape of tensor"),
    "one more dimension": (request("generate", sentences=[[[text] * 3 for text in STORY]], seed=SEED), "Shape of"),
    "two seeds": (request("generate", sentences=[STORY], seed=np.array([1, 2])), "seed must be of shape [B]"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_has_another_shape_is_an_invalid_argument(server, wrong):
    message, words = WRONG[wrong]
    code, details = failure(server, message)
    assert code == "INVALID_ARGUMENT"
    assert words in details


def test_stories_of_another_length_that_fill_a_batch_are_an_invalid_argument(batching_server):
    for code, details in together(batching_server, generate(STORY[:2]), generate(STORY[:2])):
        assert code == "INVALID_ARGUMENT"
        assert WRONG_FRAMES in details


def test_a_story_of_another_length_fails_the_good_one_in_its_batch(batching_server):
    """Such stories cannot be merged, as in TensorFlow Serving. Therefore clients check T before they send a request."""
    for code, details in together(batching_server, generate(STORY[:2]), generate(STORY)):
        assert code == "FAILED_PRECONDITION"
        assert "from different tasks have different shapes and padding is turned off" in details
