"""Draws the stories of a batch with an exported model in the worker's process, or with a server.

A source describes the model and is sent to the workers; there it opens a generator, once per process.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from serving.batch_input import DrawTask
from serving.call_errors import ServingError
from serving.client import StoryClient, Tls
from serving.story_io import DEFAULT_MODEL
from storygan_tf.common.errors import ModelError
from storygan_tf.data.datasets.image_sources import to_png
from storygan_tf.export.lineage import model_fingerprint
from storygan_tf.export.loaded_model import SavedStoryGAN


class DrawnStory(NamedTuple):
    """The pictures of a story, or the reason why it was refused.

    Attributes:
        frames: T PNGs; empty if the story was refused.
        error: why the story was refused; empty if it was drawn.
    """

    frames: list[bytes]
    error: str = ""


class Generator(Protocol):
    """Interface of what draws stories. Several threads may use it at the same time.

    Attributes:
        frames: sentences and frames per story, T.
        concurrency: number of batches processed at the same time.
    """

    frames: int
    concurrency: int

    def draw(self, stories: Sequence[Sequence[str]], seeds: Sequence[int]) -> list[DrawnStory]:
        """Draws a batch of stories.

        Args:
            stories: [batch] of T sentences each.
            seeds: [batch] integers of 64 bits.

        Returns:
            [batch] pictures, or reasons for refused stories.

        Raises:
            StoryGANError: if the batch as a whole cannot be drawn.
        """


class GeneratorSource(Protocol):
    """Interface of a description of a model. It is pickled and sent to the workers."""

    @property
    def version(self) -> str:
        """Version of the model."""

    def __hash__(self) -> int:
        """Returns a hash, by which `open_generator` caches the generator."""

    def identity(self) -> dict[str, Any]:
        """Returns JSON values that are equal only for sources that draw the same pictures."""

    def open(self) -> Generator:
        """Loads the model or connects to the server."""


@dataclasses.dataclass(frozen=True)
class SavedSource:
    """An exported model on disk.

    Attributes:
        path: the model's version directory.
    """

    path: str

    @property
    def version(self) -> str:
        """The version directory's name."""
        return Path(self.path).name

    def identity(self) -> dict[str, Any]:
        """Returns the version and the SHA-256 of the model's files; see `GeneratorSource`."""
        return {"version": self.version, "model_sha256": model_fingerprint(self.path)}

    def open(self) -> Generator:
        """Loads the model."""
        return _SavedGenerator(self.path)


