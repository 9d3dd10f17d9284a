"""gRPC clients of a StoryGAN behind TensorFlow Serving, for synchronous and asynchronous programs.

    with StoryClient("localhost:8500") as client:
        story = client.generate(["A red cube is on the left.", ...], seed=7)
        story.frames[0].save("first.png")

Needs `tensorflow-serving-api`, which installs TensorFlow; `serving.rest_client` does not need it.
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

from serving.base_client import BlockingStoryClient, InfoCache
from serving.call_errors import ServingError
from serving.story_io import (
    DEFAULT_MODEL,
    GENERATE,
    INFO,
    ModelInfo,
    Story,
    check_stories,
    read_stories,
)
from storygan_tf.common.errors import ConfigError

MAX_ATTEMPTS = 5
"""gRPC makes no more attempts than this, whatever its retry policy says."""


@dataclasses.dataclass(frozen=True)
class Tls:
    """Certificates of an encrypted channel.

    Attributes:
        ca: PEM file of the certificates that sign the server's; None for the system's.
        certificate: PEM file of the client's own certificate, if the server requires one.
        key: PEM file of that certificate's private key.
        server_name: the name in the server's certificate, if it is not the host's.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def credentials(self) -> Any:
        """Returns gRPC's channel credentials.

        Raises:
            ConfigError: if a file cannot be read.
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
    """Settings of a gRPC client.

    Attributes:
        model: name of the served model.
        version: version of the model; None for the newest.
        label: label of a version, such as stable or canary; None for the newest version.
        timeout: seconds for a request with all its attempts.
        attempts: how often a request is sent while the server is UNAVAILABLE, from 1 to 5.
        backoff: longest wait in seconds before the second attempt; it doubles for each later attempt.
        max_message_bytes: largest message; gRPC's own default is 4 MiB.
        tls: certificates; None for a channel without encryption.

    Raises:
        ConfigError: if a value is out of range, or both version and label are set.
    """

    model: str = DEFAULT_MODEL
    version: int | None = None
    label: str | None = None
    timeout: float = 30.0
    attempts: int = MAX_ATTEMPTS
    backoff: float = 0.2
    max_message_bytes: int = 64 * 2**20
    tls: Tls | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ConfigError("version and label: found both, expected at most one of them.")
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise ConfigError(f"attempts: found {self.attempts}, expected 1 to {MAX_ATTEMPTS}.")
        if self.timeout <= 0 or self.backoff <= 0:
            raise ConfigError(f"timeout and backoff: found {self.timeout} and {self.backoff}, expected more than 0.")

    def open_channel(self, target: str, library: Any) -> Any:
        """Returns a channel to host:port.

        Args:
            target: host:port of the server.
            library: `grpc` for a synchronous channel, `grpc.aio` for asyncio.

        Raises:
            ConfigError: if a TLS file cannot be read.
        """
        if self.tls:
            return library.secure_channel(target, self.tls.credentials(), self._channel_arguments())
        return library.insecure_channel(target, self._channel_arguments())

    def _channel_arguments(self) -> list[tuple[str, Any]]:
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


def _request(options: ClientOptions, signature: str, **inputs: Any) -> predict_pb2.PredictRequest:
    """Returns a PredictRequest; `inputs` are arrays by input name, strings as arrays of objects."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = options.model
    request.model_spec.signature_name = signature
    if options.version is not None:
        request.model_spec.version.value = options.version
    if options.label is not None:
        request.model_spec.version_label = options.label
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request


def _info_request(options: ClientOptions) -> predict_pb2.PredictRequest:
    return _request(options, INFO, query=np.array([b""], object))


def _read_info(response: predict_pb2.PredictResponse) -> ModelInfo:
    answers = _strings(response, "info").ravel()
    return ModelInfo.from_json(answers[0] if len(answers) else b"", response.model_spec.version.value)


def _story_request(
    options: ClientOptions, stories: Sequence[Sequence[str]], seeds: Sequence[int]
) -> predict_pb2.PredictRequest:
    sentences = np.array([[sentence.encode() for sentence in story] for story in stories], object)
    return _request(options, GENERATE, sentences=sentences, seed=np.array(seeds, np.int64))


def _read_response(
    response: predict_pb2.PredictResponse,
    stories: Sequence[Sequence[str]],
    seeds: Sequence[int],
    info: ModelInfo,
) -> list[Story]:
    errors = [error.decode() for error in _strings(response, "error")]
    pictures = _strings(response, "image_bytes").tolist()
    return read_stories(stories, seeds, errors, pictures, info, version=response.model_spec.version.value)


def _strings(response: predict_pb2.PredictResponse, name: str) -> np.ndarray:
    if name not in response.outputs:
        raise ServingError(
            "FAILED_PRECONDITION", f"found outputs {sorted(response.outputs)}, expected one called {name!r}."
        )
    return np.asarray(tf.make_ndarray(response.outputs[name]))


