"""A gRPC service that starts Beam's Python workers on request of a runner.

Workers are threads of this process (`serve_workers`, for LOOPBACK), or processes of a pool next to a task manager:

    python -m components.worker_pool --port 50000 --preload pipeline.beam_preparation

Beam's own pool fails with more than one task manager, and with more than one job at a time on one task manager. All
task managers give their workers the same names, so stopping a worker by name stops that of another task manager, and
the workers of a task manager that was killed are never released. Here a worker ends when its connection ends.
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
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from components.compat import connect_worker, request_threads, run_worker

_FORKSERVER = multiprocessing.get_context("forkserver")

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _ThreadPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts a worker as a thread of this process for each request."""

    def StartWorker(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Starts a worker.

        Args:
            request: Beam's `StartWorkerRequest`: the address to connect to and the worker's name.
            context: gRPC's context; not used.

        Returns:
            Beam's `StartWorkerResponse`, with a traceback if the worker could not be started.
        """
        del context
        try:
            self._start(request.control_endpoint.url, request.worker_id)
        except Exception:
            return beam_fn_api_pb2.StartWorkerResponse(error=traceback.format_exc())
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Does nothing: the runner closes the connection next, and the name may be that of several workers."""
        del request, context
        return beam_fn_api_pb2.StopWorkerResponse()

    def _start(self, control_address: str, worker_id: str) -> None:
        worker = connect_worker(control_address, worker_id)
        threading.Thread(target=_run, args=[worker], name=f"worker {worker_id}", daemon=True).start()


class _ProcessPool(_ThreadPool):
    """Starts a worker as a separate process for each request, so that jobs share no state in memory.

    Flink stops a job's workers whenever a machine has no stage of the job to run. So that workers start fast, processes
    are forked from one that has only imported the modules that they need.
    """

    def _start(self, control_address: str, worker_id: str) -> None:
        multiprocessing.active_children()  # Reaps processes that have ended.
        _FORKSERVER.Process(target=_run_alone, args=(control_address, worker_id), daemon=True).start()


def _run_alone(control_address: str, worker_id: str) -> None:
    """Runs one worker, and then ends this process."""
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    _run(connect_worker(control_address, worker_id))
    os._exit(0)  # Threads that the worker's code left running would keep the process alive.


def _run(worker: Any) -> None:
    """Runs a worker of `connect_worker` until its connection ends."""
    try:
        run_worker(worker)
    except grpc.RpcError as error:
        logging.getLogger(__name__).info("a worker lost its connection: %s", error)


def serve_workers() -> str:
    """Starts this process's pool of thread workers on the first call, and returns its address, `localhost:PORT`.

    The pool ends with the process.
    """
    address, _server = _thread_pool()
    return address


@functools.cache
def _thread_pool() -> tuple[str, grpc.Server]:
    return _serve(_ThreadPool(), port=0)


def _serve(pool: _ThreadPool, port: int) -> tuple[str, grpc.Server]:
    """Starts a gRPC server for a pool, and returns its address and the server.

    Args:
        pool: the service.
        port: the port to listen at; 0 for any free one.
    """
    options = [("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0)]
    server = grpc.server(request_threads(), options=options)
    address = f"localhost:{server.add_insecure_port(f'[::]:{port}')}"
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.start()
    logging.getLogger(__name__).info("Listening for workers at %s", address)
    return address, server


def main() -> None:
    """Serves a pool of process workers at a port until the process is terminated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=50000, help="port to listen at for requests of task managers")
    parser.add_argument("--preload", nargs="*", default=[], help="modules that workers need, imported in advance")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    _FORKSERVER.set_forkserver_preload(
        ["components.worker_pool", "apache_beam.runners.worker.sdk_worker", *options.preload]
    )
    forkserver.ensure_running()
    _address, server = _serve(_ProcessPool(), options.port)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
