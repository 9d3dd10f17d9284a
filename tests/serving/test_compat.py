"""Every private part of a library that `serving.compat` uses is there and does what it is used for."""

from __future__ import annotations

import inspect

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.client import pywrap_tf_session

from serving import compat


@pytest.fixture(scope="module")
def session():
    """Returns a session of a graph with x float32 [n], twice = 2 * x, and a string."""
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, [None], "x")
        tf.multiply(x, 2.0, "twice")
        tf.constant("text", name="text")
        tf.while_loop(lambda i: i < 10**12, lambda i: i + 1, [tf.constant(0, tf.int64)], name="endless")
    opened = tf.compat.v1.Session(graph=graph)  # not as a context: it would be the default session of other tests
    yield opened
    opened.close()


def test_session_call_tf_sessionrun_has_the_signature_that_run_session_uses():
    parameters = inspect.signature(tf.compat.v1.Session._call_tf_sessionrun).parameters
    assert list(parameters) == ["self", "options", "feed_dict", "fetch_list", "target_list", "run_metadata"]


@pytest.mark.parametrize("name", ["TF_NewBufferFromString", "TF_DeleteBuffer"])
def test_pywrap_tf_session_has_the_buffers_that_run_session_uses(name):
    assert callable(getattr(pywrap_tf_session, name))


def test_run_session_returns_values_in_order(session):
    twice, text = compat.run_session(session, {"x:0": np.array([1, 2], np.float32)}, ["twice:0", "text:0"], 0)
    assert (twice.tolist(), text) == ([2, 4], b"text")


def test_run_session_passes_feeds_unchecked_to_the_runtime(session):
    """Feeds a string, for which `Session.run` would raise ValueError."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expects arg"):
        compat.run_session(session, {"x:0": np.array([b"text"], object)}, ["twice:0"], 0)


def test_run_session_ends_at_its_time_limit(session):
    loop = next(op for op in session.graph.get_operations() if op.type in ("Exit", "While", "StatelessWhile"))
    with pytest.raises(tf.errors.DeadlineExceededError):
        compat.run_session(session, {}, [loop.outputs[0].name], 200)


def load_error(path, tags) -> Exception:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session, pytest.raises(Exception) as caught:
        tf.compat.v1.saved_model.load(session, tags, str(path))
    return caught.value


def test_lacks_tags_recognises_tensorflows_message(small_model):
    error = load_error(small_model, ["train"])
    assert compat.lacks_tags(error)
    assert not compat.is_empty_saved_model(error)


def test_is_empty_saved_model_recognises_tensorflows_message(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert compat.is_empty_saved_model(load_error(tmp_path, ["serve"]))


def test_status_number_is_the_number_of_tensorflows_errors():
    assert compat.status_number(grpc.StatusCode.INVALID_ARGUMENT) == tf.errors.INVALID_ARGUMENT == 3
    assert {compat.status_number(code) for code in grpc.StatusCode} == set(range(17))
