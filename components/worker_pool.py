"""Beam's Python workers for runners that start them by address.

They are threads of this process, as LOOPBACK has them, or processes of a pool beside a task manager:

    python -m components.worker_pool --port 50000 --preload pipeline.beam_preparation

Beam's own pool goes wrong with more than one task manager, and with more than one job at a time on one: all name their
workers alike, so that to stop one by its name stops another's, and workers of one that was killed are kept for good.
Here a worker ends when its connection does.
"""

from __future__ import annotations

import argparse
import functools
import logging
import multiprocessing
import os
import threading
import traceback
from multiprocessing import forkserver
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker.sdk_worker import SdkHarness
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from apache_beam.utils.sentinel import Sentinel

_STATE_CACHE_BYTES = 100 << 20
"""Beam's own default."""

_FORKS = multiprocessing.get_context("forkserver")

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Harness(SdkHarness):
    """A worker that lets go of its thread for answers also where its connection is lost."""

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._responses.put(Sentinel.sentinel)


class _WorkerPool(BeamFnExternalWorkerPoolServicer):
    """Starts a worker for whoever asks."""

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC calls it so.
        del context
        try:
            harness = _Harness(
                request.control_endpoint.url, worker_id=request.worker_id, state_cache_size=_STATE_CACHE_BYTES
            )
        except Exception:
            return beam_fn_api_pb2.StartWorkerResponse(error=traceback.format_exc())
        threading.Thread(target=_work, args=[harness], name=f"worker {request.worker_id}", daemon=True).start()
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Does nothing: whoever asks closes the connection next, and a name does not tell which worker is meant."""
        del request, context
        return beam_fn_api_pb2.StopWorkerResponse()


class _ProcessPool(_WorkerPool):
    """Starts a process for whoever asks, so that a job finds nothing that another left in memory.

    Flink stops a job's workers whenever a machine has no stage of it to run. So that a worker starts at once, processes
    are forked off one that has imported everything, and done nothing else.
    """

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
        del context
        multiprocessing.active_children()  # Those that have ended are waited for.
        told = (request.control_endpoint.url, request.worker_id)
        try:
            _FORKS.Process(target=_work_alone, args=told, daemon=True).start()
        except OSError:
            return beam_fn_api_pb2.StartWorkerResponse(error=traceback.format_exc())
        return beam_fn_api_pb2.StartWorkerResponse()


def _work_alone(control: str, worker: str) -> None:
    """Is all that a process of the pool does."""
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    _work(_Harness(control, worker_id=worker, state_cache_size=_STATE_CACHE_BYTES))
    os._exit(0)  # Threads of what it ran would keep it.


def _work(harness: _Harness) -> None:
    try:
        harness.run()
    except grpc.RpcError as error:
        logging.getLogger(__name__).info("a worker lost its connection: %s", error)


def serve_workers() -> str:
    """Returns the address of this process's pool, which is started by the first call and ends with the process."""
    address, _server = _serve()
    return address


@functools.cache
def _serve() -> tuple[str, Any]:
    return _WorkerPool.start()


def main() -> None:
    """Serves processes at a port until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=50000, help="at which a task manager asks for workers")
    parser.add_argument("--preload", nargs="*", default=[], help="modules that every worker will need")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    _FORKS.set_forkserver_preload(["components.worker_pool", *given.preload])
    forkserver.ensure_running()
    _address, server = _ProcessPool.start(port=given.port)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
