"""Requests to sessions: each for itself, or several merged into one run, as TF Serving's batching session does.

Only requests of the same version that feed and fetch the same tensors are merged. A batch is run when it is full, or
when its first request has waited for the timeout, as soon as one of the batch threads is free.
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
from serving.local_server.predict import Call
from serving.local_server.status import StatusError, invalid
from storygan_tf.common.errors import ConfigError

T = TypeVar("T")


class Runner(Protocol):
    """Runs calls."""

    async def run(self, version: Version, call: Call, deadline: float | None) -> list[np.ndarray]:
        """Returns arrays in the order of the call's fetches.

        Args:
            version: kept loaded by the caller.
            call: what to run.
            deadline: of `time.monotonic`; None for none.

        Raises:
            StatusError: whatever it fails with.
        """


def remaining(deadline: float | None) -> float | None:
    """Returns the seconds that are left.

    Raises:
        StatusError: DEADLINE_EXCEEDED, where none are.
    """
    if deadline is None:
        return None
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded before the request was run")
    return seconds


async def run_holding_version(threads: ThreadPoolExecutor, version: Version, function: Callable[[], T]) -> T:
    """Runs in a thread; the version stays loaded until that has ended, even where nobody waits for it any more."""
    loop = asyncio.get_running_loop()
    version.acquire()
    future = threads.submit(function)
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(version.release))
    return await asyncio.wrap_future(future)


class DirectRunner:
    """Runs each call for itself.

    Args:
        threads: that run them.
    """

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    async def run(self, version: Version, call: Call, deadline: float | None) -> list[np.ndarray]:
        """See `Runner`."""
        servable = version.servable
        assert servable is not None
        return await run_holding_version(self._threads, version, lambda: servable.call(call, remaining(deadline)))


@dataclasses.dataclass(frozen=True)
class BatchingOptions:
    """The fields of BatchingParameters.

    Attributes:
        max_batch_size: rows of a batch.
        batch_timeout_micros: that a batch waits for more requests.
        max_enqueued_batches: that wait, for each kind of call; more are refused at once.
        num_batch_threads: batches that run at the same time.
        allowed_batch_sizes: a batch is filled up to the next of them.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, message: Any) -> BatchingOptions:
        """Returns the options that a BatchingParameters sets.

        Raises:
            ConfigError: for what is not implemented or contradicts itself.
        """
        for name in ("pad_variable_length_inputs", "enable_large_batch_splitting", "max_execution_batch_size"):
            value = getattr(message, name)
            if getattr(value, "value", value):
                raise ConfigError(f"batching parameters: {name} is not implemented by the local server; leave it out.")
        names = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
        given = {name: getattr(message, name).value for name in names if message.HasField(name)}
        options = cls(**given, allowed_batch_sizes=tuple(message.allowed_batch_sizes))
        options.check()
        return options

    def check(self) -> None:
        """Raises ConfigError for values that contradict each other."""
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
    call: Call
    rows: int
    deadline: float | None
    answer: asyncio.Future[list[np.ndarray]]


class _Batch:
    def __init__(self, version: Version, opened: float) -> None:
        self.version = version
        self.opened = opened
        self.tasks: list[_Task] = []
        self.closed = False

    @property
    def rows(self) -> int:
        return sum(task.rows for task in self.tasks)


class BatchingRunner:
    """Merges calls.

    Args:
        options: see there.
    """

    def __init__(self, options: BatchingOptions) -> None:
        self._options = options
        self._threads = ThreadPoolExecutor(options.num_batch_threads, thread_name_prefix="batch")
        self._free = options.num_batch_threads
        self._queues: dict[Any, deque[_Batch]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, version: Version, call: Call, deadline: float | None) -> list[np.ndarray]:
        """See `Runner`; UNAVAILABLE, at once, where the queue is full."""
        rows = _rows(call)
        if rows > self._options.max_batch_size:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {self._options.max_batch_size}")
        loop = asyncio.get_running_loop()
        task = _Task(call, rows, deadline, loop.create_future())
        self._enqueue(version, task, time.monotonic())
        self._start_ready()
        return await task.answer

    def _enqueue(self, version: Version, task: _Task, now: float) -> None:
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
            queue.append(_Batch(version, now))
        queue[-1].tasks.append(task)
        queue[-1].closed = queue[-1].rows >= self._options.max_batch_size

    def _start_ready(self) -> None:
        """Starts batches while threads are free; sets a timer for those whose time has not come."""
        loop = asyncio.get_running_loop()
        while self._free and (queue := self._oldest_ready(time.monotonic())):
            self._free -= 1
            started = loop.create_task(self._process(queue.popleft()))
            self._running.add(started)
            started.add_done_callback(self._running.discard)
        self._queues = {kind: queue for kind, queue in self._queues.items() if queue}
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._free and self._queues:
            first = min(self._due(queue[0]) for queue in self._queues.values())
            self._timer = loop.call_at(first, self._start_ready)

    def _due(self, batch: _Batch) -> float:
        return batch.opened if batch.closed else batch.opened + self._options.batch_timeout_micros / 1e6

    def _oldest_ready(self, now: float) -> deque[_Batch] | None:
        ready = [queue for queue in self._queues.values() if queue and self._due(queue[0]) <= now]
        return min(ready, key=lambda queue: queue[0].opened, default=None)

    async def _process(self, batch: _Batch) -> None:
        # A caller whose deadline has passed, or who has gone, no longer waits for an answer.
        waiting = [task for task in batch.tasks if not task.answer.done()]
        parts: list[list[np.ndarray]] = []
        failure = None
        try:
            parts = await self._run_merged(batch.version, waiting) if waiting else []
        except Exception as error:
            failure = StatusError.of(error)
        finally:
            # The next batch is drawn while these callers are answered.
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
        seconds = _longest([task.deadline for task in tasks])
        servable = version.servable
        assert servable is not None
        arrays = await run_holding_version(self._threads, version, lambda: servable.call(call, seconds))
        return _split(arrays, call, tasks)

    def _merge(self, calls: Sequence[Call]) -> Call:
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
        """Ends the threads, when what they run has ended."""
        self._threads.shutdown(wait=True)


def _rows(call: Call) -> int:
    """Returns the size of a call's first dimension."""
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


def _longest(deadlines: Sequence[float | None]) -> float | None:
    """Returns the seconds that a batch may take: those of its most patient caller."""
    if any(deadline is None for deadline in deadlines):
        return None
    seconds = max(filter(None, deadlines)) - time.monotonic()
    if seconds <= 0:
        raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
    return seconds


def _split(arrays: Sequence[np.ndarray], call: Call, tasks: Sequence[_Task]) -> list[list[np.ndarray]]:
    """Returns each task's arrays in the order of its own fetches."""
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
