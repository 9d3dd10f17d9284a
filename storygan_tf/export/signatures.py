"""The export: a SavedModel from raw sentences to pictures, which needs only TensorFlow to run.

It contains the sentence encoder and the PCA (the vectorizer), so that serving computes the same vectors as training.
Its signatures:

| signature | inputs | outputs |
|---|---|---|
| `serving_default` | `sentences` string [B, T] | `image_bytes` string [B, T] (PNG), `error` string [B] |
| `generate` | `sentences` string [B, T], `seed` int64 [B] | the same |
| `generate_raw` | `sentences` string [B, T], `seed` int64 [B] | `images` uint8 [B, T, 64, 64, 3], `error` string [B] |
| `generate_from_vectors` | `vectors` float32 [B, T, sentence_size], as training records have them (after PCA), `seed` \
int64 [B] | `image_bytes` string [B, T], `error` string [B] |
| `generate_from_examples` | `examples` string [B], serialized tf.Examples: `story_id`, `sentences`, optional `seed` | \
`story_id` string [B, 1], `image_bytes` string [B, T], `error` string [B, 1] |
| `info` | `query` string [B], ignored | `info` string [B], JSON |

A wrong T fails the whole request. A blank or overlong sentence, or a vector with values that are not finite, fails only
its row: `error` describes the problem and the pictures of the row are empty. Without a seed, the seed is 0.
`assets.extra` holds a request for each signature, with which TensorFlow Serving warms up.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from storygan_tf.common.atomic_files import atomic_folder
from storygan_tf.common.compat import float16_variables
from storygan_tf.common.errors import ModelError
from storygan_tf.common.model_paths import ASSETS_EXTRA
from storygan_tf.config.schema import IMAGE_SIZE, Settings
from storygan_tf.data import example_schema
from storygan_tf.data.batch_types import to_uint8
from storygan_tf.export.serving_warmup import write_serving_warmup
from storygan_tf.export.weight_io import assign_weights, weights_of
from storygan_tf.models.story_generator import StoryGenerator

INFO_FILE = "storygan.json"
"""File in `assets.extra` with the JSON that the signature `info` returns."""

NOT_FINITE = "the model drew values that are not numbers (NaN or infinite); its weights are damaged, train it again."
"""Error of a row if the generator returns values that are not finite for valid sentences."""

NOT_FINITE_FROM_VECTORS = (
    "the model drew values that are not numbers (NaN or infinite); the vectors are far from those that it was trained "
    "on, or its weights are damaged."
)
"""Error of a row if the generator returns values that are not finite for finite vectors."""

PNG_COMPRESSION = 1
"""Level of zlib. Compared with the default 6, pictures of the pretrained model take 22% more bytes and a quarter of the
time."""

SENTENCES = tf.TensorSpec([None, None], tf.string, "sentences")
"""Input `sentences` of signatures."""

SEED = tf.TensorSpec([None], tf.int64, "seed")
"""Input `seed` of signatures."""

Outputs = dict[str, tf.Tensor]
"""Outputs of a signature by name."""


class StoryGANExport(tf.Module):
    """The module that is saved: the generator's variables, the vectorizer, and the functions behind the signatures.

    It tracks the variables of the generator but not the Keras model, whose layers would add traces of their own to the
    SavedModel.

    Args:
        generator: a trained generator.
        vectorizer: trackable function from sentences, string `[n]`, to vectors, float32 `[n, sentence_size]`, such as a
            loaded SavedModel.
        info: JSON values that the signature `info` returns.
        max_sentence_length: most characters that a sentence may have.
    """

    def __init__(
        self, generator: StoryGenerator, vectorizer: tf.Module, info: dict[str, Any], max_sentence_length: int
    ) -> None:
        super().__init__(name="storygan")
        self.generator_variables = list(generator.variables)
        self.vectorizer = vectorizer
        self._info = json.dumps(info, sort_keys=True)
        self._drawing = _StoryDrawing(generator, vectorizer, max_sentence_length)

    def signatures(self) -> dict[str, Any]:
        """Returns the functions of the signatures by name."""
        # With static dimensions TensorFlow would remove the assertions and fail with `Matrix size-incompatible`.
        vectors = tf.TensorSpec([None, None, None], tf.float32, "vectors")
        return {
            "serving_default": tf.function(self._serving_default, [SENTENCES]),
            "generate": tf.function(self._drawing.pngs, [SENTENCES, SEED]),
            "generate_raw": self._drawing.images,
            "generate_from_vectors": tf.function(self._drawing.pngs_from_vectors, [vectors, SEED]),
            "generate_from_examples": tf.function(
                self._generate_from_examples, [tf.TensorSpec([None], tf.string, "examples")]
            ),
            "info": tf.function(self._return_info, [tf.TensorSpec([None], tf.string, "query")]),
        }

    def _serving_default(self, sentences: tf.Tensor) -> Outputs:
        """Returns the outputs of `generate` for string `[B, T]`, with seeds of 0."""
        return self._drawing.pngs(sentences, tf.zeros(tf.shape(sentences)[:1], tf.int64))

    def _generate_from_examples(self, examples: tf.Tensor) -> Outputs:
        """Returns the outputs of `generate` and `story_id` for serialized tf.Examples, string `[B]`."""
        frames = self._drawing.frames
        parsed = tf.io.parse_example(
            examples,
            {
                example_schema.STORY_ID: tf.io.FixedLenFeature([], tf.string),
                example_schema.SENTENCES: tf.io.FixedLenFeature([frames], tf.string),
                example_schema.SEED: tf.io.VarLenFeature(tf.int64),
            },
        )
        sentences = parsed[example_schema.SENTENCES]
        example_seeds = tf.reshape(tf.sparse.to_dense(parsed[example_schema.SEED]), [tf.size(examples), -1])
        outputs = self._drawing.pngs(sentences, tf.pad(example_seeds, [[0, 0], [0, 1]])[:, 0])
        # TFX's BulkInferrer splits an output of rank 1 into scalars and does not accept scalar strings.
        column = {example_schema.STORY_ID: parsed[example_schema.STORY_ID], "error": outputs["error"]}
        return outputs | {name: values[:, tf.newaxis] for name, values in column.items()}

    def _return_info(self, query: tf.Tensor) -> Outputs:
        """Returns the info once for each element of `query`, string `[B]`."""
        return {"info": tf.fill(tf.shape(query), self._info)}


class _StoryDrawing:
    """Graph functions from sentences or vectors, and seeds, to pictures.

    It is not trackable, so that the export does not save the Keras model. The graphs of the generator and of `images`
    are traced and saved once and called by the signatures, which makes an export smaller and faster to load.

    Args:
        generator: a trained generator.
        vectorizer: function from sentences, string `[n]`, to vectors, float32 `[n, sentence_size]`.
        max_sentence_length: most characters that a sentence may have.

    Attributes:
        images: graph function that returns pictures of sentences as pixels, see `_images`.
    """

    def __init__(self, generator: StoryGenerator, vectorizer: tf.Module, max_sentence_length: int) -> None:
        self.generator = generator
        self.vectorizer = vectorizer
        self.frames = generator.config.frames
        self.max_sentence_length = max_sentence_length
        self.images = tf.function(self._images, [SENTENCES, SEED])
        vectors = tf.TensorSpec([None, self.frames, generator.config.sentence_size], tf.float32)
        self._generate = tf.function(
            lambda vectors, seed: generator(vectors, training=False, seed=seed).images, [vectors, SEED]
        )

    def _images(self, sentences: tf.Tensor, seed: tf.Tensor) -> Outputs:
        """Returns pictures of sentences as pixels.

        Args:
            sentences: string `[B, T]`.
            seed: int64 `[B]`.

        Returns:
            `images`, uint8 `[B, T, 64, 64, 3]`, zeros in rows with an error, and `error`, string `[B]`.
        """
        sentences = self._ensure_shape("sentences", sentences, [self.frames])
        error = row_errors(sentences, self.max_sentence_length)
        vectors = self.vectorizer(tf.reshape(sentences, [-1]))
        vectors = tf.reshape(vectors, [-1, self.frames, self.generator.config.sentence_size])
        return self._draw(vectors, seed, error, NOT_FINITE)

    def pngs(self, sentences: tf.Tensor, seed: tf.Tensor) -> Outputs:
        """Returns pictures of sentences as PNG files.

        Args:
            sentences: string `[B, T]`.
            seed: int64 `[B]`.

        Returns:
            `image_bytes`, string `[B, T]`, empty in rows with an error, and `error`, string `[B]`.
        """
        return self._encode(self.images(sentences, seed))

    def pngs_from_vectors(self, vectors: tf.Tensor, seed: tf.Tensor) -> Outputs:
        """Returns pictures of sentence vectors as PNG files.

        Args:
            vectors: float32 `[B, T, sentence_size]`.
            seed: int64 `[B]`.

        Returns:
            `image_bytes`, string `[B, T]`, empty in rows with an error, and `error`, string `[B]`.
        """
        vectors = self._ensure_shape("vectors", vectors, [self.frames, self.generator.config.sentence_size])
        return self._encode(self._draw(vectors, seed, vector_errors(vectors), NOT_FINITE_FROM_VECTORS))

    def _ensure_shape(self, name: str, tensor: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        """Returns the tensor with the static shape [B, *shape]; any other shape is an error when the graph runs."""
        dimensions = ", ".join(["B", *map(str, shape)])
        message = f"This model tells stories of {self.frames} sentences: {name} must be of shape [{dimensions}]."
        with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(tensor)[1:], shape, message)]):
            # Servers also let tensors of another rank through, which may pass the comparison because of broadcasting.
            return tf.ensure_shape(tensor, [None, *shape])

    def _draw(self, vectors: tf.Tensor, seed: tf.Tensor, error: tf.Tensor, not_finite: str) -> Outputs:
        """Runs the generator.

        Args:
            vectors: float32 `[B, T, sentence_size]`.
            seed: int64 `[B]`.
            error: string `[B]`, empty for valid rows.
            not_finite: error of valid rows for which the generator returns values that are not finite.

        Returns:
            `images`, uint8 `[B, T, 64, 64, 3]`, zeros in rows with an error, and `error`, string `[B]`.
        """
        message = "seed must be of shape [B]: one a story."
        with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(seed), tf.shape(vectors)[:1], message)]):
            seed = tf.identity(seed)
        drawn = self._generate(vectors, seed)
        finite = tf.reduce_all(tf.math.is_finite(drawn), axis=[1, 2, 3, 4])
        error = tf.where(finite | (error != ""), error, not_finite)
        images = to_uint8(drawn)
        valid = tf.cast(error == "", tf.uint8)
        return {"images": images * valid[:, tf.newaxis, tf.newaxis, tf.newaxis, tf.newaxis], "error": error}

    def _encode(self, outputs: Outputs) -> Outputs:
        """Replaces `images` by `image_bytes`, string `[B, T]` of PNG files, empty in rows with an error."""
        encoded = tf.reshape(tf.io.encode_png(outputs["images"], compression=PNG_COMPRESSION), [-1, self.frames])
        valid = outputs["error"][:, tf.newaxis] == ""
        return {"image_bytes": tf.where(valid, encoded, ""), "error": outputs["error"]}


def row_errors(sentences: tf.Tensor, max_length: int) -> tf.Tensor:
    """Returns an error message per story that names its first blank or overlong sentence.

    Args:
        sentences: string `[B, T]`.
        max_length: most characters that a sentence may have.

    Returns:
        string `[B]`, empty for valid stories.
    """
    blank = tf.strings.regex_replace(sentences, r"[\s\p{Z}\p{C}]+", "") == ""
    long = tf.strings.length(sentences, unit="UTF8_CHAR") > max_length
    invalid = blank | long
    first = tf.argmax(tf.cast(invalid, tf.int32), axis=1)
    reason = tf.where(
        tf.gather(blank, first, batch_dims=1),
        "is blank; write at least one word.",
        f"is longer than {max_length} characters; shorten it.",
    )
    message = tf.strings.join(["sentence ", tf.strings.as_string(first + 1), " ", reason])
    return tf.where(tf.reduce_any(invalid, axis=1), message, "")


def vector_errors(vectors: tf.Tensor) -> tf.Tensor:
    """Returns an error message per story that names its first vector with values that are not finite.

    Args:
        vectors: float32 `[B, T, sentence_size]`.

    Returns:
        string `[B]`, empty for valid stories.
    """
    invalid = ~tf.reduce_all(tf.math.is_finite(vectors), axis=2)
    first = tf.argmax(tf.cast(invalid, tf.int32), axis=1)
    reason = " has values that are not numbers (NaN or infinite)."
    message = tf.strings.join(["the vector of sentence ", tf.strings.as_string(first + 1), reason])
    return tf.where(tf.reduce_any(invalid, axis=1), message, "")


def model_info(
    settings: Settings,
    examples: Sequence[Sequence[str]],
    words: Iterable[str],
    labels: Sequence[str] = (),
    initial: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Returns the description of a model that its signature `info` returns.

    Args:
        settings: settings of the training.
        examples: example stories of T sentences each, which clients can offer to draw.
        words: the words of the training stories.
        labels: names of the training stories' labels; empty if they have none.
        initial: the model that the training started from
            (`storygan_tf.training.warm_start.InitialModel.lineage_entry`); None if it started from random weights.
    """
    return {
        "frames": settings.model.frames,
        "image_size": IMAGE_SIZE,
        "preset": settings.preset,
        "model": dataclasses.asdict(settings.model),
        "encoder": settings.data.encoder,
        "max_sentence_length": settings.data.max_sentence_length,
        "training_seed": settings.training.seed,
        "examples": [list(story) for story in examples],
        "labels": list(labels),
        "words": sorted(words),
        **({"initial": dict(initial)} if initial else {}),
    }


