"""Beam's Python workers as threads of this process, for runners that start them by address: what LOOPBACK does.

Beam's own pool goes wrong with more than one task manager: they name their workers alike, so that to stop one by its
name stops another's, and workers of one that was killed are kept for good. Here a worker ends when its connection does.
"""

from __future__ import annotations

import functools
import logging
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
