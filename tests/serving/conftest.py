"""Small models, and the local server in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def make_model(path: Path, offset: float = 2.0) -> Path:
    """Writes a version whose `serving_default` is x / 2 + offset; `add` has two inputs, `slow` loops n times."""
    import tensorflow as tf

    module = tf.Module()
    module.offset = tf.Variable(offset)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def half(x):
        return {"y": x / 2 + module.offset, "twice": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "a"), tf.TensorSpec([None], tf.int64, "b")])
    def add(a, b):
        return {"sum": tf.reduce_sum(a, axis=1) + tf.cast(b, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "n")])
    def slow(n):
        square = tf.ones([64, 64]) / 64
        total = tf.while_loop(
            lambda i, _: i < n[0], lambda i, s: (i + 1, s @ square), [tf.constant(0, tf.int64), square]
        )
        return {"done": tf.fill(tf.shape(n), total[1][0, 0])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def shout(texts):
        return {"raw_bytes": texts, "upper": tf.strings.upper(texts)}

    signatures = {"serving_default": half, "add": add, "slow": slow, "shout": shout}
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> Path:
    """A version directory; copy it, it is shared."""
    return make_model(tmp_path_factory.mktemp("models") / "half" / "1")


class Running:
    """A server that runs; `stop` ends it and returns what it ended with."""

    def __init__(self, options) -> None:
        self.options = options
        self.target = f"localhost:{options.port}"
        self.url = f"http://localhost:{options.rest_api_port}"
        self.error: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        from serving.local_server.server import serve

        async def until_stopped() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            self._started.set()
            await serve(self.options, self._stop, self._ready.set)

        self._started = threading.Event()
        try:
            asyncio.run(until_stopped())
        except BaseException as error:
            self.error = error
        self._ready.set()

    def wait(self) -> Running:
        assert self._ready.wait(120), "the server did not become ready"
        if self.error:
            raise self.error
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(120)
        assert not self._thread.is_alive()

    @contextlib.contextmanager
    def predictions(self):
        with grpc.insecure_channel(self.target) as channel:
            yield prediction_service_pb2_grpc.PredictionServiceStub(channel)

    @contextlib.contextmanager
    def models(self):
        with grpc.insecure_channel(self.target) as channel:
            yield model_service_pb2_grpc.ModelServiceStub(channel)


@contextlib.contextmanager
def serving(**options):
    """Gives a running server with free ports and fast polls and retries."""
    from serving.local_server.options import ServerOptions

    given = {
        "port": free_port(),
        "rest_api_port": free_port(),
        "model_name": "half",
        "load_retry_interval_micros": 50_000,
        "enable_grpc_healthcheck_service": True,
    }
    server = Running(ServerOptions(**given | options))
    try:
        yield server.wait()
    finally:
        server.stop()
    if server.error:
        raise server.error


@pytest.fixture(scope="session")
def start_server():
    """Gives `serving`: a context manager of options to a running server."""
    return serving


@pytest.fixture(scope="session")
def blocks_server(tmp_path_factory):
    """The pretrained model, served with batching as `storygan`."""
    from storygan_tf.places import PRETRAINED

    base = tmp_path_factory.mktemp("blocks")
    (base / "1").symlink_to(PRETRAINED / "blocks", target_is_directory=True)
    with serving(model_name="storygan", model_base_path=str(base), enable_batching=True) as server:
        yield server


@pytest.fixture(scope="session")
def new_model():
    """Gives `make_model`: path and offset to a version directory."""
    return make_model


@pytest.fixture(scope="session")
def port_finder():
    """Gives `free_port`."""
    return free_port
