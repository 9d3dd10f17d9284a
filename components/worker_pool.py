"""Beam's Python workers for runners that start them by address.

They are threads of this process, as LOOPBACK has them, or processes of a pool beside a task manager:

    python -m components.worker_pool --port 50000

Beam's own pool goes wrong with more than one task manager, and with more than one job at a time on one: all name their
workers alike, so that to stop one by its name stops another's, and workers of one that was killed are kept for good.
Here a worker ends when its connection does.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import subprocess
import sys
import threading
import traceback
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker.sdk_worker import SdkHarness
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from apache_beam.utils.sentinel import Sentinel

_STATE_CACHE_BYTES = 100 << 20
"""Beam's own default."""


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
    """Starts a process for whoever asks, so that a job finds nothing that another left in memory."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._started: list[subprocess.Popen[bytes]] = []

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802
        del context
        self._started = [process for process in self._started if process.poll() is None]  # Others are waited for.
        told = ["--control", request.control_endpoint.url, "--worker", request.worker_id]
        try:
            self._started.append(subprocess.Popen([sys.executable, "-m", "components.worker_pool", *told]))
        except OSError:
            return beam_fn_api_pb2.StartWorkerResponse(error=traceback.format_exc())
        return beam_fn_api_pb2.StartWorkerResponse()


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
    """Serves processes at a port until it is ended, or is one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=50000, help="at which task managers ask for workers")
    parser.add_argument("--control", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if given.control:
        _work(_Harness(given.control, worker_id=given.worker, state_cache_size=_STATE_CACHE_BYTES))
        os._exit(0)  # Threads of what it ran would keep it.
    _address, server = _ProcessPool.start(port=given.port)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
