"""What Prometheus is told, under TensorFlow Serving's names."""

from __future__ import annotations

import prometheus_client

from serving.local_server.status import StatusError

_COUNT = ":tensorflow:serving:request_count"

_BUCKETS = [10 * 1.8**power for power in range(33)]
"""Microseconds."""


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            _COUNT, "The total number of requests.", ["model_name", "status"], registry=self._registry
        )
        self._request_latency = prometheus_client.Histogram(
            ":tensorflow:serving:request_latency",
            "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
            ["model_name", "API", "entrypoint"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._runtime_latency = prometheus_client.Histogram(
            ":tensorflow:serving:runtime_latency",
            "Distribution of wall time (in microseconds) for Tensorflow runtime.",
            ["model_name", "API", "runtime"],
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def answered(self, model: str, entrypoint: str, seconds: float) -> None:
        """Counts a request that succeeded; `entrypoint` is GRPC or REST."""
        self._requests.labels(model, "OK").inc()
        self._request_latency.labels(model, "Predict", entrypoint).observe(seconds * 1e6)

    def failed(self, model: str, error: StatusError) -> None:
        """Counts a request that failed."""
        self._requests.labels(model, error.code.name).inc()

    def ran(self, model: str, seconds: float) -> None:
        """Counts a run of a session, the wait for its batch included."""
        self._runtime_latency.labels(model, "Predict", "TF1").observe(seconds * 1e6)

    def page(self) -> bytes:
        """Returns Prometheus's text format."""
        text = prometheus_client.generate_latest(self._registry)
        # The library ends the names of counters with _total; TensorFlow Serving does not.
        lines = text.replace(f"{_COUNT}_total".encode(), _COUNT.encode()).splitlines(keepends=True)
        return b"".join(line for line in lines if b"_created" not in line)
