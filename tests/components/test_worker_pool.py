"""Workers as threads of this process: they do a job's work, and nothing of them is left after it."""

from __future__ import annotations

import gc
import time

import apache_beam as beam
import grpc
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
