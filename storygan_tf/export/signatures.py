"""The export: a SavedModel from raw sentences to pictures, that needs TensorFlow and nothing else.

Encoder and PCA are inside (the vectorizer), so that training and serving cannot differ. All signatures:

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

A wrong T fails the request. A blank or over-long sentence, or a vector that is none, fails its row alone: `error` says
what is wrong with it, its pictures are empty. Without a seed it is a hash of the sentences. Requests of all signatures
lie in `assets.extra`, for TensorFlow Serving to warm up with.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from storygan_tf.common.atomic_files import atomic_folder
from storygan_tf.common.errors import ModelError
from storygan_tf.common.model_paths import ASSETS_EXTRA
from storygan_tf.config.schema import IMAGE_SIZE, Settings
from storygan_tf.data import example_schema
from storygan_tf.data.batch_types import to_uint8
from storygan_tf.export.serving_warmup import write_serving_warmup
from storygan_tf.export.weight_io import assign_weights, weights_of
from storygan_tf.models.story_generator import StoryGenerator

INFO_FILE = "storygan.json"
"""In `assets.extra`: what signature `info` answers."""

NOT_FINITE = "the model drew values that are not numbers (NaN or infinite); its weights are damaged, train it again."
"""What is wrong with a row of good sentences that a broken model drew."""

NOT_FINITE_OF_VECTORS = (
    "the model drew values that are not numbers (NaN or infinite); the vectors are far from those that it was trained "
    "on, or its weights are damaged."
)
"""What is wrong with such a row of vectors."""

PNG_COMPRESSION = 1
"""Of zlib: the pretrained model's pictures take 22% more bytes than at 6, its default, and a quarter of the time."""

Outputs = dict[str, tf.Tensor]


class StoryGANExport(tf.Module):
    """What is saved: the generator's weights, the vectorizer, and functions of sentences.

    The Keras model itself is not tracked, only its variables: its layers' own traces would be saved with it.

    Args:
        generator: a trained generator.
        vectorizer: string [n] -> float32 [n, sentence_size]; a loaded SavedModel or another trackable.
        info: what `info` answers, JSON values.
        max_sentence_length: characters a sentence may have.
    """

    def __init__(
        self, generator: StoryGenerator, vectorizer: tf.Module, info: dict[str, Any], max_sentence_length: int
    ) -> None:
        super().__init__(name="storygan")
        self.generator_variables = list(generator.variables)
        self.vectorizer = vectorizer
        self._info = json.dumps(info, sort_keys=True)
        self._generate = _PictureMaker(generator, vectorizer, max_sentence_length)

    def signatures(self) -> dict[str, Any]:
        """Returns the signatures by name."""
        sentences = tf.TensorSpec([None, None], tf.string, "sentences")
        # Of static dimensions TensorFlow would fold the assertions away, and answer with `Matrix size-incompatible`.
        vectors = tf.TensorSpec([None, None, None], tf.float32, "vectors")
        seed = tf.TensorSpec([None], tf.int64, "seed")
        return {
            "serving_default": tf.function(self._serve, [sentences]),
            "generate": tf.function(self._generate.png, [sentences, seed]),
            "generate_raw": tf.function(self._generate.raw, [sentences, seed]),
            "generate_from_vectors": tf.function(self._generate.png_of_vectors, [vectors, seed]),
            "generate_from_examples": tf.function(self._from_examples, [tf.TensorSpec([None], tf.string, "examples")]),
            "info": tf.function(self._answer, [tf.TensorSpec([None], tf.string, "query")]),
        }

    def _serve(self, sentences: tf.Tensor) -> Outputs:
        return self._generate.png(sentences, hashed_seeds(sentences))

    def _from_examples(self, examples: tf.Tensor) -> Outputs:
        frames = self._generate.frames
        parsed = tf.io.parse_example(
            examples,
            {
                example_schema.STORY_ID: tf.io.FixedLenFeature([], tf.string),
                example_schema.SENTENCES: tf.io.FixedLenFeature([frames], tf.string),
                example_schema.SEED: tf.io.VarLenFeature(tf.int64),
            },
        )
        sentences = parsed[example_schema.SENTENCES]
        counts = tf.math.bincount(
            tf.cast(parsed[example_schema.SEED].indices[:, 0], tf.int32), minlength=tf.size(examples)
        )
        given = tf.reshape(tf.sparse.to_dense(parsed[example_schema.SEED]), [tf.size(examples), -1])
        first = tf.pad(given, [[0, 0], [0, 1]])[:, 0]
        seeds = tf.where(counts > 0, first, hashed_seeds(sentences))
        outputs = self._generate.png(sentences, seeds)
        # Of an output of rank 1 TFX's BulkInferrer makes scalars, and it takes no strings that are.
        column = {example_schema.STORY_ID: parsed[example_schema.STORY_ID], "error": outputs["error"]}
        return outputs | {name: values[:, tf.newaxis] for name, values in column.items()}

    def _answer(self, query: tf.Tensor) -> Outputs:
        return {"info": tf.fill(tf.shape(query), self._info)}


