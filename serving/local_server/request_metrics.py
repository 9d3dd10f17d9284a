"""Prometheus metrics of the server, under TensorFlow Serving's names."""

from __future__ import annotations

import prometheus_client

from serving.local_server.status import StatusError

_COUNT = ":tensorflow:serving:request_count"

_BUCKETS = [10 * 1.8**power for power in range(33)]
"""Upper bounds of the histograms, in microseconds."""


class Metrics:
    """Counters and histograms of one server."""

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

    def count_success(self, model: str, entrypoint: str, seconds: float) -> None:
        """Counts a successful request and its latency; `entrypoint` is GRPC or REST."""
        self._requests.labels(model, "OK").inc()
        self._request_latency.labels(model, "Predict", entrypoint).observe(seconds * 1e6)

    def count_failure(self, model: str, error: StatusError) -> None:
        """Counts a failed request."""
        self._requests.labels(model, error.code.name).inc()

    def observe_run(self, model: str, seconds: float) -> None:
        """Records the latency of a session's run, including the wait for its batch."""
        self._runtime_latency.labels(model, "Predict", "TF1").observe(seconds * 1e6)

    def page(self) -> bytes:
        """Returns all metrics in Prometheus's text format."""
        text = prometheus_client.generate_latest(self._registry)
        # prometheus_client ends the names of counters with _total; TensorFlow Serving does not.
        lines = text.replace(f"{_COUNT}_total".encode(), _COUNT.encode()).splitlines(keepends=True)
        return b"".join(line for line in lines if b"_created" not in line)
