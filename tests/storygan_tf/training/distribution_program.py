"""Prints the properties of strategies in a cluster of one worker and without a TPU as JSON, and ends by SIGTERM.

A program of its own, because workers connect before TensorFlow computes anything.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from storygan_tf.training.distribution import (
    is_chief,
    is_multi_worker,
    make_strategy,
    raise_worker_lost,
    worker_directory,
)
from storygan_tf.training.warm_start import load_initial_model


def error_of(call: Callable[[], Any]) -> list[str]:
    """Returns the type and the message of the error that a call raises; an empty list without one."""
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return []


def lose(strategy: tf.distribute.Strategy, error: Exception) -> None:
    with raise_worker_lost(strategy):
        raise error


def main() -> None:
    load_initial_model("blocks")  # `storygan train` does so before it connects workers: it must not compute anything.
    strategy = make_strategy("multi-worker")
    folder = Path(tempfile.gettempdir()) / "work"
    lost = tf.errors.UnavailableError(None, None, "in a node\nCollective ops is aborted by: worker 1\nis down")
    own = tf.errors.InvalidArgumentError(None, None, "a wrong shape")
    found = {
        "replicas": strategy.num_replicas_in_sync,
        "multi_worker": is_multi_worker(strategy),
        "chief": is_chief(strategy),
        "own_folder": worker_directory(strategy, folder) == folder,
        "lost": error_of(lambda: lose(strategy, lost)),
        "own": error_of(lambda: lose(strategy, own)),
        "tpu": error_of(lambda: make_strategy("tpu")),
    }
    print(json.dumps(found), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


if __name__ == "__main__":
    main()
