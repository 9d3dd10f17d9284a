"""Progress of long work: a bar on a terminal, plain lines with an estimate in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINES = 10
"""Lines that a log gets at the least where the work takes that many parts."""

_SECONDS = 20.0
"""Longest silence in a log while parts are being finished."""


class Advance(Protocol):
    """Tells that parts are done."""

    def __call__(self, parts: int = 1, note: str = "") -> None:
        """Adds `parts`; `note` is shown beside them."""


@contextlib.contextmanager
def progress(what: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
    """Shows the progress of `total` parts of work.

    Args:
        what: the work, such as `rendering`.
        total: how many parts it has.
        unit: what a part is, such as `frame`; for the lines of a log.
        done: parts that were done before; the estimate does not count on their having cost nothing.

    Yields:
        A function to call as parts are done.
    """
    if sys.stdout.isatty():
        with _bar(what, total, done) as advance:
            yield advance
    else:
        yield _Lines(what, total, unit, done)


@contextlib.contextmanager
def counted_progress(what: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of work that counts its parts itself, and nothing where it never does.

    Args:
        what: the work.
        unit: what a part is.

    Yields:
        A function of the parts done and all parts, to call after each part.
    """
    with contextlib.ExitStack() as stack:
        advances: list[Advance] = []

        def tell(_: int, total: int) -> None:
            if not advances:
                advances.append(stack.enter_context(progress(what, total, unit)))
            advances[0]()

        yield tell


@contextlib.contextmanager
def _bar(what: str, total: int, done: int) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(file=sys.stdout)) as bar:
        task = bar.add_task(what, total=total, completed=done, note="")

        def advance(parts: int = 1, note: str = "") -> None:
            bar.update(task, advance=parts, note=note)

        yield advance


class _Lines:
    """Prints a line at each tenth of the work, and now and then in between."""

    def __init__(self, what: str, total: int, unit: str, done: int) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self.done_before = done
        self.began = self.said = time.monotonic()

    def __call__(self, parts: int = 1, note: str = "") -> None:
        before, self.done = self.done, self.done + parts
        now = time.monotonic()
        tenth = max(1, self.total // _LINES)
        if parts and (self.done // tenth > before // tenth or now - self.said > _SECONDS or self.done >= self.total):
            self.said = now
            print(self._line(now, note), flush=True)

    def _line(self, now: float, note: str) -> str:
        share = self.done / max(1, self.total)
        fresh = self.done - self.done_before
        left = (now - self.began) / fresh * (self.total - self.done) if fresh else 0.0
        unit = f" {self.unit}s" if self.unit else ""
        tail = f"  {note}" if note else ""
        return f"{self.what}: {self.done}/{self.total}{unit} ({share:.0%}), about {_duration(left)} left{tail}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