class _PictureMaker:
    """Sentences or vectors, and seeds, to pictures; not tracked by the export."""

    def __init__(self, generator: StoryGenerator, vectorizer: tf.Module, max_sentence_length: int) -> None:
        self.generator = generator
        self.vectorizer = vectorizer
        self.frames = generator.config.frames
        self.max_sentence_length = max_sentence_length

    def raw(self, sentences: tf.Tensor, seed: tf.Tensor) -> Outputs:
        """Returns `images` uint8 [B, T, 64, 64, 3], zeros in a bad row, and `error` string [B]."""
        sentences = self._checked("sentences", sentences, [self.frames])
        error = row_errors(sentences, self.max_sentence_length)
        vectors = self.vectorizer(tf.reshape(sentences, [-1]))
        vectors = tf.reshape(vectors, [-1, self.frames, self.generator.config.sentence_size])
        return self._drawn(vectors, seed, error, NOT_FINITE)

    def png(self, sentences: tf.Tensor, seed: tf.Tensor) -> Outputs:
        """Returns `image_bytes` string [B, T], empty in a bad row, and `error` string [B]."""
        return self._encoded(self.raw(sentences, seed))

    def png_of_vectors(self, vectors: tf.Tensor, seed: tf.Tensor) -> Outputs:
        """Returns the same as `png`, of sentence vectors float32 [B, T, sentence_size]."""
        vectors = self._checked("vectors", vectors, [self.frames, self.generator.config.sentence_size])
        return self._encoded(self._drawn(vectors, seed, vector_errors(vectors), NOT_FINITE_OF_VECTORS))

    def _checked(self, name: str, tensor: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        """Returns a tensor of shape [B, *shape]; another fails when the graph runs."""
        told = ", ".join(["B", *map(str, shape)])
        message = f"This model tells stories of {self.frames} sentences: {name} must be of shape [{told}]."
        with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(tensor)[1:], shape, message)]):
            # What has fewer or more dimensions, as servers let it come, may slip through the comparison.
            return tf.ensure_shape(tensor, [None, *shape])

    def _drawn(self, vectors: tf.Tensor, seed: tf.Tensor, error: tf.Tensor, not_finite: str) -> Outputs:
        message = "seed must be of shape [B]: one a story."
        with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(seed), tf.shape(vectors)[:1], message)]):
            seed = tf.identity(seed)
        drawn = self.generator(vectors, training=False, seed=seed).images
        finite = tf.reduce_all(tf.math.is_finite(drawn), axis=[1, 2, 3, 4])
        error = tf.where(finite | (error != ""), error, not_finite)
        images = to_uint8(drawn)
        good = tf.cast(error == "", tf.uint8)
        return {"images": images * good[:, tf.newaxis, tf.newaxis, tf.newaxis, tf.newaxis], "error": error}

    def _encoded(self, outputs: Outputs) -> Outputs:
        encoded = tf.reshape(tf.io.encode_png(outputs["images"], compression=PNG_COMPRESSION), [-1, self.frames])
        good = outputs["error"][:, tf.newaxis] == ""
        return {"image_bytes": tf.where(good, encoded, ""), "error": outputs["error"]}


