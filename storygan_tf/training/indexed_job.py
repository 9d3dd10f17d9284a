"""Who the workers are in a Kubernetes Indexed Job, which sets no `TF_CONFIG` (`docs/distributed.md`).

Kubernetes gives each pod of such a Job its index, and the host name `JOB-INDEX`; a headless service makes it known to
the others as `JOB-INDEX.SERVICE`. The manifest says the rest in variables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from storygan_tf.common.errors import ConfigError

WORKERS = "STORYGAN_WORKERS"
"""How many workers there are. Where it is not set, this is no such Job."""

JOB = "STORYGAN_JOB"
"""Name of the Job."""

SERVICE = "STORYGAN_SERVICE"
"""Name of the headless service."""

PORT = "STORYGAN_PORT"
"""The port that every worker listens at."""

INDEX = "JOB_COMPLETION_INDEX"
"""Of this pod, from 0; set by Kubernetes."""


def tf_config(environment: Mapping[str, str]) -> str | None:
    """Returns what `TF_CONFIG` has to be in a pod of an Indexed Job; None where this is none.

    Args:
        environment: the pod's variables.

    Raises:
        ConfigError: where one of them is missing or is not what it has to be.
    """
    if not environment.get(WORKERS):
        return None
    count = _number(environment, WORKERS, 1)
    index = _number(environment, INDEX, 0)
    if index >= count:
        raise ConfigError(
            f"{INDEX}: found {index}, expected less than {WORKERS}={count}. Let the Job's `completions` and "
            f"`parallelism` be {WORKERS}, or the other way round."
        )
    job, service, port = _text(environment, JOB), _text(environment, SERVICE), _number(environment, PORT, 1)
    workers = [f"{job}-{number}.{service}:{port}" for number in range(count)]
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})


def _text(environment: Mapping[str, str], name: str) -> str:
    text = environment.get(name, "")
    if not text:
        hint = "`completionMode: Indexed` sets it" if name == INDEX else "the manifest of `storygan compile` sets it"
        raise ConfigError(f"{name} is not set, but {WORKERS} is, and TF_CONFIG is not: {hint}.")
    return text


def _number(environment: Mapping[str, str], name: str, least: int) -> int:
    text = _text(environment, name)
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise ConfigError(f"{name}: found {text!r}, expected a whole number from {least} on.")
    return int(text)
