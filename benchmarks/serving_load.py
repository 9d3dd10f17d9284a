"""Times a served model with 1, 4, 16 and 64 callers, with and without batching, and compares it with direct calls.

    .venv/bin/python benchmarks/serving_load.py [--preset paper] [--weights float16] [--seconds 20] [--callers 1 4 16]
    .venv/bin/python benchmarks/serving_load.py --model M

The floor is the best rate of direct calls of the SavedModel in this process, with batches of 1 story up to the size in
batching.config. Then a server is measured: the local one, in a process of its own, or, with
`STORYGAN_SERVING_TARGET=host:port`, one that is already running and serves the same model. A caller sends one story and
waits for its pictures before it sends the next. The callers are coroutines of one process, so that they cost little
compared with the server. Stories a second and the 50th and 99th percentile of the time of a request are printed as a
table and as a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving import tf_serving
from serving.config_protos import BatchingParameters, read_text
from serving.story_io import DEFAULT_MODEL, GENERATE
from storygan_tf.config import presets
from storygan_tf.export.loaded_model import SavedStoryGAN
from storygan_tf.export.signatures import export_storygan, model_info
from storygan_tf.models.story_generator import StoryGenerator
from storygan_tf.text.hashed_ngram_encoder import embed

TARGET = "STORYGAN_SERVING_TARGET"

BATCHING = Path(tf_serving.__file__).parent / "kustomize" / "base" / "config" / "batching.config"

REQUEST_TIMEOUT = 120
"""Seconds after which a request counts as failed."""

WARM_UP = 0.1
"""Duration of the warm-up, as a fraction of the measured seconds."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Rate and request times of one setting.

    Attributes:
        name: name of the setting.
        stories_per_second: stories a second of all callers together.
        p50: median time of a request, in milliseconds.
        p99: 99th percentile of the time of a request, in milliseconds.
        failed: number of requests that failed.
    """

    name: str
    stories_per_second: float
    p50: float
    p99: float
    failed: int = 0

    @classmethod
    def from_requests(
        cls, name: str, requests: Sequence[float], seconds: float, rows: int = 1, failed: int = 0
    ) -> Measured:
        """Returns the rate and the times of requests.

        Args:
            name: name of the setting.
            requests: duration of each request, in seconds.
            seconds: duration of the whole measurement.
            rows: stories in each request.
            failed: number of requests that failed.
        """
        p50, p99 = (float(1000 * np.percentile(requests, q)) for q in (50, 99)) if requests else (np.nan, np.nan)
        return cls(name, rows * len(requests) / seconds, p50, p99, failed)


class _Vectorizer(tf.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def __call__(self, sentences: tf.Tensor) -> tf.Tensor:
        return embed(sentences, self.size)


def export_preset(preset: str, path: Path, *, half: bool = False) -> None:
    """Exports an untrained model of a preset's widths, which is as fast as a trained one.

    Args:
        preset: name of the preset.
        path: version directory to write.
        half: whether to store weights as float16.
    """
    settings = presets.load(preset)
    generator = StoryGenerator(settings.model)
    generator(tf.zeros([1, settings.model.frames, settings.model.sentence_size]))
    story = [f"A red cube is in place {number}." for number in range(settings.model.frames)]
    vectorizer = _Vectorizer(settings.model.sentence_size)
    export_storygan(generator, vectorizer, model_info(settings, [story], []), path, half=half)


def megabytes(folder: Path) -> float:
    """Returns the size of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def timed(name: str, call: Callable[[], object], seconds: float, rows: int) -> Measured:
    """Calls a function repeatedly for `seconds` after a warm-up, and returns the rate and times of the calls."""
    end_of_warm_up = time.perf_counter() + WARM_UP * seconds
    while time.perf_counter() < end_of_warm_up:
        call()
    requests, started = [], time.perf_counter()
    while (now := time.perf_counter()) - started < seconds:
        call()
        requests.append(time.perf_counter() - now)
    return Measured.from_requests(name, requests, time.perf_counter() - started, rows)


def floors(model: Path, story: Sequence[str], sizes: Sequence[int], seconds: float) -> list[Measured]:
    """Measures direct calls of the SavedModel for each batch size."""
    generate = tf.saved_model.load(str(model)).signatures[GENERATE]
    measured = []
    for size in sizes:
        inputs = {"sentences": tf.constant([list(story)] * size), "seed": tf.range(size, dtype=tf.int64)}
        measured.append(
            timed(f"in process, batches of {size}", lambda inputs=inputs: generate(**inputs), seconds, size)
        )
    return measured


