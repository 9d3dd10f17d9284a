"""Small models, the local server in a thread of this process or as a process of its own, and callers that load it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import functools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Returns a port below those that the system gives to connections, so that none takes it before the server does."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


def make_model(path: Path, offset: float = 2.0) -> Path:
    """Writes a version whose `serving_default` is x / 2 + offset; `add` has two inputs, `slow` loops n times.

    `whole` returns the offset twice: from the weights, and from the graph.
    """
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

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "n")])
    def whole(n):
        shape = tf.shape(n)
        return {"of_weights": tf.fill(shape, module.offset), "of_graph": tf.fill(shape, tf.constant(offset))}

    signatures = {"serving_default": half, "add": add, "slow": slow, "shout": shout, "whole": whole}
    tf.saved_model.save(module, str(path), signatures=signatures)
    return path


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> Path:
    """A version directory that tests share: copy it to change it."""
    return make_model(tmp_path_factory.mktemp("models") / "half" / "1")


@pytest.fixture(scope="session")
def saved_blocks():
    """The pretrained model, loaded in this process; tests share it."""
    from storygan_tf.export.loaded_model import SavedStoryGAN

    return SavedStoryGAN("blocks")


class Running:
    """A server in a thread. `stop` stops it; `error` is then what it failed with, or None."""

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
    from serving.local_server.server_options import ServerOptions

    defaults = {
        "port": free_port(),
        "rest_api_port": free_port(),
        "model_name": "half",
        "load_retry_interval_micros": 50_000,
        "enable_grpc_healthcheck_service": True,
    }
    server = Running(ServerOptions(**defaults | options))
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
    from storygan_tf.common.model_paths import PRETRAINED

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


@contextlib.contextmanager
def process(folder: Path, *flags, command=("serving.local_server",)):
    """Gives a server process; its log is `folder / "log"`."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", *command, *map(str, flags)],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
        )
        try:
            yield started
        finally:
            started.kill()
            started.wait()


def wait_for(log: Path, words: str, seconds: float = 300) -> None:
    """Waits until a log has some words."""
    for _ in range(int(seconds * 10)):
        if words in log.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"{words!r} did not come within {seconds} s:\n{log.read_text()}")


class Load:
    """Threads that send a request again and again until `end`; `read` converts each response to an answer."""

    def __init__(self, target: str, callers: int, request, read, pause: float = 0.0) -> None:
        self.answers: list = []
        self.failures: collections.Counter[str] = collections.Counter()
        self._request, self._read, self._pause = request, read, pause
        self._end = threading.Event()
        self._channel = grpc.insecure_channel(target, [("grpc.max_receive_message_length", -1)])
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]
        for thread in self._threads:
            thread.start()

    def _call(self) -> None:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        while not self._end.wait(self._pause):
            try:
                self.answers.append(self._read(stub.Predict(self._request, 300)))
            except grpc.RpcError as error:
                self.failures[f"{error.code().name}: {error.details()}"] += 1

    def until(self, count: int, seconds: float = 600) -> None:
        """Waits until there are `count` answers."""
        end = time.monotonic() + seconds
        while len(self.answers) < count:
            assert time.monotonic() < end, f"{len(self.answers)} answers within {seconds} s, expected {count}"
            time.sleep(0.02)

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.end()


@dataclasses.dataclass(frozen=True)
class Subject:
    """A StoryGAN server in a process of its own, which a proof sends requests to.

    Attributes:
        target: host:port of gRPC.
        rest: host:port of REST; empty for none.
        pid: id of the process; empty if it is not known.
    """

    target: str
    rest: str
    pid: str

    @functools.cached_property
    def stories(self) -> list[list[str]]:
        """The stories that the model suggests."""
        with grpc.insecure_channel(self.target) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            answer = stub.Predict(self.request("info", query=[b""]), 300)
        return json.loads(answer.outputs["info"].string_val[0])["examples"]

    @property
    def frames(self) -> int:
        return len(self.stories[0])

    def request(self, signature: str, **inputs) -> predict_pb2.PredictRequest:
        import tensorflow as tf

        message = predict_pb2.PredictRequest()
        message.model_spec.name = "storygan"
        message.model_spec.signature_name = signature
        for name, values in inputs.items():
            message.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        return message

    def memory(self) -> float:
        """Returns the resident megabytes of the process; 0 if it is not known."""
        if not self.pid:
            return 0.0
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextlib.contextmanager
def proven(folder: Path, *flags):
    """Gives the server that the environment names, or a local server with the pretrained model."""
    from storygan_tf.common.model_paths import PRETRAINED

    if target := os.environ.get("STORYGAN_SERVING_TARGET"):
        rest, pid = (os.environ.get(f"STORYGAN_SERVING_{name}", "") for name in ("REST", "PID"))
        yield Subject(target, rest, pid)
        return
    base, port, rest = folder / "models", free_port(), free_port()
    base.mkdir()
    (base / "1").symlink_to(PRETRAINED / "blocks", target_is_directory=True)
    model = ["--model_name=storygan", f"--model_base_path={base}"]
    with process(folder, f"--port={port}", f"--rest_api_port={rest}", *model, *flags) as started:
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=300)
        yield Subject(f"localhost:{port}", f"localhost:{rest}", str(started.pid))
        assert started.poll() is None, "the server has ended"


@pytest.fixture
def prove(tmp_path):
    """Gives `proven`: a context manager of flags to a `Subject`."""
    return functools.partial(proven, tmp_path)


@pytest.fixture(scope="session")
def deployed_batching():
    """The flags of batching as it is deployed."""
    from serving import tf_serving

    config = Path(tf_serving.__file__).parent / "kustomize" / "base" / "config" / "batching.config"
    return ["--enable_batching", f"--batching_parameters_file={config}"]


@pytest.fixture(scope="session")
def start_process():
    """Gives `process`: a context manager of a folder and flags to a server process."""
    return process


@pytest.fixture(scope="session")
def wait_for_words():
    """Gives `wait_for`: waits until a log has some words."""
    return wait_for


@pytest.fixture(scope="session")
def load():
    """Gives `Load`."""
    return Load


@pytest.fixture
def models(new_model, tmp_path):
    """A model base directory with version 1, and a function that adds version n, whose offset is n."""
    base = tmp_path / "models"
    base.mkdir()

    def put(number: int, damaged: bool = False, into: Path = base) -> None:
        version = new_model(tmp_path / f"new-{number}", float(number))
        if damaged:
            (version / "saved_model.pb").write_bytes(b"damaged")
        shutil.copytree(version, into / f".{number}")  # it may be another file system
        (into / f".{number}").rename(into / str(number))

    put(1)
    return base, put