def half_precision_copy(generator: StoryGenerator) -> StoryGenerator:
    """Returns a copy of a generator that stores its weights as float16, in half the space, and computes in float32.

    Batch normalization keeps float32 weights: they take little space, and their rounding errors would accumulate.
    """
    with float16_variables():
        copy = StoryGenerator(generator.config, name=generator.name)
        copy(tf.zeros([1, generator.config.frames, generator.config.sentence_size]))
    assign_weights(copy, weights_of(generator), "the trained generator")
    return copy


def export_storygan(
    generator: StoryGenerator,
    vectorizer: tf.Module,
    info: dict[str, Any],
    path: str | Path,
    max_sentence_length: int = 1000,
    *,
    half: bool = False,
) -> None:
    """Writes a generator as a SavedModel with the signatures of this module.

    The files are written to a temporary directory that is then renamed, so that `path` is never incomplete.

    Args:
        generator: a trained generator.
        vectorizer: trackable function from sentences, string `[n]`, to vectors, float32 `[n, sentence_size]`.
        info: JSON values for the signature `info` and for `assets.extra/storygan.json`.
        path: the version directory to write; it is replaced if it exists.
        max_sentence_length: most characters that a sentence may have.
        half: whether to store the weights as float16 (see `half_precision_copy`).

    Raises:
        ModelError: if the SavedModel cannot be written.
    """
    target = Path(path)
    exported = half_precision_copy(generator) if half else generator
    module = StoryGANExport(exported, vectorizer, info, max_sentence_length)
    try:
        with atomic_folder(target) as partial:
            tf.saved_model.save(module, str(partial), signatures=module.signatures())
            extra = partial / ASSETS_EXTRA
            extra.mkdir()
            (extra / INFO_FILE).write_text(json.dumps(info, indent=1, sort_keys=True))
            write_serving_warmup(partial, generator.config)
    except (OSError, tf.errors.OpError) as error:
        raise ModelError(
            f"export {target}: could not be written ({error}). Free some space or choose another place."
        ) from error
