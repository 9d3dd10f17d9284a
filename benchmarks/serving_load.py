"""Times a served model at 1, 4, 16 and 64 callers, with and without batching, beside calls within this process.

    .venv/bin/python benchmarks/serving_load.py [--preset paper] [--weights float16] [--seconds 20] [--callers 1 4 16]
    .venv/bin/python benchmarks/serving_load.py --model M

The floor is the SavedModel called in this process, one caller with one story, and one caller with batches of several
sizes up to that of batching.config, of which the best counts. Then a server is asked: the local one in a process of its
own, or, with `STORYGAN_SERVING_TARGET=host:port`, one that runs already and serves the same model. A caller sends one
story and waits for its pictures before it sends the next; the callers are coroutines of one process, so that they cost
little beside the server. Stories a second and the 50th and 99th percentile of a request are printed as a table, and
as a line of JSON.
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

WARM_UP = 0.1
"""Of the seconds, before anything counts."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What came of one setting.

    Attributes:
        name: of the setting.
        stories_per_second: all callers together.
        p50: milliseconds of a request.
        p99: the same.
        failed: requests that did not succeed.
    """

    name: str
    stories_per_second: float
    p50: float
    p99: float
    failed: int = 0

    @classmethod
    def of(cls, name: str, requests: Sequence[float], seconds: float, rows: int = 1, failed: int = 0) -> Measured:
        """Returns the figures of requests that took `requests` seconds each, within `seconds` together."""
        p50, p99 = (float(1000 * np.percentile(requests, q)) for q in (50, 99)) if requests else (np.nan, np.nan)
        return cls(name, rows * len(requests) / seconds, p50, p99, failed)


class _Vectorizer(tf.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def __call__(self, sentences: tf.Tensor) -> tf.Tensor:
        return embed(sentences, self.size)


def export_preset(preset: str, path: Path, *, half: bool = False) -> None:
    """Writes a model of a preset's widths that was never trained: it takes as long as a trained one.

    Args:
        preset: its name.
        path: version directory.
        half: whether weights are kept as float16.
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
    """Calls again and again for some seconds."""
    end_of_warm_up = time.perf_counter() + WARM_UP * seconds
    while time.perf_counter() < end_of_warm_up:
        call()
    requests, started = [], time.perf_counter()
    while (now := time.perf_counter()) - started < seconds:
        call()
        requests.append(time.perf_counter() - now)
    return Measured.of(name, requests, time.perf_counter() - started, rows)


def floors(model: Path, story: Sequence[str], sizes: Sequence[int], seconds: float) -> list[Measured]:
    """Measures the SavedModel within this process, for each batch size."""
    generate = tf.saved_model.load(str(model)).signatures[GENERATE]
    measured = []
    for size in sizes:
        inputs = {"sentences": tf.constant([list(story)] * size), "seed": tf.range(size, dtype=tf.int64)}
        measured.append(timed(f"in process, batches of {size}", lambda given=inputs: generate(**given), seconds, size))
    return measured


def story_request(story: Sequence[str]) -> predict_pb2.PredictRequest:
    """Returns what a caller sends."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = DEFAULT_MODEL
    request.model_spec.signature_name = GENERATE
    request.inputs["sentences"].CopyFrom(tf.make_tensor_proto([list(story)]))
    request.inputs["seed"].CopyFrom(tf.make_tensor_proto([7], tf.int64))
    return request


async def ask(name: str, target: str, request: predict_pb2.PredictRequest, callers: int, seconds: float) -> Measured:
    """Measures a server under the load of some callers."""
    requests: list[float] = []
    failed = 0
    async with grpc.aio.insecure_channel(target, [("grpc.max_receive_message_length", -1)]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        # TensorFlow optimises a graph when it first runs.
        await asyncio.gather(*(stub.Predict(request, timeout=60) for _ in range(callers)))
        begin = time.perf_counter() + WARM_UP * seconds
        end = begin + seconds

        async def caller() -> None:
            nonlocal failed
            while (now := time.perf_counter()) < end:
                try:
                    await stub.Predict(request, timeout=60)
                except grpc.RpcError:
                    failed += 1
                    await asyncio.sleep(0.01)
                    continue
                if now >= begin:
                    requests.append(time.perf_counter() - now)

        await asyncio.gather(*(caller() for _ in range(callers)))
        return Measured.of(f"{name}, {callers} callers", requests, time.perf_counter() - begin, failed=failed)


def free_port() -> int:
    """Returns a port that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def local_server(model: Path, flags: Sequence[str]) -> Iterator[str]:
    """Gives the target of the local server in a process of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "1").symlink_to(model, target_is_directory=True)
        given = [f"--port={port}", f"--model_name={DEFAULT_MODEL}", f"--model_base_path={folder}", *flags]
        command = [sys.executable, "-W", "ignore", "-m", "serving.local_server", *given]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                with grpc.insecure_channel(f"localhost:{port}") as channel:
                    grpc.channel_ready_future(channel).result(timeout=120)
                yield f"localhost:{port}"
            finally:
                server.send_signal(signal.SIGTERM)


def served(model: Path, story: Sequence[str], callers: Sequence[int], seconds: float) -> list[Measured]:
    """Measures the server named in the environment, or the local one with and without batching."""
    request = story_request(story)
    if target := os.environ.get(TARGET):
        return [asyncio.run(ask(target, target, request, count, seconds)) for count in callers]
    measured = []
    batching = ["--enable_batching", f"--batching_parameters_file={BATCHING}"]
    for name, flags in (("local server", []), ("local server, batching", batching)):
        with local_server(model, flags) as local:
            measured += [asyncio.run(ask(name, local, request, count, seconds)) for count in callers]
    return measured


def table(measured: Sequence[Measured]) -> str:
    """Returns the figures as a Markdown table; the last column is the share of the best floor."""
    best = max(row.stories_per_second for row in measured if row.name.startswith("in process"))
    lines = ["| setting | stories/s | p50 ms | p99 ms | failed | of the floor |", "|---|---|---|---|---|---|"]
    for row in measured:
        figures = f"{row.stories_per_second:.1f} | {row.p50:.1f} | {row.p99:.1f} | {row.failed}"
        lines.append(f"| {row.name} | {figures} | {row.stories_per_second / best:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="as in every command; by default an untrained one of the preset's widths")
    parser.add_argument("--preset", default="paper")
    parser.add_argument(
        "--weights", choices=["float32", "float16"], default="float32", help="how the preset's model keeps them"
    )
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=20, help="for each setting")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not given.model:
            export_preset(given.preset, Path(folder) / "1", half=given.weights == "float16")
        saved = SavedStoryGAN(given.model or Path(folder) / "1")
        story, model = saved.info["examples"][0], saved.path
        del saved
        what = f"{given.model or f'{given.preset}, {given.weights}'}, {megabytes(model):.1f} MB"
        most = read_text(BATCHING, BatchingParameters, "batching.config").max_batch_size.value
        sizes = [2**power for power in range(most.bit_length()) if 2**power <= most]
        measured = floors(model, story, sizes, given.seconds) + served(model, story, given.callers, given.seconds)
    print(f"{what}, {os.cpu_count()} CPU cores ({platform.processor() or platform.machine()})")
    print(table(measured))
    print(json.dumps([dataclasses.asdict(row) for row in measured]))


if __name__ == "__main__":
    main()
