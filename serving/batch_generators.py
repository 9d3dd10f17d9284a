"""Who draws the stories of a batch: an exported model in the worker's process, or a server.

A source is what travels to workers; a generator is what it opens there, once a process.
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
    """What became of a story.

    Attributes:
        frames: T PNGs; none where it was refused.
        error: why it was refused; empty where it was drawn.
    """

    frames: list[bytes]
    error: str = ""


class Generator(Protocol):
    """Draws stories; may be asked from several threads.

    Attributes:
        frames: sentences and frames a story, T.
        concurrency: batches that it is asked for at a time.
    """

    frames: int
    concurrency: int

    def draw(self, stories: Sequence[Sequence[str]], seeds: Sequence[int]) -> list[DrawnStory]:
        """Draws stories of T sentences each.

        Raises:
            StoryGANError: where it cannot draw any.
        """


class GeneratorSource(Protocol):
    """Where the pictures come from; small enough to travel to a worker."""

    @property
    def version(self) -> str:
        """Of the model."""

    def __hash__(self) -> int:
        """Tells sources apart, of which a process opens each once."""

    def identity(self) -> dict[str, Any]:
        """Returns what must be the same for pictures to be the same: JSON values."""

    def opened(self) -> Generator:
        """Returns the generator."""


@dataclasses.dataclass(frozen=True)
class SavedSource:
    """An exported model.

    Attributes:
        path: its version directory.
    """

    path: str

    @property
    def version(self) -> str:
        """The version directory's name."""
        return Path(self.path).name

    def identity(self) -> dict[str, Any]:
        """Returns version and fingerprint; see `Source`."""
        return {"version": self.version, "model_sha256": model_fingerprint(self.path)}

    def opened(self) -> Generator:
        """Loads the model; see `Source`."""
        return _SavedGenerator(self.path)


class _SavedGenerator:
    """A model in this process, which takes all of its cores by itself."""

    concurrency = 1

    def __init__(self, path: str) -> None:
        self._saved = SavedStoryGAN(path)
        self.frames = self._saved.frames

    def draw(self, stories: Sequence[Sequence[str]], seeds: Sequence[int]) -> list[DrawnStory]:
        """See `Generator`."""
        try:
            pictures, errors = self._saved.pictures(stories, seeds)
        except tf.errors.OpError as error:
            raise ModelError(
                f"model {self._saved.path}: cannot draw a batch of {len(stories)} ({error.message})."
            ) from (error)
        return [
            DrawnStory([], error) if error else DrawnStory(row) for row, error in zip(pictures, errors, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class ServedSource:
    """A model behind TensorFlow Serving's gRPC.

    Attributes:
        target: host:port.
        model: its name there.
        label: of a version; by default the newest one.
        number: of the version that draws all of a batch; see `pinned`.
        concurrency: requests that a worker has under way at a time.
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
        """The number of the version."""
        return str(self.number or "")

    def pinned(self) -> ServedSource:
        """Returns the same with the version that answers now, so that a batch is of one version.

        Raises:
            ServingError: where the server does not answer.
        """
        with self.client() as client:
            return dataclasses.replace(self, number=client.info().version or None)

    def identity(self) -> dict[str, Any]:
        """Returns the model's name and version; see `Source`."""
        return {"version": self.version, "served_name": self.model}

    def client(self) -> StoryClient:
        """Returns a client of that version."""
        label = self.label if self.number is None else None
        tls = Tls(ca=Path(self.tls_ca)) if self.tls_ca else None
        return StoryClient(
            self.target, model=self.model, label=label, version=self.number, timeout=self.timeout, tls=tls
        )

    def opened(self) -> Generator:
        """Connects; see `Source`."""
        return _ServedGenerator(self)


class _ServedGenerator:
    """A server, which draws several batches at a time."""

    def __init__(self, source: ServedSource) -> None:
        self.concurrency = source.concurrency
        self._client = source.client()
        self.frames = self._client.info().frames

    def draw(self, stories: Sequence[Sequence[str]], seeds: Sequence[int]) -> list[DrawnStory]:
        """Asks for all, and where the server refuses some, once more for the others; see `Generator`."""
        drawn = [DrawnStory([])] * len(stories)
        left = list(range(len(stories)))
        while left:
            try:
                answer = self._client.generate_many([stories[row] for row in left], [seeds[row] for row in left])
            except ServingError as error:
                if not error.rows:
                    raise
                for number, reason in error.rows.items():
                    drawn[left[number]] = DrawnStory([], reason)
                left = [row for number, row in enumerate(left) if number not in error.rows]
                continue
            for row, story in zip(left, answer, strict=True):
                drawn[row] = DrawnStory([to_png(frame) for frame in story.frames])
            break
        return drawn


_OPENING = threading.Lock()


def open_generator(source: GeneratorSource) -> Generator:
    """Returns a source's generator, opened once a process, however many threads and shards that has."""
    with _OPENING:
        return _open(source)


@functools.lru_cache(maxsize=1)
def _open(source: GeneratorSource) -> Generator:
    return source.opened()


def close_generators() -> None:
    """Lets go of what this process has opened."""
    with _OPENING:
        _open.cache_clear()


def draw_all(generator: Generator, batches: Iterable[Sequence[DrawTask]]) -> Iterator[tuple[DrawTask, DrawnStory]]:
    """Yields each story and what became of it, in their order.

    While the caller deals with a batch the next ones are drawn, as many at a time as the generator takes.
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
    """Draws a batch; a story of another length would fail all others with it."""
    drawn = [_wrong_length(task, generator.frames) for task in batch]
    good = [number for number, outcome in enumerate(drawn) if not outcome.error]
    if good:
        tasks = [batch[number] for number in good]
        answer = generator.draw([task.sentences for task in tasks], [task.seed for task in tasks])
        for number, outcome in zip(good, answer, strict=True):
            drawn[number] = outcome
    return drawn


def _wrong_length(task: DrawTask, frames: int) -> DrawnStory:
    count = len(task.sentences)
    return DrawnStory([], "" if count == frames else f"{count} sentences, expected {frames}")


def _outcomes(batch: Sequence[DrawTask], drawn: Future[list[DrawnStory]]) -> Iterator[tuple[DrawTask, DrawnStory]]:
    yield from zip(batch, drawn.result(), strict=True)
