"""Computes `TF_CONFIG` for the workers of a Kubernetes Indexed Job (`docs/distributed.md`).

Kubernetes does not set `TF_CONFIG`. It gives each pod of such a Job an index and the host name `JOB-INDEX`, which a
headless service resolves as `JOB-INDEX.SERVICE`. The manifest sets the other values in environment variables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from storygan_tf.common.errors import ConfigError

WORKERS = "STORYGAN_WORKERS"
"""The environment variable with the number of workers. If it is not set, the process is not part of such a Job."""

JOB = "STORYGAN_JOB"
"""The environment variable with the name of the Job."""

SERVICE = "STORYGAN_SERVICE"
"""The environment variable with the name of the headless service."""

PORT = "STORYGAN_PORT"
"""The environment variable with the port that every worker listens on."""

INDEX = "JOB_COMPLETION_INDEX"
"""The environment variable with the index of this pod, from 0; set by Kubernetes."""


def tf_config(environment: Mapping[str, str]) -> str | None:
    """Returns the value of `TF_CONFIG` for a pod of an Indexed Job; None if this is not such a pod.

    Args:
        environment: environment variables of the pod.

    Raises:
        ConfigError: if one of the variables is missing or has a wrong value.
    """
    if not environment.get(WORKERS):
        return None
    count = _number(environment, WORKERS, 1)
    index = _number(environment, INDEX, 0)
    if index >= count:
        raise ConfigError(
            f"{INDEX}: found {index}, expected less than {WORKERS}={count}. Set the Job's `completions` and "
            f"`parallelism` to {WORKERS}, or {WORKERS} to them."
        )
    job, service, port = _text(environment, JOB), _text(environment, SERVICE), _number(environment, PORT, 1)
    workers = [f"{job}-{number}.{service}:{port}" for number in range(count)]
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})


def _text(environment: Mapping[str, str], name: str) -> str:
    """Returns the value of a variable that must be set."""
    text = environment.get(name, "")
    if not text:
        hint = "`completionMode: Indexed` sets it" if name == INDEX else "the manifest of `storygan compile` sets it"
        raise ConfigError(f"{name} is not set, but {WORKERS} is, and TF_CONFIG is not: {hint}.")
    return text


def _number(environment: Mapping[str, str], name: str, least: int) -> int:
    """Returns the value of a variable that must be a whole number of at least `least`."""
    text = _text(environment, name)
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise ConfigError(f"{name}: found {text!r}, expected a whole number from {least} on.")
    return int(text)
