"""What a process and its children take, for benchmarks that run each measurement in a fresh process. Needs Linux."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path


def cpu_seconds() -> float:
    """Returns the processor time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_megabytes() -> float:
    """Returns the peak memory of this process."""
    # Not ru_maxrss: a process starts with that of the one that started it.
    return _kilobytes(Path("/proc/self/status"), "VmHWM:") / 1024


def watched(process: BaseProcess) -> Iterator[float]:
    """Yields the memory of a process and its children, in MB, until it ends."""
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