def hashed_seeds(sentences: tf.Tensor) -> tf.Tensor:
    """Returns a seed made of a story's sentences: string [B, T] -> int64 [B], from 0 to 2^62."""
    return tf.strings.to_hash_bucket_fast(tf.strings.reduce_join(sentences, axis=1, separator="\n"), 2**62)


def row_errors(sentences: tf.Tensor, max_length: int) -> tf.Tensor:
    """Returns what is wrong with each row: string [B, T] -> string [B], empty where it is good."""
    blank = tf.strings.regex_replace(sentences, r"[\s\p{Z}\p{C}]+", "") == ""
    long = tf.strings.length(sentences, unit="UTF8_CHAR") > max_length
    bad = blank | long
    first = tf.argmax(tf.cast(bad, tf.int32), axis=1)
    reason = tf.where(
        tf.gather(blank, first, batch_dims=1),
        "is blank; write at least one word.",
        f"is longer than {max_length} characters; shorten it.",
    )
    message = tf.strings.join(["sentence ", tf.strings.as_string(first + 1), " ", reason])
    return tf.where(tf.reduce_any(bad, axis=1), message, "")


def vector_errors(vectors: tf.Tensor) -> tf.Tensor:
    """Returns what is wrong with each row: float32 [B, T, sentence_size] -> string [B], empty where it is good."""
    bad = ~tf.reduce_all(tf.math.is_finite(vectors), axis=2)
    first = tf.argmax(tf.cast(bad, tf.int32), axis=1)
    told = " has values that are not numbers (NaN or infinite)."
    message = tf.strings.join(["the vector of sentence ", tf.strings.as_string(first + 1), told])
    return tf.where(tf.reduce_any(bad, axis=1), message, "")


def model_info(
    settings: Settings,
    examples: Sequence[Sequence[str]],
    words: Iterable[str],
    labels: Sequence[str] = (),
    initial: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Returns what an export says of itself through signature `info`.

    Args:
        settings: of the training.
        examples: stories that it offers to draw, T sentences each.
        words: that the training stories have.
        labels: names of the training stories' labels; empty where they have none.
        initial: what the training started from (`storygan_tf.training.warm_start.InitialModel.lineage_entry`); None
            for a fresh start.
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


class _KeptInHalf(keras.mixed_precision.Policy):
    """Arithmetic in float32, on weights that are kept as float16 and cast up where they are used."""

    @property
    def variable_dtype(self) -> str:
        """The type of weights."""
        return "float16"


def half_precision_copy(generator: StoryGenerator) -> StoryGenerator:
    """Returns a generator of the same weights, rounded to float16 and kept so, in half the space.

    Batch normalisation, of which there is little, and in which rounding errors add up, stays in float32.
    """
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(_KeptInHalf("float32"))
    try:
        copy = StoryGenerator(generator.config, name=generator.name)
        copy(tf.zeros([1, generator.config.frames, generator.config.sentence_size]))
    finally:
        keras.mixed_precision.set_global_policy(before)
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
    """Writes the SavedModel, aside first, so that a version directory is whole or not there.

    Args:
        generator: a trained generator.
        vectorizer: string [n] -> float32 [n, sentence_size], trackable.
        info: JSON values for signature `info` and for `assets.extra/storygan.json`.
        path: the directory to write; replaced where it exists.
        max_sentence_length: characters a sentence may have.
        half: whether weights are kept as float16 (see `half_precision_copy`).

    Raises:
        ModelError: where it cannot be written.
    """
    target = Path(path)
    kept = half_precision_copy(generator) if half else generator
    module = StoryGANExport(kept, vectorizer, info, max_sentence_length)
    try:
        with atomic_folder(target) as aside:
            tf.saved_model.save(module, str(aside), signatures=module.signatures())
            extra = aside / ASSETS_EXTRA
            extra.mkdir()
            (extra / INFO_FILE).write_text(json.dumps(info, indent=1, sort_keys=True))
            write_serving_warmup(aside, generator.config)
    except (OSError, tf.errors.OpError) as error:
        raise ModelError(
            f"export {target}: could not be written ({error}). Free some space or choose another place."
        ) from error
