"""REST client of a StoryGAN behind TensorFlow Serving. Needs the standard library and Pillow, not TensorFlow or gRPC.

client = RestStoryClient("http://localhost:8501")
client.generate(["A red cube is on the left.", ...], seed=7).frames[0].save("first.png")
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from serving.base_client import BlockingStoryClient
from serving.call_errors import ServingError
from serving.story_io import (
    DEFAULT_MODEL,
    GENERATE,
    INFO,
    ModelInfo,
    Story,
    read_stories,
)
from storygan_tf.common.errors import ConfigError

STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""gRPC's status by HTTP status; all others are INTERNAL."""


class RestStoryClient(BlockingStoryClient):
    """Synchronous REST client.

    Args:
        url: `http://host:port` or `https://host:port` of the server.
        model: name of the served model.
        version: version of the model; None for the newest.
        label: label of a version, such as stable or canary; None for the newest version.
        timeout: seconds for a request with all its attempts.
        attempts: how often a request is sent while the server is UNAVAILABLE.
        backoff: longest wait in seconds before the second attempt; it doubles for each later attempt.
        tls: certificates for https; None for the system's.

    Raises:
        ConfigError: if `url` is no such URL, or both version and label are set.
    """

    def __init__(
        self,
        url: str,
        model: str = DEFAULT_MODEL,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        attempts: int = 5,
        backoff: float = 0.2,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"url: found {url!r}, expected http://host:port or https://host:port.")
        if version is not None and label is not None:
            raise ConfigError("version and label: found both, expected at most one of them.")
        version_path = f"/versions/{version}" if version is not None else f"/labels/{quote(label, '')}" if label else ""
        self._url = f"{url.rstrip('/')}/v1/models/{quote(model, '')}{version_path}:predict"
        self._timeout = timeout
        self._attempts = max(1, attempts)
        self._backoff = backoff
        self._tls = tls

    def _request_info(self) -> ModelInfo:
        (answer,) = self._predict(INFO, [""], self._timeout)
        return ModelInfo.from_json(answer if isinstance(answer, str) else "")

    def _request_stories(
        self, stories: Sequence[Sequence[str]], seeds: Sequence[int], info: ModelInfo, timeout: float | None
    ) -> list[Story]:
        instances = [{"sentences": list(story), "seed": seed} for story, seed in zip(stories, seeds, strict=True)]
        answers = self._predict(GENERATE, instances, timeout or self._timeout)
        try:
            errors = [row["error"] for row in answers]
            pictures = [[base64.b64decode(frame["b64"]) for frame in row["image_bytes"]] for row in answers]
        except (KeyError, TypeError, binascii.Error) as error:
            raise ServingError("INTERNAL", f"found an answer without error and image_bytes ({error!r}).") from error
        return read_stories(stories, seeds, errors, pictures, info)

    def _predict(self, signature: str, instances: list[Any], timeout: float) -> list[Any]:
        body = json.dumps({"signature_name": signature, "instances": instances}).encode()
        deadline = time.monotonic() + timeout
        for attempt in range(self._attempts):
            try:
                return self._post(body, deadline)
            except ServingError as error:
                pause = random.uniform(0, self._backoff * 2**attempt)
                last = attempt + 1 == self._attempts or time.monotonic() + pause >= deadline
                if error.status != "UNAVAILABLE" or last:
                    raise
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _post(self, body: bytes, deadline: float) -> list[Any]:
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        seconds = max(0.001, deadline - time.monotonic())
        try:
            with urllib.request.urlopen(request, timeout=seconds, context=self._tls) as response:
                predictions: list[Any] = json.load(response)["predictions"]
                return predictions
        except urllib.error.HTTPError as error:
            raise ServingError(STATUS.get(error.code, "INTERNAL"), _reason(error)) from error
        except TimeoutError as error:
            raise ServingError("DEADLINE_EXCEEDED", f"{self._url}: no answer in time") from error
        except (urllib.error.URLError, OSError) as error:
            late = isinstance(getattr(error, "reason", None), TimeoutError)
            raise ServingError("DEADLINE_EXCEEDED" if late else "UNAVAILABLE", f"{self._url}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ServingError("INTERNAL", f"{self._url}: found an answer without predictions ({error!r})") from error


def _reason(error: urllib.error.HTTPError) -> str:
    """Returns the error message in a response; without one, its text or its HTTP status."""
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (KeyError, TypeError, ValueError):
        return text.strip() or f"HTTP {error.code}"