def _serving_error(error: grpc.RpcError) -> ServingError:
    return ServingError(error.code().name, error.details() or "the server gave no reason")


class StoryClient(BlockingStoryClient):
    """Synchronous gRPC client; several threads may share one.

    Args:
        target: host:port of the server.
        options: fields of `ClientOptions`.

    Raises:
        ConfigError: if an option cannot be used.
    """

    def __init__(self, target: str, **options: Any) -> None:
        super().__init__()
        self._options = ClientOptions(**options)
        self._channel = self._options.open_channel(target, grpc)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def __enter__(self) -> StoryClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _request_info(self) -> ModelInfo:
        return _read_info(self._predict(_info_request(self._options), None))

    def _request_stories(
        self, stories: Sequence[Sequence[str]], seeds: Sequence[int], info: ModelInfo, timeout: float | None
    ) -> list[Story]:
        response = self._predict(_story_request(self._options, stories, seeds), timeout)
        self._cache.drop_other_version(response.model_spec.version.value)
        return _read_response(response, stories, seeds, info)

    def _predict(self, request: predict_pb2.PredictRequest, timeout: float | None) -> predict_pb2.PredictResponse:
        try:
            return self._stub.Predict(request, timeout or self._options.timeout)
        except grpc.RpcError as error:
            raise _serving_error(error) from error


class AsyncStoryClient:
    """The same client for asyncio: `async with AsyncStoryClient(target) as client: await client.generate(...)`.

    Args:
        target: host:port of the server.
        options: fields of `ClientOptions`.

    Raises:
        ConfigError: if an option cannot be used.
    """

    def __init__(self, target: str, **options: Any) -> None:
        self._cache = InfoCache()
        self._options = ClientOptions(**options)
        self._channel = self._options.open_channel(target, grpc.aio)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    async def __aenter__(self) -> AsyncStoryClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def info(self) -> ModelInfo:
        """Returns the model's information; see `StoryClient.info`."""
        info = self._cache.info
        if info is None:
            self._cache.info = info = _read_info(await self._predict(_info_request(self._options), None))
        return info

    async def generate(self, sentences: Sequence[str], seed: int = 0, timeout: float | None = None) -> Story:
        """Draws a story; see `StoryClient.generate`."""
        return (await self.generate_many([sentences], [seed], timeout))[0]

    async def generate_many(
        self, stories: Sequence[Sequence[str]], seeds: Sequence[int] | None = None, timeout: float | None = None
    ) -> list[Story]:
        """Draws several stories in one request; see `StoryClient.generate_many`."""
        self._cache.drop_unless_it_fits(stories)
        info = await self.info()
        seeds = check_stories(stories, seeds, info.frames)
        with self._cache.dropped_by_refusal():
            response = await self._predict(_story_request(self._options, stories, seeds), timeout)
            self._cache.drop_other_version(response.model_spec.version.value)
            return _read_response(response, stories, seeds, info)

    async def _predict(self, request: predict_pb2.PredictRequest, timeout: float | None) -> predict_pb2.PredictResponse:
        try:
            return await self._stub.Predict(request, timeout=timeout or self._options.timeout)
        except grpc.RpcError as error:
            raise _serving_error(error) from error


class ServedStoryGAN:
    """A served model with the methods of `storygan_tf.export.loaded_model.SavedStoryGAN`, for commands that take both.

    Args:
        target: host:port of the server.
        options: fields of `ClientOptions`.

    Attributes:
        info: the JSON object that signature `info` returns.
        frames: sentences and frames per story, T.

    Raises:
        ConfigError: if an option cannot be used.
        ServingError: if the server does not answer.
    """

    def __init__(self, target: str, **options: Any) -> None:
        self._client = StoryClient(target, **options)
        self._model_info = self._client.info()
        self.info = self._model_info.values
        self.frames = self._model_info.frames

    def generate(self, stories: Sequence[Sequence[str]], seeds: Sequence[int] | None = None) -> np.ndarray:
        """Draws stories.

        Args:
            stories: [batch] of T sentences each.
            seeds: [batch] integers of 64 bits; None for 0 for every story.

        Returns:
            uint8 [batch, T, 64, 64, 3].

        Raises:
            ServingError: if a story cannot be drawn; see `StoryClient.generate_many`.
        """
        drawn = self._client.generate_many(stories, seeds)
        return np.stack([np.stack([np.asarray(frame) for frame in story.frames]) for story in drawn])

    def unknown_words(self, sentences: Iterable[str]) -> list[str]:
        """Returns the words that do not occur in the training stories, in order of appearance."""
        return list(self._model_info.unknown_words(sentences))

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()