def story_request(story: Sequence[str]) -> predict_pb2.PredictRequest:
    """Returns the request that a caller sends."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = DEFAULT_MODEL
    request.model_spec.signature_name = GENERATE
    request.inputs["sentences"].CopyFrom(tf.make_tensor_proto([list(story)]))
    request.inputs["seed"].CopyFrom(tf.make_tensor_proto([7], tf.int64))
    return request


async def measure_server(
    name: str, target: str, request: predict_pb2.PredictRequest, callers: int, seconds: float
) -> Measured:
    """Measures a server under the load of concurrent callers, for `seconds` or until the first request has ended."""
    requests: list[float] = []
    failed = 0
    async with grpc.aio.insecure_channel(target, [("grpc.max_receive_message_length", -1)]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        # TensorFlow optimises a graph when it first runs.
        await asyncio.gather(*(stub.Predict(request, timeout=REQUEST_TIMEOUT) for _ in range(callers)))
        begin = time.perf_counter() + WARM_UP * seconds
        end = begin + seconds

        async def caller() -> None:
            nonlocal failed
            while (now := time.perf_counter()) < end or not (requests or failed):
                try:
                    await stub.Predict(request, timeout=REQUEST_TIMEOUT)
                except grpc.RpcError:
                    failed += 1
                    await asyncio.sleep(0.01)
                    continue
                if now >= begin:
                    requests.append(time.perf_counter() - now)

        await asyncio.gather(*(caller() for _ in range(callers)))
        taken = time.perf_counter() - begin
        return Measured.from_requests(f"{name}, {callers} callers", requests, taken, failed=failed)


def free_port() -> int:
    """Returns a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def local_server(model: Path, flags: Sequence[str]) -> Iterator[str]:
    """Starts the local server in a process of its own and yields its target, `host:port`."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "1").symlink_to(model, target_is_directory=True)
        options = [f"--port={port}", f"--model_name={DEFAULT_MODEL}", f"--model_base_path={folder}", *flags]
        command = [sys.executable, "-W", "ignore", "-m", "serving.local_server", *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                with grpc.insecure_channel(f"localhost:{port}") as channel:
                    grpc.channel_ready_future(channel).result(timeout=120)
                yield f"localhost:{port}"
            finally:
                server.send_signal(signal.SIGTERM)


def served(model: Path, story: Sequence[str], callers: Sequence[int], seconds: float) -> list[Measured]:
    """Measures the server that the environment names, or the local one with and without batching."""
    request = story_request(story)
    if target := os.environ.get(TARGET):
        return [asyncio.run(measure_server(target, target, request, count, seconds)) for count in callers]
    measured = []
    batching = ["--enable_batching", f"--batching_parameters_file={BATCHING}"]
    for name, flags in (("local server", []), ("local server, batching", batching)):
        with local_server(model, flags) as local:
            measured += [asyncio.run(measure_server(name, local, request, count, seconds)) for count in callers]
    return measured


def table(measured: Sequence[Measured]) -> str:
    """Returns a Markdown table of the settings; the last column is the rate relative to the best direct calls."""
    best = max(row.stories_per_second for row in measured if row.name.startswith("in process"))
    lines = ["| setting | stories/s | p50 ms | p99 ms | failed | of the floor |", "|---|---|---|---|---|---|"]
    for row in measured:
        values = f"{row.stories_per_second:.1f} | {row.p50:.1f} | {row.p99:.1f} | {row.failed}"
        lines.append(f"| {row.name} | {values} | {row.stories_per_second / best:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measures all settings and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model as in every command; by default an untrained one of the preset's widths")
    parser.add_argument("--preset", default="paper", help="preset whose widths an untrained model has")
    parser.add_argument(
        "--weights", choices=["float32", "float16"], default="float32", help="type of the untrained model's weights"
    )
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4, 16, 64], help="numbers of callers")
    parser.add_argument("--seconds", type=float, default=20, help="seconds for each setting")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.model:
            export_preset(arguments.preset, Path(folder) / "1", half=arguments.weights == "float16")
        saved = SavedStoryGAN(arguments.model or Path(folder) / "1")
        story, model = saved.info["examples"][0], saved.path
        del saved
        title = f"{arguments.model or f'{arguments.preset}, {arguments.weights}'}, {megabytes(model):.1f} MB"
        most = read_text(BATCHING, BatchingParameters, "batching.config").max_batch_size.value
        sizes = [2**power for power in range(most.bit_length()) if 2**power <= most]
        measured = floors(model, story, sizes, arguments.seconds) + served(
            model, story, arguments.callers, arguments.seconds
        )
    print(f"{title}, {os.cpu_count()} CPU cores ({platform.processor() or platform.machine()})")
    print(table(measured))
    print(json.dumps([dataclasses.asdict(row) for row in measured]))


if __name__ == "__main__":
    main()
