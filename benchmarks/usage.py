"""Measures time and memory of work in a fresh process and its children. Needs Linux."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Usage:
    """Time and memory of work in a process of its own, and its result.

    Attributes:
        seconds: time from the start of the work to its end.
        cpu: processor time of all processes, in seconds.
        peak: peak memory of the process, in MB.
        together: peak memory of the process and its children together, in MB.
        result: return value of the work.
    """

    seconds: float
    cpu: float
    peak: float
    together: float
    result: Any


def measure_usage(name: str, work: Callable[..., Any], *arguments: object) -> Usage:
    """Calls a function in a fresh process, and returns its time and memory without the start of the process.

    Args:
        name: name of the work, for the error message.
        work: function of a module, not a lambda.
        arguments: arguments of the function.

    Raises:
        SystemExit: if the process failed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(work, arguments, sender))
    process.start()
    sender.close()
    together = max(memory_samples(process))
    if process.exitcode:
        raise SystemExit(f"{name}: failed (exit code {process.exitcode}).")
    seconds, cpu, peak, result = receiver.recv()
    return Usage(seconds, cpu, peak, together, result)


def _measure(work: Callable[..., Any], arguments: Sequence[object], sender: Connection) -> None:
    began, cpu = time.perf_counter(), cpu_seconds()
    result = work(*arguments)
    sender.send((time.perf_counter() - began, cpu_seconds() - cpu, peak_megabytes(), result))


def cpu_seconds() -> float:
    """Returns the processor time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_megabytes() -> float:
    """Returns the peak memory of this process."""
    # Not ru_maxrss, whose initial value is that of the parent process.
    return _kilobytes(Path("/proc/self/status"), "VmHWM:") / 1024


def memory_samples(process: BaseProcess) -> Iterator[float]:
    """Yields the memory of a process and its children, in MB, five times a second until the process ends."""
    while process.is_alive():
        pids = list(_family(process.pid or 0))
        yield sum(_kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") for pid in pids) / 1024
        process.join(0.2)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # ended meanwhile
            for child in path.read_text().split():
                yield from _family(int(child))


def _kilobytes(path: Path, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
