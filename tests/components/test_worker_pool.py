"""Workers as threads of this process and as processes of a pool: they run a job, and nothing of them is left behind."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.worker.sdk_worker import SdkHarness
from apache_beam.transforms.environments import ExternalEnvironment

from components.compat import NO_SDK_PACKAGE
from components.worker_pool import serve_workers

OPTIONS = PipelineOptions([NO_SDK_PACKAGE])


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until a condition is true; fails only if it never is."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def workers() -> list[SdkHarness]:
    """Returns the Beam workers in this process's memory."""
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, SdkHarness)]


def test_a_thread_worker_runs_a_job_and_is_released(tmp_path):
    before = weakref.WeakSet(workers())
    file = tmp_path / "result"
    runner = FnApiRunner(default_environment=ExternalEnvironment(serve_workers()))
    with beam.Pipeline(runner=runner, options=OPTIONS) as pipeline:
        _ = pipeline | beam.Create([3]) | beam.Map(lambda value: file.write_text(str(value * 2)))
    assert file.read_text() == "6"
    wait_for(lambda: all(worker in before for worker in workers()))


@contextlib.contextmanager
def connected(address):
    """Yields a client of a worker pool."""
    with grpc.insecure_channel(address) as channel:
        yield beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)


def test_stopping_a_worker_by_its_name_does_nothing():
    with connected(serve_workers()) as pool:
        response = pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"))
    assert response == beam_fn_api_pb2.StopWorkerResponse()


def test_a_worker_that_cannot_start_is_an_error_in_the_response(monkeypatch):
    def connect(control_address, worker_id):
        raise ConnectionError(f"{worker_id} cannot reach {control_address}")

    monkeypatch.setattr("components.worker_pool.connect_worker", connect)
    request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1")
    request.control_endpoint.url = "nowhere:1"
    with connected(serve_workers()) as pool:
        response = pool.StartWorker(request)
    assert "ConnectionError: 1-1 cannot reach nowhere:1" in response.error


@pytest.fixture
def process_pool(tmp_path):
    """Yields the address and the process of a pool of processes at a free port."""
    log = tmp_path / "pool.log"
    command = [sys.executable, "-m", "components.worker_pool", "--port", "0", "--preload", "wave"]

    def address():
        return re.search(r"Listening for workers at (localhost:\d+)\n", log.read_text())

    def is_ready():
        assert process.poll() is None, log.read_text()
        return address() is not None

    with log.open("wb") as output, subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=output) as process:
        try:
            wait_for(is_ready)
            yield address().group(1), process
        finally:
            process.terminate()


def run_job(file: Path, address: str) -> tuple[int, int, bool]:
    """Runs a job on one worker, and returns its process id, its parent's, and whether it has the preloaded module."""

    def write_process(_):
        file.write_text(json.dumps([os.getpid(), os.getppid(), "wave" in sys.modules]))

    runner = FnApiRunner(default_environment=ExternalEnvironment(address))
    with beam.Pipeline(runner=runner, options=OPTIONS) as pipeline:
        _ = pipeline | beam.Create([1]) | beam.Map(write_process)
    return tuple(json.loads(file.read_text()))


def has_ended(pid: int) -> bool:
    try:
        return "(zombie)" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_each_job_has_a_process_with_the_preloaded_modules_that_ends_with_the_job(process_pool, tmp_path):
    address, process = process_pool
    first, forkserver, preloaded = run_job(tmp_path / "first", address)
    second, _, _ = run_job(tmp_path / "second", address)
    assert len({first, second, forkserver, process.pid, os.getpid()}) == 5
    assert preloaded
    wait_for(lambda: has_ended(first) and has_ended(second))
    process.terminate()
    wait_for(lambda: has_ended(forkserver))
