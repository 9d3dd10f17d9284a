"""Runs requests one by one, or merges several into one run as TensorFlow Serving's batching session does.

Only requests of the same version that feed and fetch the same tensors are merged. A batch is ready when it is full, or
when its first request has waited for the timeout; it runs as soon as one of the batch threads is free.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import grpc
import numpy as np

from serving.local_server.manager import Version
from serving.local_server.predict import SessionCall
from serving.local_server.status import StatusError, invalid
from storygan_tf.common.errors import ConfigError

T = TypeVar("T")


class Runner(Protocol):
    """Interface of `DirectRunner` and `BatchingRunner`."""

    async def run(self, version: Version, call: SessionCall, deadline: float | None) -> list[np.ndarray]:
        """Runs a call and returns arrays in the order of its fetches.

        Args:
            version: the version to run; the caller keeps it loaded.
            call: feeds and fetches.
            deadline: time of `time.monotonic` at which the caller gives up; None for no deadline.

        Raises:
            StatusError: if the run fails or its deadline passes.
        """


def seconds_until(deadline: float | None) -> float | None:
    """Returns the seconds left until a time of `time.monotonic`; None for no deadline.

    Raises:
        StatusError: DEADLINE_EXCEEDED if the deadline has passed.
    """
    if deadline is None:
        return None
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded before the request was run")
    return seconds


async def run_holding_version(threads: ThreadPoolExecutor, version: Version, function: Callable[[], T]) -> T:
    """Runs a function in a thread. The version stays loaded until it has ended, even if the caller is cancelled."""
    loop = asyncio.get_running_loop()
    version.acquire()
    future = threads.submit(function)
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(version.release))
    return await asyncio.wrap_future(future)


class DirectRunner:
    """Runs each call on its own.

    Args:
        threads: threads in which the sessions run.
    """

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    async def run(self, version: Version, call: SessionCall, deadline: float | None) -> list[np.ndarray]:
        """Runs a call; see `Runner.run`."""
        servable = version.servable
        assert servable is not None
        return await run_holding_version(self._threads, version, lambda: servable.run(call, seconds_until(deadline)))


@dataclasses.dataclass(frozen=True)
class BatchingOptions:
    """Settings of batching, named as the fields of TensorFlow Serving's BatchingParameters.

    Attributes:
        max_batch_size: largest number of rows in a batch.
        batch_timeout_micros: microseconds that a batch waits for more requests.
        max_enqueued_batches: number of batches that may wait for each kind of call; more requests are refused at once.
        num_batch_threads: number of batches that run at the same time.
        allowed_batch_sizes: increasing sizes; a batch is padded to the next of them. Empty for no padding.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()

    @classmethod
    def from_proto(cls, message: Any) -> BatchingOptions:
        """Returns the options of a BatchingParameters message.

        Raises:
            ConfigError: if a field is not implemented, out of range or contradicts another one.
        """
        for name in ("pad_variable_length_inputs", "enable_large_batch_splitting", "max_execution_batch_size"):
            value = getattr(message, name)
            if getattr(value, "value", value):
                raise ConfigError(f"batching parameters: {name} is not implemented by the local server; leave it out.")
        names = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
        values = {name: getattr(message, name).value for name in names if message.HasField(name)}
        options = cls(**values, allowed_batch_sizes=tuple(message.allowed_batch_sizes))
        options.check()
        return options

    def check(self) -> None:
        """Raises ConfigError if a value is out of range or contradicts another one."""
        sizes = self.allowed_batch_sizes
        if sizes and (sizes[-1] != self.max_batch_size or list(sizes) != sorted(set(sizes)) or sizes[0] < 1):
            raise ConfigError(
                f"batching parameters: found allowed_batch_sizes {list(sizes)} and max_batch_size "
                f"{self.max_batch_size}, expected increasing sizes, of which the last equals max_batch_size."
            )
        for name in ("max_batch_size", "num_batch_threads", "max_enqueued_batches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"batching parameters: found {name} {getattr(self, name)}, expected 1 or more.")


@dataclasses.dataclass(eq=False)
class _Task:
    """A call that waits for its batch to run.

    Attributes:
        call: feeds and fetches.
        rows: size of the first dimension of the feeds.
        deadline: time at which the caller gives up; None for no deadline.
        answer: the future of the arrays that the call fetches.
    """

    call: SessionCall
    rows: int
    deadline: float | None
    answer: asyncio.Future[list[np.ndarray]]


class _Batch:
    """Tasks of one version that run together.

    Attributes:
        version: the version to run.
        opened_at: time at which the first task was added.
        tasks: the tasks.
        closed: whether the batch takes no more tasks.
    """

    def __init__(self, version: Version, opened_at: float) -> None:
        self.version = version
        self.opened_at = opened_at
        self.tasks: list[_Task] = []
        self.closed = False

    @property
    def rows(self) -> int:
        return sum(task.rows for task in self.tasks)


class BatchingRunner:
    """Merges calls into batches.

    Args:
        options: settings of batching.
        clock: returns the time in seconds, in the units of `time.monotonic`; tests replace it.
    """

    def __init__(self, options: BatchingOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._clock = clock
        self._threads = ThreadPoolExecutor(options.num_batch_threads, thread_name_prefix="batch")
        self._free = options.num_batch_threads
        self._queues: dict[Any, deque[_Batch]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, version: Version, call: SessionCall, deadline: float | None) -> list[np.ndarray]:
        """Runs a call in a batch; see `Runner.run`. Raises UNAVAILABLE at once if the queue is full."""
        rows = _rows(call)
        if rows > self._options.max_batch_size:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {self._options.max_batch_size}")
        loop = asyncio.get_running_loop()
        task = _Task(call, rows, deadline, loop.create_future())
        self._enqueue(version, task)
        self._start_ready()
        return await task.answer

    def _enqueue(self, version: Version, task: _Task) -> None:
        """Adds a task to the last batch of its kind, or to a new one."""
        kind = (version, *sorted(task.call.feeds), "->", *sorted(task.call.fetches))
        queue = self._queues.setdefault(kind, deque())
        if queue and not queue[-1].closed and queue[-1].rows + task.rows > self._options.max_batch_size:
            queue[-1].closed = True
        if not queue or queue[-1].closed:
            if len(queue) >= self._options.max_enqueued_batches:
                raise StatusError(
                    grpc.StatusCode.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; currently "
                    f"{len(queue)} batches enqueued and max_enqueued_batches is {self._options.max_enqueued_batches}",
                )
            queue.append(_Batch(version, self._clock()))
        queue[-1].tasks.append(task)
        queue[-1].closed = queue[-1].rows >= self._options.max_batch_size

    def _start_ready(self) -> None:
        """Starts the ready batches while threads are free, and sets a timer for the next batch that becomes ready."""
        loop = asyncio.get_running_loop()
        while self._free and (queue := self._oldest_ready(self._clock())):
            self._free -= 1
            started = loop.create_task(self._process(queue.popleft()))
            self._running.add(started)
            started.add_done_callback(self._running.discard)
        self._queues = {kind: queue for kind, queue in self._queues.items() if queue}
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._free and self._queues:
            first = min(self._ready_at(queue[0]) for queue in self._queues.values())
            self._timer = loop.call_later(max(0.0, first - self._clock()), self._start_ready)

    def _ready_at(self, batch: _Batch) -> float:
        return batch.opened_at if batch.closed else batch.opened_at + self._options.batch_timeout_micros / 1e6

    def _oldest_ready(self, now: float) -> deque[_Batch] | None:
        ready = [queue for queue in self._queues.values() if queue and self._ready_at(queue[0]) <= now]
        return min(ready, key=lambda queue: queue[0].opened_at, default=None)

    async def _process(self, batch: _Batch) -> None:
        """Runs a batch and sets the results of its tasks."""
        # The answer of a caller that has given up is done already.
        waiting = [task for task in batch.tasks if not task.answer.done()]
        parts: list[list[np.ndarray]] = []
        failure = None
        try:
            parts = await self._run_merged(batch.version, waiting) if waiting else []
        except Exception as error:
            failure = StatusError.from_exception(error)
        finally:
            # The next batch runs while these callers get their answers.
            self._free += 1
            self._start_ready()
        for number, task in enumerate(waiting):
            if task.answer.done():
                continue
            if failure:
                task.answer.set_exception(failure)
            else:
                task.answer.set_result(parts[number])

    async def _run_merged(self, version: Version, tasks: Sequence[_Task]) -> list[list[np.ndarray]]:
        call = self._merge([task.call for task in tasks])
        seconds = _longest_wait([task.deadline for task in tasks], self._clock())
        servable = version.servable
        assert servable is not None
        arrays = await run_holding_version(self._threads, version, lambda: servable.run(call, seconds))
        return _split(arrays, call, tasks)

    def _merge(self, calls: Sequence[SessionCall]) -> SessionCall:
        """Returns a call with the rows of all calls, padded to an allowed batch size by repeating the last row."""
        first = calls[0]
        count = sum(_rows(call) for call in calls)
        padding = next((size for size in self._options.allowed_batch_sizes if size >= count), count) - count
        feeds = {}
        for name in first.feeds:
            arrays = [call.feeds[name] for call in calls]
            _check_types(arrays)
            if len({array.shape[1:] for array in arrays}) > 1:
                raise StatusError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off. "
                    "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal "
                    "dimensions starting with the first dim.",
                )
            rows = np.concatenate(arrays)
            feeds[name] = np.concatenate([rows, *[rows[-1:]] * padding])
        return dataclasses.replace(first, feeds=feeds)

    def close(self) -> None:
        """Waits for the batches that run, and ends the threads."""
        self._threads.shutdown(wait=True)


def _rows(call: SessionCall) -> int:
    """Returns the size of the feeds' first dimension; raises INVALID_ARGUMENT if it is not the same for all."""
    if not call.feeds:
        raise invalid("Batching Run() must have at least one input tensor")
    for array in call.feeds.values():
        if not array.ndim:
            raise invalid("Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in call.feeds.values()}
    if len(sizes) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _check_types(arrays: Sequence[np.ndarray]) -> None:
    names = ["string" if array.dtype == object else array.dtype.name for array in arrays]
    for name in names:
        if name != names[0]:
            raise StatusError(
                grpc.StatusCode.INTERNAL,
                "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that have different data "
                f"types. Got {names[0]} and {name}.",
            )


def _longest_wait(deadlines: Sequence[float | None], now: float) -> float | None:
    """Returns the seconds until the latest deadline; None if one caller has no deadline."""
    if any(deadline is None for deadline in deadlines):
        return None
    seconds = max(filter(None, deadlines)) - now
    if seconds <= 0:
        raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
    return seconds


def _split(arrays: Sequence[np.ndarray], call: SessionCall, tasks: Sequence[_Task]) -> list[list[np.ndarray]]:
    """Splits the arrays of a batch and returns each task's part, in the order of the task's own fetches."""
    expected = len(next(iter(call.feeds.values())))
    by_name = dict(zip(call.fetches, arrays, strict=True))
    for array in arrays:
        if not array.ndim:
            raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(array) != expected:
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors",
            )
    parts, start = [], 0
    for task in tasks:
        parts.append([by_name[name][start : start + task.rows] for name in task.call.fetches])
        start += task.rows
    return parts
