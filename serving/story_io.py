"""Stories, model information and the checks of both, whatever the protocol. Needs Pillow, not TensorFlow."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image, UnidentifiedImageError

from serving.call_errors import ServingError
from storygan_tf.text.tokenization import words

DEFAULT_MODEL = "storygan"
"""Name under which StoryGAN models are served."""

GENERATE, INFO = "generate", "info"
"""Names of the signatures that clients use."""


@dataclasses.dataclass(frozen=True, eq=False)
class Story:
    """A drawn story.

    Attributes:
        sentences: T sentences.
        seed: seed of the request.
        frames: T RGB pictures.
        unknown_words: words that do not occur in the training stories, in order of appearance; the pictures cannot show
            what they mean.
        version: version of the model that drew the story; None if the protocol does not transmit it.
    """

    sentences: tuple[str, ...]
    seed: int
    frames: tuple[Image.Image, ...]
    unknown_words: tuple[str, ...]
    version: int | None = None


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Information about a served model, from its signature `info`.

    Attributes:
        frames: sentences and frames per story, T.
        examples: stories that the model suggests.
        words: words of the training stories.
        values: the whole JSON object.
        version: version of the model; None if the protocol does not transmit it.
    """

    frames: int
    examples: tuple[tuple[str, ...], ...]
    words: frozenset[str]
    values: Mapping[str, Any]
    version: int | None = None

    @classmethod
    def from_json(cls, text: str | bytes, version: int | None = None) -> ModelInfo:
        """Reads the output of signature `info`.

        Raises:
            ServingError: INTERNAL if `text` is no JSON object with the expected keys.
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
        """Returns the words that do not occur in the training stories, in order of appearance."""
        unknown = [word for sentence in sentences for word in words(sentence) if word not in self.words]
        return tuple(dict.fromkeys(unknown))


def check_stories(stories: Sequence[Sequence[str]], seeds: Sequence[int] | None, frames: int) -> Sequence[int]:
    """Checks stories and seeds before they are sent.

    The server would refuse them, too; with batching, a story of another length also fails all requests in its batch.

    Args:
        stories: [batch] of sentences each.
        seeds: [batch] integers; None for 0 for every story.
        frames: sentences per story that the model expects.

    Returns:
        [batch] seeds.

    Raises:
        ServingError: INVALID_ARGUMENT if there is no story, one has another number of sentences, a sentence is no text,
            or `seeds` are not one integer of 64 bits per story.
    """
    if isinstance(stories, str) or any(isinstance(story, str) for story in stories):
        raise ServingError("INVALID_ARGUMENT", "found a text, expected a list of sentences per story.")
    if not stories:
        raise ServingError("INVALID_ARGUMENT", "found no story, expected at least one.")
    refused = {
        row: f"found {len(story)} sentences, expected {frames}: this model draws stories of {frames}."
        for row, story in enumerate(stories)
        if len(story) != frames
    }
    if refused:
        raise _refusal(refused)
    for sentence in itertools.chain.from_iterable(stories):
        _check_text(sentence)
    seeds = [0] * len(stories) if seeds is None else seeds
    if len(seeds) != len(stories):
        raise ServingError(
            "INVALID_ARGUMENT", f"found {len(seeds)} seeds for {len(stories)} stories, expected as many."
        )
    for seed in seeds:
        if not -(2**63) <= seed < 2**63:
            raise ServingError("INVALID_ARGUMENT", f"found seed {seed}, expected a whole number of 64 bits.")
    return seeds


def _check_text(sentence: Any) -> None:
    try:
        sentence.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise ServingError("INVALID_ARGUMENT", f"found a sentence that is no text ({error}).") from error


def read_stories(
    stories: Sequence[Sequence[str]],
    seeds: Sequence[int],
    errors: Sequence[str],
    pictures: Sequence[Sequence[bytes]],
    info: ModelInfo,
    *,
    version: int | None = None,
) -> list[Story]:
    """Returns the stories of a response.

    Args:
        stories: [batch] of T sentences each, as requested.
        seeds: [batch] seeds, as requested.
        errors: [batch] reasons why the model refused a story; empty for a drawn one.
        pictures: [batch, T] PNGs.
        info: information about the model.
        version: version of the model that sent the response.

    Raises:
        ServingError: INVALID_ARGUMENT if the model refused a story; INTERNAL if the pictures are not T PNGs per story.
    """
    refused = {row: error for row, error in enumerate(errors) if error}
    if refused:
        raise _refusal(refused)
    if len(pictures) != len(stories) or any(len(row) != info.frames for row in pictures):
        raise ServingError(
            "INTERNAL",
            f"found pictures for {len(pictures)} stories of {sorted({len(row) for row in pictures})} frames, expected "
            f"{len(stories)} of {info.frames}.",
        )
    return [
        Story(
            tuple(story),
            seeds[row],
            tuple(map(_decoded, pictures[row])),
            info.unknown_words(story),
            version,
        )
        for row, story in enumerate(stories)
    ]


def _refusal(rows: Mapping[int, str]) -> ServingError:
    reasons = "; ".join(f"story {row + 1}: {error.rstrip('.')}" for row, error in rows.items())
    return ServingError("INVALID_ARGUMENT", f"{reasons}.", rows)


def _decoded(png: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(png)).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise ServingError("INTERNAL", f"found a picture that is no PNG ({error}).") from error
