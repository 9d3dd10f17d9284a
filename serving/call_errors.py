"""What goes wrong between a client and a server: the status that came, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

from storygan_tf.common.errors import StoryGANError

ADVICE = {
    "UNAVAILABLE": "Is a server running there, with this TLS? If it is overloaded, try again later or add replicas.",
    "DEADLINE_EXCEEDED": "Send fewer stories a request, allow more time (timeout), or add replicas.",
    "NOT_FOUND": "Check the model's name, version or label against those that the server has loaded.",
    "INVALID_ARGUMENT": "Mend the story.",
    "FAILED_PRECONDITION": "Check that the model is a StoryGAN export and that all callers send stories of its length.",
    "RESOURCE_EXHAUSTED": "Raise max_message_bytes, or send fewer stories a request.",
    "UNIMPLEMENTED": "Check that host and port are those of TensorFlow Serving.",
    "UNAUTHENTICATED": "Check the client's certificate.",
}
"""By gRPC status; without an entry there is nothing to advise."""


class ServingError(StoryGANError, RuntimeError):
    """A server did not draw what it was asked to.

    Args:
        status: name of the gRPC status.
        detail: what was found, as a sentence or in the server's words.
        rows: what is wrong with each bad story of the request, by its position.

    Attributes:
        status: as given.
        detail: as given.
        rows: as given.
    """

    def __init__(self, status: str, detail: str, rows: Mapping[int, str] | None = None) -> None:
        ending = "" if detail.endswith((".", "!", "?")) else "."
        super().__init__(" ".join(filter(None, [f"{status}: {detail}{ending}", ADVICE.get(status, "")])))
        self.status = status
        self.detail = detail
        self.rows = dict(rows or {})
