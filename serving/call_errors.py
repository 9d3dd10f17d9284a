"""The error of a failed request: its gRPC status, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

from storygan_tf.common.errors import StoryGANError

ADVICE = {
    "UNAVAILABLE": "Is a server running there, with this TLS? If it is overloaded, try again later or add replicas.",
    "DEADLINE_EXCEEDED": "Send fewer stories per request, allow more time (timeout), or add replicas.",
    "NOT_FOUND": "Check the model's name, version or label against those that the server has loaded.",
    "INVALID_ARGUMENT": "Correct the story.",
    "FAILED_PRECONDITION": "Check that the model is a StoryGAN export and that all callers send stories of its length.",
    "RESOURCE_EXHAUSTED": "Raise max_message_bytes, or send fewer stories per request.",
    "UNIMPLEMENTED": "Check that host and port are those of TensorFlow Serving.",
    "UNAUTHENTICATED": "Check the client's certificate.",
}
"""What to do about an error, by the name of its gRPC status."""


class ServingError(StoryGANError, RuntimeError):
    """Raised by the clients if a server does not draw the stories of a request.

    Args:
        status: name of the gRPC status.
        detail: the reason, as a sentence or as the server's message.
        rows: the reason for each refused story, by its position in the request.

    Attributes:
        status: name of the gRPC status.
        detail: the reason.
        rows: the reason for each refused story, by position; empty if the request failed as a whole.
    """

    def __init__(self, status: str, detail: str, rows: Mapping[int, str] | None = None) -> None:
        ending = "" if detail.endswith((".", "!", "?")) else "."
        super().__init__(" ".join(filter(None, [f"{status}: {detail}{ending}", ADVICE.get(status, "")])))
        self.status = status
        self.detail = detail
        self.rows = dict(rows or {})
