"""Loaded models: warm-up requests, deadlines, tensors, and what is no model."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.local_server.predict import to_session_call
from serving.local_server.servable import Servable, replay_serving_warmup
from serving.local_server.status import StatusError
from serving.local_server.tensors import to_array, to_proto
from storygan_tf.export.serving_warmup import SERVING_WARMUP_FILE


@pytest.fixture(scope="module")
def servable(small_model):
    loaded = Servable(small_model)
    yield loaded
    loaded.close()


def record(**inputs) -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half"
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    ).SerializeToString()


def write(path, records):
    file = path / SERVING_WARMUP_FILE
    file.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for line in records:
            writer.write(line)
    return file


GOOD = record(x=np.ones(2, np.float32))


def test_warm_up_runs_every_request(servable, tmp_path):
    assert replay_serving_warmup(servable, tmp_path) == 0
    write(tmp_path, [GOOD, GOOD])
    assert replay_serving_warmup(servable, tmp_path) == 2


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([GOOD, b"\xff"], "Failed to parse warmup record: b'.xff' from"),
        ([record(z=np.ones(2, np.float32))], "Signature input alias: x"),
        ([record(x=["a"])], "Expects arg"),
        ([b""] * 1001, "Number of warmup records exceeds the maximum .1000."),
        (
            [prediction_log_pb2.PredictionLog(session_run_log={}).SerializeToString()],
            "UNIMPLEMENTED: Unsupported log_type for warmup: session_run_log",
        ),
    ],
)
def test_a_warm_up_that_fails_fails_the_load(servable, tmp_path, records, words):
    write(tmp_path, records)
    with pytest.raises(StatusError, match=words):
        replay_serving_warmup(servable, tmp_path)


def test_a_warm_up_file_that_is_cut_off(servable, tmp_path):
    file = write(tmp_path, [GOOD])
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(StatusError, match=r"DATA_LOSS: .*Please verify your warmup data is in TFRecord format\."):
        replay_serving_warmup(servable, tmp_path)


def test_what_is_no_model(small_model, tmp_path):
    with pytest.raises(StatusError, match="NOT_FOUND: Could not find SavedModel"):
        Servable(tmp_path)
    shutil.copytree(small_model, tmp_path / "1")
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(StatusError, match="DATA_LOSS: Can't parse"):
        Servable(tmp_path / "1")
    with pytest.raises(StatusError, match="NOT_FOUND: Could not find meta graph def matching supplied tags"):
        Servable(small_model, tags=["train"])
    shutil.copytree(small_model, tmp_path / "2")
    for file in (tmp_path / "2" / "variables").iterdir():
        file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(StatusError):
        Servable(tmp_path / "2")


def test_a_run_ends_at_its_deadline(servable):
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "slow"
    request.inputs["n"].CopyFrom(tf.make_tensor_proto(np.array([10**9])))
    with pytest.raises(StatusError, match="DEADLINE_EXCEEDED"):
        servable.run(to_session_call(servable.meta_graph, request), timeout=0.2)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, -2]], np.float32),
        np.array([1e300], np.float64),
        np.array([[[255]]], np.uint8),
        np.array([-(2**63)], np.int64),
        np.array([2**64 - 1], np.uint64),
        np.array([True, False]),
        np.array([b"a", b"\x00\xff"], object),
        np.array(b"alone", object),
        np.zeros([0, 3], np.float32),
        np.zeros([0], object),
    ],
)
def test_tensors_come_back_as_they_were(array):
    back = to_array(to_proto(array), "x")
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_a_tensor_with_one_value_is_filled_up_but_not_without_bounds():
    proto = to_proto(np.array([7.0], np.float32))
    proto.tensor_shape.dim[0].size = 3
    assert to_array(proto, "x").tolist() == [7, 7, 7]
    for size in (2**31, 2**20 + 1):
        proto.tensor_shape.dim[0].size = size
        with pytest.raises(StatusError, match="tensor parsing error: x"):
            to_array(proto, "x")


@pytest.mark.parametrize("array", [np.zeros(2**21, np.int64), np.full(2**17, b"a", object)])
def test_a_large_tensor_that_is_all_there_is_read(array):
    np.testing.assert_array_equal(to_array(to_proto(array), "x"), array)
