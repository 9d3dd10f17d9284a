"""What every client asks and answers, whatever the protocol. Needs Pillow, not TensorFlow."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image, UnidentifiedImageError

from serving.call_errors import ServingError
from storygan_tf.text.tokenization import words

DEFAULT_MODEL = "storygan"
"""The name that models are served under."""

SERVING_DEFAULT, GENERATE, INFO = "serving_default", "generate", "info"
"""Signatures."""


@dataclasses.dataclass(frozen=True, eq=False)
class Story:
    """A drawn story.

    Attributes:
        sentences: T of them.
        seed: that was asked for; None for a hash of the sentences.
        frames: T pictures, RGB.
        unknown_words: that training never saw, in order: the pictures cannot show what they mean.
        version: of the model; None where the protocol does not tell.
    """

    sentences: tuple[str, ...]
    seed: int | None
    frames: tuple[Image.Image, ...]
    unknown_words: tuple[str, ...]
    version: int | None = None


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What a model says of itself.

    Attributes:
        frames: sentences and frames a story, T.
        examples: stories that it offers to draw.
        words: that training saw.
        values: all of it, JSON values.
        version: that said so; None where the protocol does not tell.
    """

    frames: int
    examples: tuple[tuple[str, ...], ...]
    words: frozenset[str]
    values: Mapping[str, Any]
    version: int | None = None

    @classmethod
    def read(cls, text: str | bytes, version: int | None = None) -> ModelInfo:
        """Reads the answer of signature `info`.

        Raises:
            ServingError: INTERNAL, where it is none.
        """
        try:
            values = json.loads(text)
            examples = tuple(tuple(story) for story in values["examples"])
            return cls(int(values["frames"]), examples, frozenset(values["words"]), values, version)
        except (KeyError, TypeError, ValueError) as error:
            raise ServingError(
                "INTERNAL", f"signature info: found no JSON with frames, examples and words ({error!r})."
            ) from error

    def unknown_words(self, sentences: Iterable[str]) -> tuple[str, ...]:
        """Returns the words that training never saw, in order of appearance."""
        found = [word for sentence in sentences for word in words(sentence) if word not in self.words]
        return tuple(dict.fromkeys(found))


def check_stories(stories: Sequence[Sequence[str]], seeds: Sequence[int] | None, frames: int) -> None:
    """Checks a request before it is sent: a story of another length would fail all that share its batch.

    Args:
        stories: of sentences.
        seeds: one a story, or none.
        frames: sentences that the model's stories have.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    if isinstance(stories, str) or any(isinstance(story, str) for story in stories):
        raise ServingError("INVALID_ARGUMENT", "found a text, expected a list of sentences a story.")
    if not stories:
        raise ServingError("INVALID_ARGUMENT", "found no story, expected at least one.")
    wrong = {
        row: f"found {len(story)} sentences, expected {frames}: this model tells stories of {frames}."
        for row, story in enumerate(stories)
        if len(story) != frames
    }
    if wrong:
        raise _refused(wrong)
    if seeds is not None and len(seeds) != len(stories):
        raise ServingError(
            "INVALID_ARGUMENT", f"found {len(seeds)} seeds for {len(stories)} stories, expected as many."
        )
    for seed in seeds or []:
        if not -(2**63) <= seed < 2**63:
            raise ServingError("INVALID_ARGUMENT", f"found seed {seed}, expected a whole number of 64 bits.")


def read_stories(
    stories: Sequence[Sequence[str]],
    seeds: Sequence[int] | None,
    errors: Sequence[str],
    pictures: Sequence[Sequence[bytes]],
    info: ModelInfo,
    *,
    version: int | None = None,
) -> list[Story]:
    """Returns what came for a request.

    Args:
        stories: that were asked for.
        seeds: that were asked for.
        errors: [stories], empty for a good one.
        pictures: [stories, T] PNGs.
        info: of the model.
        version: that answered.

    Raises:
        ServingError: INVALID_ARGUMENT for refused stories; INTERNAL for an answer that cannot be read.
    """
    refused = {row: error for row, error in enumerate(errors) if error}
    if refused:
        raise _refused(refused)
    if len(pictures) != len(stories) or any(len(row) != info.frames for row in pictures):
        raise ServingError(
            "INTERNAL",
            f"found pictures for {len(pictures)} stories of {sorted({len(row) for row in pictures})} frames, expected "
            f"{len(stories)} of {info.frames}.",
        )
    return [
        Story(
            tuple(story),
            None if seeds is None else seeds[row],
            tuple(map(_decoded, pictures[row])),
            info.unknown_words(story),
            version,
        )
        for row, story in enumerate(stories)
    ]


def _refused(rows: Mapping[int, str]) -> ServingError:
    told = "; ".join(f"story {row + 1}: {error.rstrip('.')}" for row, error in rows.items())
    return ServingError("INVALID_ARGUMENT", f"{told}.", rows)


def _decoded(png: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(png)).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise ServingError("INTERNAL", f"found a picture that is no PNG ({error}).") from error
