"""Batches: what is merged, padded, split, refused. The servable is a recording fake, the clock is injected."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from serving.config_protos import BatchingParameters
from serving.local_server.batching import BatchingOptions, BatchingRunner
from serving.local_server.manager import Version
from serving.local_server.predict import SessionCall
from serving.local_server.status import StatusError, invalid
from storygan_tf.common.errors import ConfigError


class Recorder:
    """Doubles its input once the gate is open, and records the rows and the time limit of each run."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.seconds: list[float | None] = []
        self.gate = threading.Event()

    def run(self, call: SessionCall, seconds: float | None = None) -> list[np.ndarray]:
        self.gate.wait()
        (array,) = call.feeds.values()
        self.sizes.append(len(array))
        self.seconds.append(seconds)
        if (array == -1).any():
            raise invalid("a row that the graph refuses")
        return [2 * array if name == "double" else array for name in call.fetches]


def call(*rows, fetches=("double",), **more) -> SessionCall:
    return SessionCall("s", {"x": np.array(rows, **more)}, fetches, fetches)


class Clock:
    """Time that passes only when a test sets it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def run(scenario, clock=None, **options):
    async def main():
        version, recorder = Version("m", 1, Path("/m/1")), Recorder()
        version.servable = recorder
        runner = BatchingRunner(BatchingOptions(**{"num_batch_threads": 1} | options), clock or Clock())
        try:
            return await asyncio.wait_for(scenario(runner, version, recorder), 120)
        finally:
            recorder.gate.set()
            runner.close()

    return asyncio.run(main())


async def busy(runner, version):
    """Keeps the only batch thread busy until the gate opens."""
    first = asyncio.create_task(runner.run(version, call(0), None))
    await asyncio.sleep(0)
    return first


def test_requests_that_wait_are_merged_and_each_gets_its_own(tmp_path):
    async def scenario(runner, version, recorder):
        first = await busy(runner, version)
        others = [asyncio.create_task(runner.run(version, call(n, n + 10), None)) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        recorder.gate.set()
        answers = [(await other)[0].tolist() for other in others]
        await first
        return recorder.sizes, answers

    sizes, answers = run(scenario)
    assert sizes == [1, 6]
    assert answers == [[2, 22], [4, 24], [6, 26]]


def test_a_batch_never_exceeds_its_size_and_is_padded_to_an_allowed_one():
    async def scenario(runner, version, recorder):
        first = await busy(runner, version)
        others = [asyncio.create_task(runner.run(version, call(*range(n)), None)) for n in (2, 1, 3)]
        await asyncio.sleep(0)
        recorder.gate.set()
        answers = [len((await other)[0]) for other in others]
        await first
        return recorder.sizes, answers

    sizes, answers = run(scenario, max_batch_size=4, allowed_batch_sizes=(2, 4))
    assert sizes == [2, 4, 4]
    assert answers == [2, 1, 3]


def test_a_request_without_rows_is_merged_like_any_other():
    async def scenario(runner, version, recorder):
        first = await busy(runner, version)
        others = [asyncio.create_task(runner.run(version, call(*range(n), dtype=np.int64), None)) for n in (3, 0)]
        await asyncio.sleep(0)
        recorder.gate.set()
        answers = [len((await other)[0]) for other in others]
        await first
        return recorder.sizes, answers

    assert run(scenario, max_batch_size=4, allowed_batch_sizes=(1, 4)) == ([1, 4], [3, 0])


def test_other_outputs_are_another_batch():
    async def scenario(runner, version, recorder):
        first = await busy(runner, version)
        same = asyncio.create_task(runner.run(version, call(1, fetches=("double", "same")), None))
        await asyncio.sleep(0)
        recorder.gate.set()
        await first
        return [array.tolist() for array in await same], recorder.sizes

    assert run(scenario) == ([[2], [1]], [1, 1])


def test_a_full_queue_refuses_at_once():
    async def scenario(runner, version, recorder):
        first = await busy(runner, version)
        waiting = [asyncio.create_task(runner.run(version, call(1, 2), None)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(StatusError) as caught:
            await runner.run(version, call(1, 2), None)
        assert not recorder.sizes, "it waited for a batch to run"
        recorder.gate.set()
        await asyncio.gather(first, *waiting)
        return caught.value

    error = run(scenario, max_batch_size=2, max_enqueued_batches=2)
    assert error.code.name == "UNAVAILABLE"
    assert error.message == (
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued and "
        "max_enqueued_batches is 2"
    )


def test_a_request_of_another_shape_fails_its_whole_batch():
    async def scenario(runner, version, recorder):
        first = await busy(runner, version)
        others = [asyncio.create_task(runner.run(version, other, None)) for other in (call([1, 2]), call([1, 2, 3]))]
        await asyncio.sleep(0)
        recorder.gate.set()
        await first
        return await asyncio.gather(*others, return_exceptions=True)

    for error in run(scenario):
        assert error.code.name == "FAILED_PRECONDITION"
        assert error.message.startswith(
            "Tensors with name 'x' from different tasks have different shapes and padding is"
        )


def test_a_request_of_another_type_fails_its_whole_batch():
    async def scenario(runner, version, recorder):
        first = await busy(runner, version)
        others = [
            asyncio.create_task(runner.run(version, other, None)) for other in (call(1), call(b"a", dtype=object))
        ]
        await asyncio.sleep(0)
        recorder.gate.set()
        await first
        return await asyncio.gather(*others, return_exceptions=True)

    for error in run(scenario):
        assert "Cannot concatenate tensors that have different data types. Got int64 and string." in error.message


def test_what_the_graph_refuses_fails_every_row_of_its_batch():
    async def scenario(runner, version, recorder):
        first = await busy(runner, version)
        others = [asyncio.create_task(runner.run(version, call(value), None)) for value in (1, -1)]
        await asyncio.sleep(0)
        recorder.gate.set()
        await first
        after = await runner.run(version, call(5), None)
        return await asyncio.gather(*others, return_exceptions=True), after[0].tolist()

    errors, after = run(scenario)
    assert [error.message for error in errors] == ["a row that the graph refuses"] * 2
    assert after == [10]


def test_a_batch_waits_for_its_timeout():
    clock = Clock()

    async def scenario(runner, version, recorder):
        recorder.gate.set()
        others = [asyncio.create_task(runner.run(version, call(n), None)) for n in range(3)]
        await asyncio.sleep(0.1)  # longer than the timeout, on another clock than the runner's
        assert not recorder.sizes
        clock.now += 0.05
        await asyncio.gather(*others)
        return recorder.sizes

    assert run(scenario, clock, batch_timeout_micros=50_000) == [3]


def test_a_full_batch_does_not_wait():
    async def scenario(runner, version, recorder):
        recorder.gate.set()
        await asyncio.gather(*[runner.run(version, call(n), None) for n in range(3)])
        return recorder.sizes

    assert run(scenario, batch_timeout_micros=3_600_000_000, max_batch_size=3) == [3]


def test_a_batch_has_the_time_of_its_most_patient_caller():
    clock = Clock()

    async def scenario(runner, version, recorder):
        first = await busy(runner, version)
        late = asyncio.create_task(runner.run(version, call(1, fetches=("same",)), clock.now + 1))
        mixed = [asyncio.create_task(runner.run(version, call(2), clock.now + seconds)) for seconds in (1, 100)]
        await asyncio.sleep(0)
        clock.now += 10
        recorder.gate.set()
        await asyncio.gather(first, *mixed)
        with pytest.raises(StatusError, match=r"Run\(\) timeout exceeded while waiting in batching queue") as caught:
            await late
        assert caught.value.code.name == "RESOURCE_EXHAUSTED"
        return recorder.seconds

    assert run(scenario, clock) == [None, 90]


def test_a_cancelled_call_is_not_run():
    async def scenario(runner, version, recorder):
        first = await busy(runner, version)
        gone = asyncio.create_task(runner.run(version, call(1), None))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        recorder.gate.set()
        await first
        await runner.run(version, call(2, 2), None)
        return recorder.sizes

    assert run(scenario) == [1, 2]


@pytest.mark.parametrize(
    ("unusable", "words"),
    [
        (SessionCall("s", {}, ("y",), ("y",)), "must have at least one input tensor"),
        (call(*range(5)), "Task size 5 is larger than maximum input batch size 4"),
        (SessionCall("s", {"x": np.array(1)}, ("y",), ("y",)), "must have at least one dimension"),
        (SessionCall("s", {"x": np.ones(1), "z": np.ones(2)}, ("y",), ("y",)), "must have equal 0th-dimension size"),
    ],
)
def test_what_cannot_be_batched(unusable, words):
    async def scenario(runner, version, recorder):
        with pytest.raises(StatusError, match=words):
            await runner.run(version, unusable, None)

    run(scenario, max_batch_size=4)


def options(text):
    return BatchingOptions.from_proto(text_format.Parse(text, BatchingParameters()))


def test_parameters_are_read_and_checked():
    read = options("max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 8")
    assert (read.max_batch_size, read.allowed_batch_sizes, read.max_enqueued_batches) == (8, (4, 8), 10)
    with pytest.raises(ConfigError, match="of which the last equals max_batch_size"):
        options("max_batch_size { value: 8 } allowed_batch_sizes: 4")
    with pytest.raises(ConfigError, match="pad_variable_length_inputs is not implemented"):
        options("pad_variable_length_inputs: true")
    with pytest.raises(ConfigError, match="num_batch_threads 0, expected 1 or more"):
        options("num_batch_threads { value: 0 }")
