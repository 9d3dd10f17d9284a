"""Sentence encoders: their interface, the embedded encoder, and the errors for encoders that cannot be used."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
from hypothesis import given, settings
from hypothesis import strategies as st

from storygan_tf.common.errors import ModelError
from storygan_tf.text.hashed_ngram_encoder import embed, embedded_encoder_path, split_words
from storygan_tf.text.sentence_encoder import EMBEDDED, load_encoder
from storygan_tf.text.tokenization import words

STRINGS = [tf.TensorSpec([None], tf.string, name="inputs")]
SENTENCES = ["A small red cube is on the left.", "", "a SMALL red cube, is on the left"]
HANDLE = "https://tfhub.dev/google/universal-sentence-encoder/4"

CHARACTERS = [
    chr(code) for code in range(sys.maxunicode) if unicodedata.ucd_3_2_0.category(chr(code)) not in ("Cn", "Cs", "Co")
]
"""The characters of Unicode 3.2, which TensorFlow and every Python have; each also has some newer ones."""

IN_A_FRESH_PROCESS = """
import json, sys
import tensorflow as tf
from storygan_tf.text.sentence_encoder import load_encoder
encoder = load_encoder(sys.argv[1])
print(json.dumps(encoder(tf.constant(json.loads(sys.argv[2]))).numpy().tolist()))
"""


class LikeUse(tf.Module):
    """Maps string [n] to float32 [n, width] by variables and a table, as Universal Sentence Encoder v4 does."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.embedding = tf.Variable(tf.random.stateless_normal([3, width], [1, 2]), name="embedding")
        self.table = tf.lookup.StaticVocabularyTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(["red", "blue"]), tf.constant([0, 1], tf.int64)), 1
        )

    @tf.function(input_signature=STRINGS)
    def __call__(self, inputs):
        tokens = tf.strings.split(tf.strings.lower(inputs))
        rows = tf.ragged.map_flat_values(lambda flat: tf.gather(self.embedding, self.table.lookup(flat)), tokens)
        return tf.reduce_sum(rows.to_tensor(shape=[None, None, self.embedding.shape[1]]), axis=1)


class OnlySignatures(tf.Module):
    """A SavedModel that cannot be called, like older hub modules."""

    def __init__(self, encode) -> None:
        super().__init__()
        self.encode = encode

    @tf.function(input_signature=STRINGS)
    def serve(self, inputs):
        return self.encode(inputs)

    def save(self, path) -> str:
        tf.saved_model.save(self, str(path), signatures={"serving_default": self.serve})
        return str(path)


@pytest.fixture(scope="module")
def like_use(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("like_use")
    tf.saved_model.save(LikeUse(), str(path))
    return str(path)


@pytest.fixture(scope="module")
def embedded():
    return load_encoder(EMBEDDED)


def in_a_fresh_process(handle: str, sentences: list[str], **environment: str) -> np.ndarray:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_FRESH_PROCESS, handle, json.dumps(sentences)],
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]), np.float32)


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's a DARK-red cube.", ["it", "s", "a", "dark", "red", "cube"]),
        ("", []),
        (" \t\n...!?\u3000", []),
        ("under_score x2 3.5", ["under", "score", "x2", "3", "5"]),
        (
            "Stra\u00dfe, \u0395\u03a5\u03a1\u0397\u039a\u0391\u03a3",
            ["stra\u00dfe", "\u03b5\u03c5\u03c1\u03b7\u03ba\u03b1\u03c2"],
        ),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        (
            "\u0928\u092e\u0938\u094d\u0924\u0947 \u65e5\u672c\u8a9e",
            ["\u0928\u092e\u0938\u094d\u0924\u0947", "\u65e5\u672c\u8a9e"],
        ),
        ("\u0130stanbul", ["i\u0307stanbul"]),
        ("red\x00blue", ["red", "blue"]),
    ],
)
def test_words(text, expected):
    assert words(text) == expected
    assert [word.decode() for word in split_words(tf.constant([text])).to_list()[0]] == expected


def test_graph_and_python_agree_on_every_character():
    texts = [f"a{character}b" for character in CHARACTERS]
    in_graph = [[word.decode() for word in row] for row in split_words(tf.constant(texts)).to_list()]
    assert in_graph == [words(text) for text in texts]


@settings(deadline=None)
@given(st.text(st.sampled_from(CHARACTERS)))
def test_graph_and_python_agree_on_texts(text):
    assert [word.decode() for word in split_words(tf.constant([text])).to_list()[0]] == words(text)


def test_invalid_utf8_separates():
    assert split_words(tf.constant([b"\xff\xfea b\x80c"])).to_list() == [[b"a", b"b", b"c"]]


# The embedded encoder


def test_embedded_has_the_interface(embedded):
    vectors = embedded(tf.constant(SENTENCES))
    assert (vectors.dtype, vectors.shape.as_list(), embedded.width) == (tf.float32, [3, 512], 512)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    assert embedded(tf.constant([], tf.string)).shape.as_list() == [0, 512]


def test_embedded_counts_1_and_2_grams(embedded):
    """Compares with the same sum in plain Python, which uses only the hashes of TensorFlow."""
    tokens = words(SENTENCES[0])
    grams = tokens + [f"{first} {second}" for first, second in itertools.pairwise(tokens)]
    expected = np.zeros(512)
    for number in tf.strings.to_hash_bucket_fast(grams, 1024).numpy():
        expected[number % 512] += 1 if number >= 512 else -1
    np.testing.assert_allclose(embedded(tf.constant(SENTENCES[:1]))[0], expected / np.linalg.norm(expected), atol=1e-6)


