"""The local server as processes on loopback: how it starts, stops, and fails to start."""

from __future__ import annotations

import shutil
import signal

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

pytestmark = pytest.mark.slow


def request(signature, n):
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "half"
    message.model_spec.signature_name = signature
    message.inputs["n"].CopyFrom(tf.make_tensor_proto(np.array([n], np.int64)))
    return message


@pytest.mark.parametrize("batching", [False, True])
def test_on_sigterm_it_finishes_the_accepted_requests(
    models, tmp_path, port_finder, batching, start_process, wait_for_words, load
):
    base, _ = models
    port = port_finder()
    flags = [f"--port={port}", "--model_name=half", f"--model_base_path={base}", f"--enable_batching={batching}"]
    with start_process(tmp_path, *flags) as server:
        wait_for_words(tmp_path / "log", "Serving; ")
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            long = [stub.Predict.future(request("slow", 50_000), 300) for _ in range(8)]
            callers = load(f"localhost:{port}", 4, request("whole", 1), lambda answer: answer.model_spec.version.value)
            # It is answered after the server has accepted what was sent before it on the same connection.
            status = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "half"})
            model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status, timeout=300)
            callers.until(4)
            server.send_signal(signal.SIGTERM)
            values = [answer.result().outputs["done"].float_val[0] for answer in long]
            callers.end()
        assert server.wait(300) == 0
    assert len(values) == 8
    assert callers.answers
    # A request that arrived while the connection was being closed was not accepted: gRPC cancels it.
    refused = ("UNAVAILABLE", "CANCELLED")
    assert all(failure.startswith(refused) for failure in callers.failures), callers.failures


def test_a_damaged_model_at_the_start_is_reported_and_tried_again(models, tmp_path, port_finder, start_process):
    base, put = models
    shutil.rmtree(base / "1")
    put(3, damaged=True)
    flags = [f"--port={port_finder()}", "--model_name=half", f"--model_base_path={base}"]
    with start_process(tmp_path, *flags, "--load_retry_interval_micros=100000", "--max_num_load_retries=2") as server:
        assert server.wait(300) == 1
    log = (tmp_path / "log").read_text()
    assert log.count("Loading servable: {name: half version: 3} failed: DATA_LOSS: Can't parse") == 3
    assert "Failed to start server. Error: UNKNOWN: 1 model(s) did not become available" in log


def test_it_waits_for_the_first_version(models, tmp_path, port_finder, start_process, wait_for_words):
    base, put = models
    shutil.rmtree(base / "1")
    with start_process(tmp_path, f"--port={port_finder()}", "--model_name=half", f"--model_base_path={base}") as server:
        wait_for_words(tmp_path / "log", "No versions of servable half found under base path")
        put(1)
        wait_for_words(tmp_path / "log", "Serving; ")
        server.send_signal(signal.SIGINT)
        assert server.wait(300) == 0


def test_a_port_that_is_taken_is_an_error(models, tmp_path, port_finder, start_process, wait_for_words):
    base, _ = models
    port = port_finder()
    flags = [f"--port={port}", "--model_name=half", f"--model_base_path={base}"]
    (tmp_path / "second").mkdir()
    with start_process(tmp_path, *flags):
        wait_for_words(tmp_path / "log", "Serving; ")
        with start_process(tmp_path / "second", *flags) as second:
            assert second.wait(300) == 1
    assert f"0.0.0.0:{port}: cannot be listened at" in (tmp_path / "second" / "log").read_text()


def test_the_command_serves_a_pretrained_model(tmp_path, port_finder, start_process, wait_for_words):
    from serving.client import StoryClient

    port, rest = port_finder(), port_finder()
    flags = ["serve", "--model", "blocks", "--port", port, "--rest-port", rest, "--enable_batching"]
    with start_process(tmp_path, *flags, command=("storygan_cli",)) as server:
        wait_for_words(tmp_path / "log", "Serving; ")
        assert "stands in for TensorFlow Serving in development and tests" in (tmp_path / "log").read_text()
        with StoryClient(f"localhost:{port}", timeout=120) as client:
            assert len(client.generate(client.info().examples[0]).frames) == 4
        server.send_signal(signal.SIGTERM)
        assert server.wait(300) == 0


def test_the_command_refuses_what_it_does_not_implement(tmp_path, start_process):
    with start_process(
        tmp_path, "serve", "--model", "blocks", "--enable_profiler", command=("storygan_cli",)
    ) as server:
        assert server.wait(300) == 1
    assert "--enable_profiler: is a flag of tensorflow_model_server that the local" in (tmp_path / "log").read_text()
