"""Settings for downloads by tensorflow_hub. This module does not import tensorflow_hub itself."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

SECONDS_WITHOUT_ANSWER = 30.0
"""Seconds that a server may stay silent before its handle counts as unreachable."""


@contextlib.contextmanager
def hub_socket_timeout(seconds: float = SECONDS_WITHOUT_ANSWER) -> Iterator[None]:
    """Limits how long sockets opened inside the `with` block wait for an answer.

    tensorflow_hub has no timeout of its own and waits forever for a silent server. This sets the default socket timeout
    of the process, and restores the previous one at the end of the block.

    Args:
        seconds: the longest wait for an answer.
    """
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)