def test_embedded_hashes_never_change():
    """Exports of one release are used with the next, so the buckets of a word must stay."""
    vectors = embed(tf.constant(["red", "blue cube"])).numpy()
    cells = [(int(row), int(column), round(float(vectors[row, column]), 4)) for row, column in np.argwhere(vectors)]
    assert cells == [(0, 502, -1.0), (1, 94, 0.5774), (1, 393, 0.5774), (1, 484, -0.5774)]


def test_a_vector_does_not_depend_on_other_sentences(embedded):
    together = embedded(tf.constant(SENTENCES)).numpy()
    alone = np.concatenate([embedded(tf.constant([sentence])) for sentence in SENTENCES])
    np.testing.assert_array_equal(together, alone)


def test_word_order_counts(embedded):
    one, other = embedded(tf.constant(["red cube left of blue sphere", "blue cube left of red sphere"])).numpy()
    assert 0.3 < one @ other < 0.9


def test_embedded_is_the_same_in_a_turkish_process(embedded):
    """In Turkish the lower case of I is another letter. An export must not depend on the language of the machine."""
    sentences = ["A BIG SHINY IGLOO", "\u0130stanbul"]
    vectors = in_a_fresh_process(EMBEDDED, sentences, LC_ALL="tr_TR.UTF-8", LANG="tr_TR.UTF-8")
    np.testing.assert_array_equal(vectors, embedded(tf.constant(sentences)))


def test_embedded_can_be_made_while_a_function_is_traced():
    embedded_encoder_path.cache_clear()

    @tf.function
    def traced(sentences):
        with tf.init_scope():
            encoder = load_encoder(EMBEDDED)
        return encoder(sentences)

    assert traced(tf.constant(SENTENCES)).shape.as_list() == [3, 512]


def test_embedded_as_a_keras_layer():
    layer = hub.KerasLayer(embedded_encoder_path(), input_shape=[], dtype=tf.string)
    model = tf.keras.Sequential([layer, tf.keras.layers.Dense(2)])
    assert model(tf.constant(SENTENCES)).shape.as_list() == [3, 2]
    assert layer.trainable_variables == []


# Encoders from elsewhere


def test_local_path(like_use):
    vectors = load_encoder(like_use)(tf.constant(["red blue", "Red", ""])).numpy()
    embedding = LikeUse().embedding.numpy()
    np.testing.assert_allclose(vectors, [embedding[0] + embedding[1], embedding[0], np.zeros(512)], atol=1e-6)


def test_handle_from_a_filled_cache(like_use, tmp_path, monkeypatch):
    """Needs no network: the cache names a module by the SHA-1 of its handle."""
    shutil.copytree(like_use, tmp_path / hashlib.sha1(HANDLE.encode()).hexdigest())
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    sentences = tf.constant(["red blue", "Red", ""])
    np.testing.assert_allclose(load_encoder(HANDLE)(sentences), load_encoder(like_use)(sentences), atol=1e-6)


def test_saved_again_with_its_variables_and_tables(like_use, tmp_path):
    class Export(tf.Module):
        def __init__(self):
            super().__init__()
            self.encoder = load_encoder(like_use)

        @tf.function(input_signature=STRINGS)
        def __call__(self, inputs):
            return self.encoder(inputs)

    tf.saved_model.save(Export(), str(tmp_path))
    again = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(again(tf.constant(["red"]))[0], LikeUse().embedding[0], atol=1e-6)


def test_another_width(tmp_path):
    tf.saved_model.save(LikeUse(width=20), str(tmp_path))
    encoder = load_encoder(str(tmp_path))
    assert encoder.width == 20
    assert encoder(tf.constant(["red", "green", "blue"])).shape.as_list() == [3, 20]


@pytest.mark.parametrize(
    "wrap", [lambda vectors: vectors, lambda vectors: {"outputs": vectors, "tokens": vectors[:, 0]}]
)
def test_only_signatures(tmp_path, wrap):
    path = OnlySignatures(lambda inputs: wrap(embed(inputs, width=16))).save(tmp_path / "encoder")
    encoder = load_encoder(path)
    np.testing.assert_array_equal(encoder(tf.constant(SENTENCES)), embed(tf.constant(SENTENCES), width=16))


# Encoders that fail


@pytest.mark.parametrize("handle", ["https://localhost:1/encoder/4", "no/such/folder"])
def test_unreachable(handle, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    with pytest.raises(ModelError) as caught:
        load_encoder(handle)
    for part in (handle, "TFHUB_CACHE_DIR", "path", "--encoder embedded"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_without_a_saved_model(tmp_path):
    with pytest.raises(ModelError, match="contains neither"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("encode", "output"),
    [
        (lambda inputs: tf.cast(embed(inputs), tf.float64), r"float64 \[2, 512\]"),
        (lambda inputs: tf.reduce_sum(embed(inputs), axis=1), r"float32 \[2\]"),
        (lambda inputs: embed(tf.strings.split(inputs).flat_values, 8), r"float32 \[9, 8\]"),
        (lambda inputs: {"mean": embed(inputs), "max": embed(inputs)}, r"outputs named \['max', 'mean'\]"),
        (lambda inputs: inputs, r"string \[2\]"),
    ],
)
def test_wrong_outputs(tmp_path, encode, output):
    with pytest.raises(ModelError, match=rf"float32 \[n, width\] out.*it gave {output}"):
        load_encoder(OnlySignatures(encode).save(tmp_path / "encoder"))


def test_takes_no_strings(tmp_path):
    module = tf.Module()
    module.serve = tf.function(lambda x: x, input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    tf.saved_model.save(module, str(tmp_path), signatures=module.serve)
    with pytest.raises(ModelError, match=r"cannot take strings of shape \[2\]"):
        load_encoder(str(tmp_path))


def test_nothing_to_call(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ModelError, match="its signatures are none"):
        load_encoder(str(tmp_path))
