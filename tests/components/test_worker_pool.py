"""Workers as threads of this process and as processes of a pool: they do a job's work, and nothing of them is left."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import apache_beam as beam
import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.worker.sdk_worker import SdkHarness
from apache_beam.transforms.environments import ExternalEnvironment

from components.worker_pool import serve_workers

OPTIONS = PipelineOptions(["--sdk_container_image=none"])


def harnesses() -> list[SdkHarness]:
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, SdkHarness)]


def test_it_does_a_jobs_work_and_leaves_nothing(tmp_path):
    file = tmp_path / "told"
    runner = FnApiRunner(default_environment=ExternalEnvironment(serve_workers()))
    with beam.Pipeline(runner=runner, options=OPTIONS) as pipeline:
        _ = pipeline | beam.Create([3]) | beam.Map(lambda value: file.write_text(str(value * 2)))
    assert file.read_text() == "6"
    until = time.monotonic() + 30
    while harnesses() and time.monotonic() < until:
        time.sleep(0.1)
    assert harnesses() == []


def test_to_stop_a_worker_by_its_name_stops_nobodys():
    with grpc.insecure_channel(serve_workers()) as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        answer = stub.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="1-1"))
    assert answer == beam_fn_api_pb2.StopWorkerResponse()


@pytest.fixture
def pool():
    """Gives the address of a pool of processes."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    command = ["-m", "components.worker_pool", "--port", address.partition(":")[2], "--preload", "wave"]
    with subprocess.Popen([sys.executable, *command], cwd=Path(__file__).parents[2]) as process:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=120)
        yield address, process
        process.terminate()


def work(file: Path, address: str) -> tuple[int, int, bool]:
    """Has a worker say who it is, and whether it has what was loaded for it."""

    def tell(_):
        file.write_text(json.dumps([os.getpid(), os.getppid(), "wave" in sys.modules]))

    runner = FnApiRunner(default_environment=ExternalEnvironment(address))
    with beam.Pipeline(runner=runner, options=OPTIONS) as pipeline:
        _ = pipeline | beam.Create([1]) | beam.Map(tell)
    return tuple(json.loads(file.read_text()))


def ended(pid: int) -> bool:
    until = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and "(zombie)" not in Path(f"/proc/{pid}/status").read_text():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def test_each_job_gets_a_process_that_has_everything_loaded_and_ends_with_it(pool, tmp_path):
    address, process = pool
    (first, forks, loaded), (second, _, _) = work(tmp_path / "first", address), work(tmp_path / "second", address)
    assert len({first, second, forks, process.pid, os.getpid()}) == 5
    assert loaded
    assert ended(first)
    assert ended(second)
    process.terminate()
    assert ended(forks)
