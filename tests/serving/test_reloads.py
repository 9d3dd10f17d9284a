"""Versions that change under load: no request fails, and each answer is of one whole version.

The short form sends 1,000 requests, `STORYGAN_REQUESTS=10000` as many. With `STORYGAN_SERVING_TARGET=host:port` they go
to a real server instead of the local one. It serves `half` from the folder `STORYGAN_SERVING_BASE`, which must have the
same path on the server as here (docs/serving.md, Load and faults).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

REQUESTS = int(os.environ.get("STORYGAN_REQUESTS", "1000"))
TARGET = os.environ.get("STORYGAN_SERVING_TARGET", "")
BASE = os.environ.get("STORYGAN_SERVING_BASE", "")

CALLERS = 4
DAMAGED = 2
"""Which of the five changes adds a version that cannot be loaded."""

AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


@contextlib.contextmanager
def served(models, tmp_path, start_process, port_finder, batching):
    """Gives the target, the model base directory, and the number of the version in it."""
    base, put = models
    if TARGET:
        if batching:
            pytest.skip("the server that is named batches or does not, as it was started")
        base = Path(BASE)
        first = max([int(path.name) for path in base.iterdir() if path.name.isdigit()], default=0) + 1
        put(first, into=base)
        yield TARGET, base, first
        return
    port = port_finder()
    flags = [f"--port={port}", "--model_name=half", f"--model_base_path={base}", f"--enable_batching={batching}"]
    with start_process(tmp_path, *flags, "--load_retry_interval_micros=100000"):
        yield f"localhost:{port}", base, 1


def request(label=None) -> predict_pb2.PredictRequest:
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "half"
    message.model_spec.signature_name = "whole"
    if label:
        message.model_spec.version_label = label
    message.inputs["n"].CopyFrom(tf.make_tensor_proto(np.array([1], np.int64)))
    return message


def read(answer) -> tuple[int, float, float]:
    """Returns the version in the answer's `model_spec`, and those of the weights and of the graph that were run."""
    weights, graph = (answer.outputs[name].float_val[0] for name in ("of_weights", "of_graph"))
    return answer.model_spec.version.value, weights, graph


@contextlib.contextmanager
def stub_of(target):
    with grpc.insecure_channel(target) as channel:
        yield model_service_pb2_grpc.ModelServiceStub(channel)


def state(target: str, number: int) -> tuple[int | None, str]:
    """Returns the state of a version and a description; None without a state."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half"
    with stub_of(target) as stub:
        try:
            answer = stub.GetModelStatus(request, 120)
        except grpc.RpcError as error:
            return None, error.code().name
    versions = {version.version: version for version in answer.model_version_status}
    return (versions[number].state, str(versions[number])) if number in versions else (None, f"no version {number}")


def until_available(target: str, *numbers: int) -> None:
    for number in numbers:
        for _ in range(3000):
            current, text = state(target, number)
            if current == AVAILABLE:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"version {number} did not become available: {text}")


def until_tried(target: str, number: int) -> None:
    """Waits until a damaged version has a state, and a second longer, in which it may be tried again."""
    for _ in range(3000):
        if state(target, number)[0] is not None:
            break
        time.sleep(0.1)
    else:
        raise AssertionError(f"version {number} was not found: {state(target, number)}")
    time.sleep(1)
    assert state(target, number)[0] != AVAILABLE


def print_counts(callers) -> None:
    versions = sorted({version for version, _, _ in callers.answers})
    print(f"\n{len(callers.answers)} requests, {sum(callers.failures.values())} failed, of versions {versions}")


@pytest.mark.parametrize("batching", [False, True])
def test_models_are_replaced_under_load_and_no_reloadfails(
    models, tmp_path, start_process, port_finder, load, batching
):
    _, put = models
    with served(models, tmp_path, start_process, port_finder, batching) as (target, base, first):
        until_available(target, first)
        with load(target, CALLERS, request(), read) as callers:
            for change in range(5):
                callers.until(REQUESTS * (change + 1) // 6)
                number = first + 1 + change
                put(number, damaged=change == DAMAGED, into=base)
                if change == DAMAGED:
                    until_tried(target, number)
                else:
                    until_available(target, number)
            callers.until(max(REQUESTS, len(callers.answers) + 100))
    print_counts(callers)
    assert not callers.failures
    whole = set(range(first, first + 6)) - {first + 1 + DAMAGED}
    assert {version for version, _, _ in callers.answers} == whole
    assert all(version == weights == graph for version, weights, graph in callers.answers), "an answer of two versions"


@pytest.mark.parametrize("batching", [False, True])
def test_a_label_is_moved_and_moved_back_under_load(models, tmp_path, start_process, port_finder, load, batching):
    _, put = models
    with served(models, tmp_path, start_process, port_finder, batching) as (target, base, first):
        until_available(target, first)
        put(first + 1, into=base)
        with stub_of(target) as stub:

            def label(stable: int | None) -> None:
                labels = f'version_labels {{ key: "stable" value: {stable} }}' if stable else ""
                text = (
                    f'model_config_list {{ config {{ name: "half" base_path: "{base}" model_platform: "tensorflow" '
                    f"model_version_policy {{ specific {{ versions: {first} versions: {first + 1} }} }} {labels} }} }}"
                )
                reload = model_management_pb2.ReloadConfigRequest()
                text_format.Parse(text, reload.config)
                assert stub.HandleReloadConfigRequest(reload, 300).status.error_code == 0

            label(None)
            until_available(target, first, first + 1)
            label(first)
            with load(target, CALLERS, request("stable"), read) as callers:
                for change in range(1, 5):
                    callers.until(REQUESTS * change // 5)
                    label(first + change % 2)
                callers.until(REQUESTS)
    print_counts(callers)
    assert not callers.failures
    assert {version for version, _, _ in callers.answers} == {first, first + 1}
    assert all(version == weights == graph for version, weights, graph in callers.answers), "an answer of two versions"
