"""A sentence encoder that needs no download and uses only core operations of TensorFlow.

It is written as a SavedModel with the interface of Universal Sentence Encoder, and tensorflow_hub loads it like any
other encoder. Words and pairs of neighbouring words are hashed into buckets with a sign each (the hashing trick:
Weinberger et al., arXiv:0902.2206), and the counts are scaled to unit length. Synonyms are unrelated: only sentences
that share words have similar vectors.
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
"""Number of buckets, which is the width of a vector; the same as that of Universal Sentence Encoder."""


def split_words(texts: tf.Tensor) -> tf.RaggedTensor:
    """Returns the words of each text, as `storygan_tf.text.tokenization.words` splits them.

    Args:
        texts: string `[n]`, UTF-8. Invalid bytes separate words.

    Returns:
        string `[n, None]`, in lower case.
    """
    valid = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    return tf.strings.split(_lower(tf.strings.regex_replace(valid, NOT_WORD_PATTERN, " ")))


def _lower(texts: tf.Tensor) -> tf.Tensor:
    """Returns texts in lower case by the rules of Unicode, independent of the language of the machine.

    `tf.strings.lower` depends on the environment variable LANG, and Turkish has its own rules for I and for dotted I
    (U+0130). Converting these two characters first makes an export give the same words on every machine. The texts must
    not contain NUL characters, at which `tf.strings.lower` stops.

    Args:
        texts: string `[n]`, valid UTF-8.

    Returns:
        string `[n]`.
    """
    ascii_lower = tf.strings.lower(texts)
    return tf.strings.lower(tf.strings.regex_replace(ascii_lower, "\u0130", "i\u0307"), encoding="utf-8")


def embed(sentences: tf.Tensor, width: int = WIDTH) -> tf.Tensor:
    """Returns the signed counts of hashed 1-grams and 2-grams of words, scaled to unit length.

    Args:
        sentences: string `[n]`, UTF-8.
        width: number of buckets.

    Returns:
        float32 `[n, width]` in [-1, 1]; zeros for a sentence without words.
    """
    grams = tf.strings.ngrams(split_words(sentences), [1, 2], separator=" ")
    # FarmHash's 64-bit fingerprint is the same on every platform and in every release.
    hashed = tf.strings.to_hash_bucket_fast(grams.flat_values, 2 * width)
    signs = tf.cast(2 * (hashed // width) - 1, tf.float32)
    cells = tf.stack([grams.value_rowids(), hashed % width], axis=1)
    counts = tf.scatter_nd(cells, signs, tf.stack([tf.shape(sentences, tf.int64)[0], width]))
    return tf.math.l2_normalize(tf.ensure_shape(counts, [None, width]), axis=1)


def write_embedded_encoder(path: str | Path) -> None:
    """Writes the encoder as a SavedModel for `hub.load` and `hub.KerasLayer`.

    Args:
        path: folder of the SavedModel.
    """
    encoder = tf.train.Checkpoint()
    encoder.__call__ = tf.function(embed, input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    # hub.KerasLayer needs these attributes.
    encoder.variables = []
    encoder.trainable_variables = []

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def serving_default(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": embed(inputs)}

    tf.saved_model.save(encoder, str(path), signatures=serving_default)


@functools.cache
def embedded_encoder_path() -> str:
    """Returns the path of the encoder's SavedModel.

    The first call in a process writes it into a temporary folder, which is removed at the end of the process.
    """
    folder = tempfile.mkdtemp(prefix="storygan-encoder-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # A SavedModel cannot be written by a thread that traces a function, as Transform traces its preprocessing function.
    # Another thread can write it.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(write_embedded_encoder, folder).result()
    return folder