class _SavedGenerator:
    """A model in this process. One batch at a time uses all cores."""

    concurrency = 1

    def __init__(self, path: str) -> None:
        self._saved = SavedStoryGAN(path)
        self.frames = self._saved.frames

    def draw(self, stories: Sequence[Sequence[str]], seeds: Sequence[int]) -> list[DrawnStory]:
        """Draws a batch; see `Generator.draw`."""
        try:
            pictures, errors = self._saved.pictures(stories, seeds)
        except tf.errors.OpError as error:
            raise ModelError(
                f"model {self._saved.path}: cannot draw a batch of {len(stories)} ({error.message})."
            ) from error
        return [
            DrawnStory([], error) if error else DrawnStory(row) for row, error in zip(pictures, errors, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class ServedSource:
    """A model behind TensorFlow Serving's gRPC.

    Attributes:
        target: host:port of the server.
        model: name of the served model.
        label: label of a version; None for the newest version.
        number: number of the version that draws the whole job; None before `pinned`.
        concurrency: number of requests that a worker sends at the same time.
        timeout: seconds for a request.
        tls_ca: PEM file of the certificates to trust; None for a channel without encryption.
    """

    target: str
    model: str = DEFAULT_MODEL
    label: str | None = None
    number: int | None = None
    concurrency: int = 4
    timeout: float = 120.0
    tls_ca: str | None = None

    @property
    def version(self) -> str:
        """The version number; empty before `pinned`."""
        return str(self.number or "")

    def pinned(self) -> ServedSource:
        """Returns a copy with the number of the version that answers now, so that one version draws the whole job.

        Raises:
            ServingError: if the server does not answer.
        """
        with self.client() as client:
            return dataclasses.replace(self, number=client.info().version or None)

    def identity(self) -> dict[str, Any]:
        """Returns the model's name and version; see `GeneratorSource`."""
        return {"version": self.version, "served_name": self.model}

    def client(self) -> StoryClient:
        """Returns a client of the version `number`, or of `label` if there is no number."""
        label = self.label if self.number is None else None
        tls = Tls(ca=Path(self.tls_ca)) if self.tls_ca else None
        return StoryClient(
            self.target, model=self.model, label=label, version=self.number, timeout=self.timeout, tls=tls
        )

    def open(self) -> Generator:
        """Connects to the server."""
        return _ServedGenerator(self)


class _ServedGenerator:
    """A server, which draws several batches at the same time."""

    def __init__(self, source: ServedSource) -> None:
        self.concurrency = source.concurrency
        self._client = source.client()
        self.frames = self._client.info().frames

    def draw(self, stories: Sequence[Sequence[str]], seeds: Sequence[int]) -> list[DrawnStory]:
        """Requests all stories, and if the server refuses some, the others once more; see `Generator.draw`."""
        drawn = [DrawnStory([])] * len(stories)
        pending = list(range(len(stories)))
        while pending:
            try:
                answer = self._client.generate_many([stories[row] for row in pending], [seeds[row] for row in pending])
            except ServingError as error:
                if not error.rows:
                    raise
                for number, reason in error.rows.items():
                    drawn[pending[number]] = DrawnStory([], reason)
                pending = [row for number, row in enumerate(pending) if number not in error.rows]
                continue
            for row, story in zip(pending, answer, strict=True):
                drawn[row] = DrawnStory([to_png(frame) for frame in story.frames])
            break
        return drawn


_OPENING = threading.Lock()


def open_generator(source: GeneratorSource) -> Generator:
    """Returns the generator of a source. A process opens it once, however many threads and shards it has."""
    with _OPENING:
        return _open(source)


@functools.lru_cache(maxsize=1)
def _open(source: GeneratorSource) -> Generator:
    return source.open()


def close_generators() -> None:
    """Drops the generators that this process has opened."""
    with _OPENING:
        _open.cache_clear()


def draw_all(generator: Generator, batches: Iterable[Sequence[DrawTask]]) -> Iterator[tuple[DrawTask, DrawnStory]]:
    """Draws batches in threads and yields each task with its pictures, in the order of the tasks.

    While the caller processes a batch, the next `generator.concurrency` batches are drawn.

    Args:
        generator: draws the stories.
        batches: batches of tasks; read only as far as needed.

    Raises:
        StoryGANError: if a batch as a whole cannot be drawn.
    """
    waiting: collections.deque[tuple[Sequence[DrawTask], Future[list[DrawnStory]]]] = collections.deque()
    with ThreadPoolExecutor(generator.concurrency) as pool:
        for batch in batches:
            waiting.append((batch, pool.submit(_draw, generator, batch)))
            if len(waiting) > generator.concurrency:
                yield from _outcomes(*waiting.popleft())
        while waiting:
            yield from _outcomes(*waiting.popleft())


def _draw(generator: Generator, batch: Sequence[DrawTask]) -> list[DrawnStory]:
    """Draws a batch. Stories of another length are refused here, because they would fail the whole batch."""
    drawn = [_wrong_length(task, generator.frames) for task in batch]
    valid = [number for number, outcome in enumerate(drawn) if not outcome.error]
    if valid:
        tasks = [batch[number] for number in valid]
        answer = generator.draw([task.sentences for task in tasks], [task.seed for task in tasks])
        for number, outcome in zip(valid, answer, strict=True):
            drawn[number] = outcome
    return drawn


def _wrong_length(task: DrawTask, frames: int) -> DrawnStory:
    count = len(task.sentences)
    return DrawnStory([], "" if count == frames else f"{count} sentences, expected {frames}")


def _outcomes(batch: Sequence[DrawTask], drawn: Future[list[DrawnStory]]) -> Iterator[tuple[DrawTask, DrawnStory]]:
    yield from zip(batch, drawn.result(), strict=True)
