"""Shows the progress of long work: a bar on a terminal, plain lines with an estimate of the time left in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINES = 10
"""Smallest number of lines in a log, if the work has at least as many parts."""

_SECONDS = 20.0
"""A log gets a line for a completed part if the last line is older than this."""


class Advance(Protocol):
    """Type of the function that reports completed parts of the work."""

    def __call__(self, parts: int = 1, note: str = "") -> None:
        """Adds `parts` to the completed parts, and shows `note` next to them."""


@contextlib.contextmanager
def progress(description: str, total: int, unit: str = "", done: int = 0) -> Iterator[Advance]:
    """Shows the progress of work that has `total` parts.

    Args:
        description: the work, such as `rendering`.
        total: number of parts.
        unit: name of a part in the lines of a log, such as `frame`.
        done: number of parts that were completed earlier. The estimate of the time left does not use them.

    Yields:
        A function to call whenever parts are completed.
    """
    if sys.stdout.isatty():
        with _bar(description, total, done) as advance:
            yield advance
    else:
        yield _LogLines(description, total, unit, done)


@contextlib.contextmanager
def counted_progress(description: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of work that counts its parts itself. Shows nothing if no part is ever reported.

    Args:
        description: the work, such as `training the judge`.
        unit: name of a part in the lines of a log, such as `epoch`.

    Yields:
        A function of the number of completed parts and the number of all parts, to call after each part.
    """
    with contextlib.ExitStack() as stack:
        advances: list[Advance] = []

        def report(_: int, total: int) -> None:
            if not advances:
                advances.append(stack.enter_context(progress(description, total, unit)))
            advances[0]()

        yield report


@contextlib.contextmanager
def _bar(description: str, total: int, done: int) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(file=sys.stdout)) as bar:
        task = bar.add_task(description, total=total, completed=done, note="")

        def advance(parts: int = 1, note: str = "") -> None:
            bar.update(task, advance=parts, note=note)

        yield advance


class _LogLines:
    """Prints a line after each tenth of the work, and in between if the last line is older than `_SECONDS`."""

    def __init__(self, description: str, total: int, unit: str, done: int) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self.done_before = done
        self.started = self.printed = time.monotonic()

    def __call__(self, parts: int = 1, note: str = "") -> None:
        before, self.done = self.done, self.done + parts
        now = time.monotonic()
        tenth = max(1, self.total // _LINES)
        overdue = now - self.printed > _SECONDS
        if parts and (self.done // tenth > before // tenth or overdue or self.done >= self.total):
            self.printed = now
            print(self._line(now, note), flush=True)

    def _line(self, now: float, note: str) -> str:
        share = self.done / max(1, self.total)
        done_now = self.done - self.done_before
        left = (now - self.started) / done_now * (self.total - self.done) if done_now else 0.0
        unit = f" {self.unit}s" if self.unit else ""
        tail = f"  {note}" if note else ""
        return f"{self.description}: {self.done}/{self.total}{unit} ({share:.0%}), about {_duration(left)} left{tail}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
