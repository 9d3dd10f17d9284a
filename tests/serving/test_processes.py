"""The local server as processes under load on loopback: replaced models, rollbacks, ends, damaged models."""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def process(folder: Path, *flags, command=("serving.local_server",)):
    """Gives a server process; its log is `folder / "log"`."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", *command, *map(str, flags)],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
        )
        try:
            yield started
        finally:
            started.kill()
            started.wait()


def wait_for(log: Path, words: str, seconds: float = 90) -> None:
    for _ in range(int(seconds * 10)):
        if words in log.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"{words!r} did not come within {seconds} s:\n{log.read_text()}")


def request(value=2.0, label=None, signature="", n=None):
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "half"
    made.model_spec.signature_name = signature
    if label:
        made.model_spec.version_label = label
    if n is None:
        made.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([value], np.float32)))
    else:
        made.inputs["n"].CopyFrom(tf.make_tensor_proto(np.array([n], np.int64)))
    return made


class Load:
    """Callers that ask without a pause, until told to end."""

    def __init__(self, target: str, callers: int, made) -> None:
        self.made = made
        self.answers: list[tuple[int, float]] = []
        self.failures: collections.Counter[str] = collections.Counter()
        self._end = threading.Event()
        self._channel = grpc.insecure_channel(target)
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]
        for thread in self._threads:
            thread.start()

    def _call(self) -> None:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        while not self._end.is_set():
            try:
                answer = stub.Predict(self.made, 60)
                self.answers.append((answer.model_spec.version.value, answer.outputs["y"].float_val[0]))
            except grpc.RpcError as error:
                self.failures[f"{error.code().name}: {error.details()}"] += 1

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()


@pytest.fixture
def models(small_model, new_model, tmp_path):
    """A model base directory, and what puts a version into it: version n answers 1 + n."""
    base = tmp_path / "models"
    base.mkdir()

    def put(number: int, damaged: bool = False) -> None:
        aside = new_model(tmp_path / f"made-{number}", float(number))
        if damaged:
            (aside / "saved_model.pb").write_bytes(b"damaged")
        aside.rename(base / str(number))

    put(1)
    return base, put


@pytest.mark.parametrize("batching", [False, True])
def test_models_are_replaced_under_load_and_no_request_fails(models, tmp_path, port_finder, batching):
    base, put = models
    port = port_finder()
    flags = [f"--port={port}", "--model_name=half", f"--model_base_path={base}", f"--enable_batching={batching}"]
    with process(tmp_path, *flags, "--load_retry_interval_micros=100000", "--max_num_load_retries=1"):
        wait_for(tmp_path / "log", "Serving; ")
        load = Load(f"localhost:{port}", 4, request())
        for number in (2, 3):
            put(number)
            wait_for(tmp_path / "log", f"Successfully loaded servable version {{name: half version: {number}}}")
        put(4, damaged=True)
        wait_for(tmp_path / "log", "Retrying of Loading servable: {name: half version: 4} exhausted max_num_retries: 1")
        put(5)
        wait_for(tmp_path / "log", "Done unloading servable version {name: half version: 3}")
        load.end()
    assert not load.failures
    assert {version for version, _ in load.answers} == {1, 2, 3, 5}
    assert all(value == 1 + version for version, value in load.answers), "an answer was of two versions"


def test_a_label_is_moved_and_moved_back_under_load(models, tmp_path, port_finder):
    base, put = models
    put(2)
    port = port_finder()

    def config(stable):
        return text_format.Parse(
            f'model_config_list {{ config {{ name: "half" base_path: "{base}" model_platform: "tensorflow" '
            f'model_version_policy {{ all {{}} }} version_labels {{ key: "stable" value: {stable} }} }} }}',
            model_management_pb2.ReloadConfigRequest().config,
        )

    (tmp_path / "models.config").write_text(text_format.MessageToString(config(1)))
    flags = ["--model_config_file=" + str(tmp_path / "models.config"), "--allow_version_labels_for_unavailable_models"]
    with process(tmp_path, f"--port={port}", *flags):
        for number in (1, 2):
            wait_for(tmp_path / "log", f"Successfully loaded servable version {{name: half version: {number}}}")
        wait_for(tmp_path / "log", "Serving; ")
        load = Load(f"localhost:{port}", 4, request(label="stable"))
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            for stable in (2, 1, 2, 1):
                time.sleep(0.3)
                stub.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(config=config(stable)), 60)
        time.sleep(0.3)
        load.end()
    assert not load.failures
    assert {version for version, _ in load.answers} == {1, 2}


@pytest.mark.parametrize("batching", [False, True])
def test_told_to_end_it_finishes_what_it_has_accepted(models, tmp_path, port_finder, batching):
    base, _ = models
    port = port_finder()
    flags = [f"--port={port}", "--model_name=half", f"--model_base_path={base}", f"--enable_batching={batching}"]
    with process(tmp_path, *flags) as server:
        wait_for(tmp_path / "log", "Serving; ")
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            long = [stub.Predict.future(request(signature="slow", n=50_000), 100) for _ in range(8)]
            load = Load(f"localhost:{port}", 4, request())
            time.sleep(1)
            server.send_signal(signal.SIGTERM)
            values = [answer.result().outputs["done"].float_val[0] for answer in long]
            load.end()
        assert server.wait(60) == 0
    assert len(values) == 8
    assert load.answers
    # What reached the connection while it was being closed was not accepted: gRPC cancels it.
    refused = ("UNAVAILABLE", "CANCELLED")
    assert all(told.startswith(refused) for told in load.failures), load.failures
    assert sum(count for told, count in load.failures.items() if told.startswith("CANCELLED")) <= 4, "one a caller"


def test_a_damaged_model_at_the_start_is_reported_and_tried_again(models, tmp_path, port_finder):
    base, put = models
    shutil.rmtree(base / "1")
    put(3, damaged=True)
    flags = [f"--port={port_finder()}", "--model_name=half", f"--model_base_path={base}"]
    with process(tmp_path, *flags, "--load_retry_interval_micros=100000", "--max_num_load_retries=2") as server:
        assert server.wait(90) == 1
    log = (tmp_path / "log").read_text()
    assert log.count("Loading servable: {name: half version: 3} failed: DATA_LOSS: Can't parse") == 3
    assert "Failed to start server. Error: UNKNOWN: 1 model(s) did not become available" in log


def test_it_waits_for_the_first_version(models, tmp_path, port_finder):
    base, put = models
    shutil.rmtree(base / "1")
    with process(tmp_path, f"--port={port_finder()}", "--model_name=half", f"--model_base_path={base}") as server:
        wait_for(tmp_path / "log", "No versions of servable half found under base path")
        put(1)
        wait_for(tmp_path / "log", "Serving; ")
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def test_a_port_that_is_taken_is_told(models, tmp_path, port_finder):
    base, _ = models
    port = port_finder()
    flags = [f"--port={port}", "--model_name=half", f"--model_base_path={base}"]
    (tmp_path / "second").mkdir()
    with process(tmp_path, *flags):
        wait_for(tmp_path / "log", "Serving; ")
        with process(tmp_path / "second", *flags) as second:
            assert second.wait(90) == 1
    assert f"0.0.0.0:{port}: cannot be listened at" in (tmp_path / "second" / "log").read_text()


def test_the_command_serves_a_pretrained_model(tmp_path, port_finder):
    from serving.client import StoryClient

    port, rest = port_finder(), port_finder()
    flags = ["serve", "--model", "blocks", "--port", port, "--rest-port", rest, "--enable_batching"]
    with process(tmp_path, *flags, command=("storygan_cli",)) as server:
        wait_for(tmp_path / "log", "Serving; ")
        assert "stands in for TensorFlow Serving in development and tests" in (tmp_path / "log").read_text()
        with StoryClient(f"localhost:{port}") as client:
            assert len(client.generate(client.info().examples[0]).frames) == 4
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


def test_the_command_refuses_what_it_does_not_implement(tmp_path):
    with process(tmp_path, "serve", "--model", "blocks", "--enable_profiler", command=("storygan_cli",)) as server:
        assert server.wait(60) == 1
    assert "--enable_profiler: is a flag of tensorflow_model_server that the local" in (tmp_path / "log").read_text()
