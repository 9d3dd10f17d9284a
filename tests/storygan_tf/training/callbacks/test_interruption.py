"""SIGTERM and SIGINT are recorded while `StopOnSignal` is open, and work as before afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from storygan_tf.training.callbacks.interruption import StopOnSignal


@pytest.fixture
def python_handlers() -> Iterator[None]:
    """Restores Python's signal handlers, because a shell starts background processes with SIGINT ignored."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("python_handlers")
def test_the_first_signal_is_recorded_and_the_second_works_as_before():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopOnSignal() as stop:
        assert stop.signal == ""
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_handlers_are_restored_without_a_signal():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopOnSignal() as stop:
        assert all(signal.getsignal(number) == stop._record for number in (signal.SIGTERM, signal.SIGINT))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_in_other_threads_handlers_stay_as_they_are():
    def enter():
        with StopOnSignal():
            handlers.append(signal.getsignal(signal.SIGTERM))

    handlers = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]
