"""A StoryGAN behind TensorFlow Serving's gRPC, for synchronous and asynchronous programs.

    with StoryClient("localhost:8500") as client:
        story = client.generate(["A red cube is on the left.", ...], seed=7)
        story.frames[0].save("first.png")

Needs `tensorflow-serving-api`, which brings TensorFlow with it; `serving.rest_client` does not.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.call_errors import ServingError
from serving.story_io import (
    DEFAULT_MODEL,
    GENERATE,
    INFO,
    SERVING_DEFAULT,
    ModelInfo,
    Story,
    check_stories,
    read_stories,
)
from storygan_tf.common.errors import ConfigError

MOST_ATTEMPTS = 5
"""gRPC makes no more."""


@dataclasses.dataclass(frozen=True)
class Tls:
    """How a channel is encrypted.

    Attributes:
        ca: certificates that sign the server's (PEM); the system's by default.
        certificate: the client's own (PEM), where the server asks for one.
        key: of that certificate (PEM).
        server_name: that the server's certificate is for, where that is not the host.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def credentials(self) -> Any:
        """Returns them for gRPC.

        Raises:
            ConfigError: for a file that cannot be read.
        """
        files = [_read(path) for path in (self.ca, self.key, self.certificate)]
        return grpc.ssl_channel_credentials(*files)


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"TLS file {path}: cannot be read ({error}); expected a PEM file.") from error


@dataclasses.dataclass(frozen=True)
class ClientOptions:
    """How a server is asked.

    Attributes:
        model: its name there.
        version: of the model; by default the newest.
        label: of a version, such as stable or canary; by default the newest version.
        timeout: seconds for a request with all its attempts.
        attempts: for a request that finds the server UNAVAILABLE, from 1 to 5.
        backoff: seconds before the second attempt, on average half of it; doubled for each later one.
        max_message_bytes: of an answer; gRPC's own default is 4 MiB.
        tls: None for a channel without encryption.
    """

    model: str = DEFAULT_MODEL
    version: int | None = None
    label: str | None = None
    timeout: float = 30.0
    attempts: int = MOST_ATTEMPTS
    backoff: float = 0.2
    max_message_bytes: int = 64 * 2**20
    tls: Tls | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ConfigError("version and label: found both, expected one of them at the most.")
        if not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise ConfigError(f"attempts: found {self.attempts}, expected 1 to {MOST_ATTEMPTS}.")
        if self.timeout <= 0 or self.backoff <= 0:
            raise ConfigError(f"timeout and backoff: found {self.timeout} and {self.backoff}, expected more than 0.")

    def channel(self) -> list[tuple[str, Any]]:
        """Returns the arguments of a gRPC channel."""
        arguments: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", int(1000 * self.backoff)),
        ]
        if self.attempts > 1:
            policy = {
                "maxAttempts": self.attempts,
                "initialBackoff": f"{self.backoff:.3f}s",
                "maxBackoff": f"{16 * self.backoff:.3f}s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            }
            arguments.append(
                ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]}))
            )
        if self.tls and self.tls.server_name:
            arguments.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return arguments


class _Asker:
    """What both clients share: messages, and what the model says of itself, kept until another version answers."""

    def __init__(self, options: ClientOptions) -> None:
        self.options = options
        self.known: ModelInfo | None = None

    def request(self, signature: str, **inputs: Any) -> predict_pb2.PredictRequest:
        """Returns a request; inputs are arrays, texts as objects."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.options.model
        request.model_spec.signature_name = signature
        if self.options.version is not None:
            request.model_spec.version.value = self.options.version
        if self.options.label is not None:
            request.model_spec.version_label = self.options.label
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        return request

    def info_request(self) -> predict_pb2.PredictRequest:
        """Returns what asks for the model's information."""
        return self.request(INFO, query=np.array([b""], object))

    def keep_info(self, response: predict_pb2.PredictResponse) -> ModelInfo:
        """Reads the model's information and keeps it."""
        answer = _strings(response, "info").ravel()
        self.known = ModelInfo.read(answer[0] if len(answer) else b"", response.model_spec.version.value)
        return self.known

    def forgets(self, stories: Sequence[Sequence[str]], info: ModelInfo) -> bool:
        """Whether stories are not of the length that was told: another model may be served by now, and is asked."""
        if all(len(story) == info.frames for story in stories):
            return False
        self.known = None
        return True

    def story_request(
        self, stories: Sequence[Sequence[str]], seeds: Sequence[int] | None, info: ModelInfo
    ) -> predict_pb2.PredictRequest:
        """Checks stories and returns what asks for them."""
        check_stories(stories, seeds, info.frames)
        try:
            sentences = np.array([[sentence.encode() for sentence in story] for story in stories], object)
        except (AttributeError, UnicodeEncodeError) as error:
            raise ServingError("INVALID_ARGUMENT", f"found a sentence that is no text ({error}).") from error
        if seeds is None:
            return self.request(SERVING_DEFAULT, sentences=sentences)
        return self.request(GENERATE, sentences=sentences, seed=np.array(seeds, np.int64))

    def stories(
        self,
        stories: Sequence[Sequence[str]],
        seeds: Sequence[int] | None,
        response: predict_pb2.PredictResponse,
        info: ModelInfo,
    ) -> list[Story]:
        """Reads the stories that came."""
        version = response.model_spec.version.value
        if version != info.version:
            self.known = None
        errors = [error.decode() for error in _strings(response, "error")]
        pictures = _strings(response, "image_bytes").tolist()
        return read_stories(stories, seeds, errors, pictures, info, version=version)

    def error(self, error: grpc.RpcError) -> ServingError:
        """Returns what a failed call is to the user."""
        status = error.code().name
        if status == "INVALID_ARGUMENT":
            self.known = None  # perhaps the server has a model of another length by now
        return ServingError(status, error.details() or "no reason was given")


