"""The progress of long work as lines of a log."""

from __future__ import annotations

import pytest

from storygan_tf.common import progress as module
from storygan_tf.common.progress import counted_progress, progress


@pytest.fixture
def clock(monkeypatch):
    """Returns a clock that a test can set."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_line_estimates_the_time_left(clock, capsys):
    with progress("training", 4, "epoch") as advance:
        clock[0] += 10
        advance(1, "l1 0.5")
    assert capsys.readouterr().out == "training: 1/4 epochs (25%), about 30 s left  l1 0.5\n"


def test_the_estimate_ignores_earlier_parts(clock, capsys):
    """A training that is resumed after 30 of 40 epochs, each of a minute, has nine minutes left after one more."""
    with progress("training", 40, "epoch", done=30) as advance:
        clock[0] += 60
        advance()
    assert capsys.readouterr().out == "training: 31/40 epochs (78%), about 9 min left\n"


def test_short_parts_get_a_line_at_each_tenth(clock, capsys):
    with progress("rendering", 100) as advance:
        for _ in range(100):
            clock[0] += 0.01
            advance()
    assert [line.split(" ")[1] for line in capsys.readouterr().out.splitlines()] == [f"{n}0/100" for n in range(1, 11)]


def test_work_that_counts_its_own_parts(capsys):
    with counted_progress("training the judge", "epoch") as report:
        pass
    assert capsys.readouterr().out == ""
    with counted_progress("training the judge", "epoch") as report:
        report(1, 2)
    assert capsys.readouterr().out.startswith("training the judge: 1/2 epochs (50%), about ")
