"""A small sentence encoder of core operations, for machines without Universal Sentence Encoder.

It is written as a SavedModel of Universal Sentence Encoder's contract and loaded through tensorflow_hub like any other
encoder. Words and pairs of neighbouring words are hashed into buckets, each with a sign of its own (the hashing trick:
Weinberger et al., arXiv:0902.2206), and the counts are scaled to unit length. It knows no synonyms: only sentences that
share words are near each other.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import functools
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf

from storygan_tf.text.tokenization import NOT_WORD_PATTERN

WIDTH = 512
"""Buckets, and so the width of a vector: that of Universal Sentence Encoder."""


def split_words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Returns the words of each text, as `storygan_tf.text.tokenization.words` splits them.

    Args:
        texts: string `[n]`, UTF-8; invalid bytes count as separators.

    Returns:
        string `[n, None]`, lower case.
    """
    valid = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    return tf.strings.split(_lower(tf.strings.regex_replace(valid, NOT_WORD_PATTERN, " ")))


def _lower(texts: tf.Tensor) -> tf.Tensor:
    """Lower case by Unicode, whatever the language of the machine.

    `tf.strings.lower` follows the environment's LANG, and Turkish has rules of its own for I and for dotted I (U+0130).
    Taking these two first makes the words of an export the same everywhere. (It also stops at a NUL character, of which
    none is left when words have been told apart.)
    """
    ascii_lower = tf.strings.lower(texts)
    return tf.strings.lower(tf.strings.regex_replace(ascii_lower, "\u0130", "i\u0307"), encoding="utf-8")


def embed(sentences: tf.Tensor, width: int = WIDTH) -> tf.Tensor:
    """Returns signed, hashed counts of 1- and 2-grams of words, scaled to unit length.

    Args:
        sentences: string `[n]`, UTF-8.
        width: number of buckets.

    Returns:
        float32 `[n, width]`; zeros for a sentence without words.
    """
    grams = tf.strings.ngrams(split_words(sentences), [1, 2], separator=" ")
    # FarmHash's 64-bit fingerprint: the same on every platform and in every release.
    hashed = tf.strings.to_hash_bucket_fast(grams.flat_values, 2 * width)
    signs = tf.cast(2 * (hashed // width) - 1, tf.float32)
    cells = tf.stack([grams.value_rowids(), hashed % width], axis=1)
    counts = tf.scatter_nd(cells, signs, tf.stack([tf.shape(sentences, tf.int64)[0], width]))
    return tf.math.l2_normalize(tf.ensure_shape(counts, [None, width]), axis=1)


def write_embedded_encoder(path: str | Path) -> None:
    """Writes the encoder as a SavedModel that tensorflow_hub can load, also as a `hub.KerasLayer`.

    Args:
        path: the folder to write.
    """
    encoder = tf.train.Checkpoint()
    encoder.__call__ = tf.function(embed, input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    # hub.KerasLayer asks for these, as Universal Sentence Encoder has them.
    encoder.variables = []
    encoder.trainable_variables = []

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def serving_default(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": embed(inputs)}

    tf.saved_model.save(encoder, str(path), signatures=serving_default)


@functools.cache
def embedded_encoder_path() -> str:
    """Returns the path of the SavedModel, written once a process into a temporary folder that goes with the process."""
    folder = tempfile.mkdtemp(prefix="storygan-encoder-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # A SavedModel cannot be written while a function is traced, as Transform does with its preprocessing function. What
    # is traced belongs to a thread, so another thread can write.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(write_embedded_encoder, folder).result()
    return folder