def _strings(response: predict_pb2.PredictResponse, name: str) -> np.ndarray:
    if name not in response.outputs:
        raise ServingError(
            "FAILED_PRECONDITION", f"found outputs {sorted(response.outputs)}, expected one called {name!r}."
        )
    return np.asarray(tf.make_ndarray(response.outputs[name]))


class StoryClient:
    """Asks a server for stories; may be used from several threads.

    Args:
        target: host:port.
        options: fields of `ClientOptions`.

    Raises:
        ConfigError: for options that cannot be used.
    """

    def __init__(self, target: str, **options: Any) -> None:
        self._asker = _Asker(ClientOptions(**options))
        given = self._asker.options
        if given.tls:
            self._channel = grpc.secure_channel(target, given.tls.credentials(), given.channel())
        else:
            self._channel = grpc.insecure_channel(target, given.channel())
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def __enter__(self) -> StoryClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def info(self) -> ModelInfo:
        """Returns what the model says of itself.

        Raises:
            ServingError: where the server does not answer, or not as a StoryGAN does.
        """
        return self._asker.known or self._asker.keep_info(self._ask(self._asker.info_request(), None))

    def generate(self, sentences: Sequence[str], seed: int | None = None, timeout: float | None = None) -> Story:
        """Draws a story.

        Args:
            sentences: T of them.
            seed: whole number; a hash of the sentences where not given.
            timeout: seconds; by default that of the client.

        Raises:
            ServingError: with the status: INVALID_ARGUMENT for a story that cannot be drawn.
        """
        return self.generate_many([sentences], None if seed is None else [seed], timeout)[0]

    def generate_many(
        self, stories: Sequence[Sequence[str]], seeds: Sequence[int] | None = None, timeout: float | None = None
    ) -> list[Story]:
        """Draws stories in one request; `error.rows` tells which of them were refused. See `generate`."""
        info = self.info()
        if self._asker.forgets(stories, info):
            info = self.info()
        response = self._ask(self._asker.story_request(stories, seeds, info), timeout)
        return self._asker.stories(stories, seeds, response, info)

    def _ask(self, request: predict_pb2.PredictRequest, timeout: float | None) -> predict_pb2.PredictResponse:
        try:
            return self._stub.Predict(request, timeout or self._asker.options.timeout)
        except grpc.RpcError as error:
            raise self._asker.error(error) from error


class AsyncStoryClient:
    """The same for asyncio: `async with AsyncStoryClient(target) as client: await client.generate(...)`.

    Args:
        target: host:port.
        options: fields of `ClientOptions`.

    Raises:
        ConfigError: for options that cannot be used.
    """

    def __init__(self, target: str, **options: Any) -> None:
        self._asker = _Asker(ClientOptions(**options))
        given = self._asker.options
        if given.tls:
            self._channel = grpc.aio.secure_channel(target, given.tls.credentials(), given.channel())
        else:
            self._channel = grpc.aio.insecure_channel(target, given.channel())
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    async def __aenter__(self) -> AsyncStoryClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def info(self) -> ModelInfo:
        """See `StoryClient.info`."""
        return self._asker.known or self._asker.keep_info(await self._ask(self._asker.info_request(), None))

    async def generate(self, sentences: Sequence[str], seed: int | None = None, timeout: float | None = None) -> Story:
        """See `StoryClient.generate`."""
        return (await self.generate_many([sentences], None if seed is None else [seed], timeout))[0]

    async def generate_many(
        self, stories: Sequence[Sequence[str]], seeds: Sequence[int] | None = None, timeout: float | None = None
    ) -> list[Story]:
        """See `StoryClient.generate_many`."""
        info = await self.info()
        if self._asker.forgets(stories, info):
            info = await self.info()
        response = await self._ask(self._asker.story_request(stories, seeds, info), timeout)
        return self._asker.stories(stories, seeds, response, info)

    async def _ask(self, request: predict_pb2.PredictRequest, timeout: float | None) -> predict_pb2.PredictResponse:
        try:
            return await self._stub.Predict(request, timeout=timeout or self._asker.options.timeout)
        except grpc.RpcError as error:
            raise self._asker.error(error) from error


class ServedStoryGAN:
    """A served model with the methods of `storygan_tf.export.loaded_model.SavedStoryGAN`, for commands that take both.

    Args:
        target: host:port.
        options: fields of `ClientOptions`.

    Attributes:
        info: what signature `info` answers.
        frames: sentences and frames a story.

    Raises:
        ServingError: where the server does not answer.
    """

    def __init__(self, target: str, **options: Any) -> None:
        self._client = StoryClient(target, **options)
        self._told = self._client.info()
        self.info = self._told.values
        self.frames = self._told.frames

    def generate(self, stories: Sequence[Sequence[str]], seeds: Sequence[int] | None = None) -> np.ndarray:
        """Draws stories: uint8 [batch, T, 64, 64, 3]; errors as of `StoryClient.generate_many`."""
        drawn = self._client.generate_many(stories, seeds)
        return np.stack([np.stack([np.asarray(frame) for frame in story.frames]) for story in drawn])

    def unknown_words(self, sentences: Iterable[str]) -> list[str]:
        """Returns the words that training never saw, in order of appearance."""
        return list(self._told.unknown_words(sentences))

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()
