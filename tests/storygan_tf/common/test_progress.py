"""Progress of long work, as a log shows it."""

from __future__ import annotations

import pytest

from storygan_tf.common import progress as module
from storygan_tf.common.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_an_estimate_of_what_is_left(clock, capsys):
    with progress("training", 4, "epoch") as advance:
        clock[0] += 10
        advance(1, "l1 0.5")
    assert capsys.readouterr().out == "training: 1/4 epochs (25%), about 30 s left  l1 0.5\n"


def test_what_was_done_before_is_not_taken_for_fast(clock, capsys):
    """A training that goes on after 30 of 40 epochs, each of them a minute, has nine minutes left after one more."""
    with progress("training", 40, "epoch", done=30) as advance:
        clock[0] += 60
        advance()
    assert capsys.readouterr().out == "training: 31/40 epochs (78%), about 9 min left\n"


def test_short_parts_are_told_at_each_tenth(clock, capsys):
    with progress("rendering", 100) as advance:
        for _ in range(100):
            clock[0] += 0.01
            advance()
    assert [line.split(" ")[1] for line in capsys.readouterr().out.splitlines()] == [f"{n}0/100" for n in range(1, 11)]
