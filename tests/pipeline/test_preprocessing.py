"""The Transform graph: its vectors equal NumPy's PCA, other features pass through, and its vectorizer needs no TFX."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.runners.portability import fn_api_runner
from small_models import info_alone
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.coders import example_coder
from tfx_bsl.tfxio import tf_example_record

from pipeline.preprocessing import WORDS_FILE, preprocessing_fn
from pipeline.step_inputs import transform_arguments
from pipeline.vectorizer_export import export_vectorizer
from storygan_tf.common.errors import ConfigError, DataError
from storygan_tf.config.schema import DataConfig, Settings, StoryGANConfig
from storygan_tf.data import example_schema
from storygan_tf.export.signatures import export_storygan, model_info
from storygan_tf.models.story_generator import StoryGenerator
from storygan_tf.text.sentence_encoder import EMBEDDED, load_encoder
from storygan_tf.text.tokenization import words

FRAMES = 3
SIZE = 6
SETTINGS = Settings(model=StoryGANConfig(frames=FRAMES, sentence_size=SIZE), data=DataConfig(encoder=EMBEDDED))
CONFIG = transform_arguments(SETTINGS).to_custom_config()
IMAGE = b"\x89PNG\x00\xff\xfe"

IN_A_PROCESS_WITHOUT_TFX = """
import json, sys
import tensorflow as tf
vectorizer = tf.saved_model.load(sys.argv[1])
sentences = tf.constant(json.load(sys.stdin))
called = vectorizer(sentences).numpy()
signed = vectorizer.signatures["serving_default"](inputs=sentences)["outputs"].numpy()
assert (called == signed).all()
assert not {"tensorflow_transform", "tfx_bsl", "apache_beam", "tfx"} & set(sys.modules)
print(json.dumps(called.tolist()))
"""


def story(number: int, generator: np.random.Generator) -> tf.train.Example:
    vocabulary = ["Red", "blue", "GREEN", "cube", "sphere", "small", "large", "left", "right", "top"]
    sentences = [" ".join(generator.choice(vocabulary, 5)) + "." for _ in range(FRAMES)]
    images = [IMAGE + bytes([number, frame]) for frame in range(FRAMES)]
    return example_schema.story_example(f"story {number}", sentences, images, labels=[[number % 2, 1]] * FRAMES)


def schema():
    spec = {
        example_schema.STORY_ID: tf.io.FixedLenFeature([1], tf.string),
        example_schema.SENTENCES: tf.io.FixedLenFeature([FRAMES], tf.string),
        example_schema.IMAGES: tf.io.FixedLenFeature([FRAMES], tf.string),
        example_schema.LABELS: tf.io.FixedLenFeature([FRAMES * 2], tf.int64),
    }
    return schema_utils.schema_from_feature_spec(spec)


def transform(
    examples: list[tf.train.Example], out, temporary, settings: Settings = SETTINGS
) -> list[tf.train.Example]:
    """Fits and applies the graph as TFX's Transform does; writes the graph, returns the transformed stories."""
    source = tf_example_record.TFExampleBeamRecord("inmem", ["test"], schema=schema())
    serialized = [example.SerializeToString() for example in examples]
    with beam.Pipeline(runner=fn_api_runner.FnApiRunner()) as pipeline, tft_beam.Context(temp_dir=str(temporary)):
        raw = (pipeline | beam.Create(serialized, reshuffle=False) | source.BeamSource(), source.TensorAdapterConfig())
        function = functools.partial(preprocessing_fn, custom_config=transform_arguments(settings).to_custom_config())
        (batches, metadata), graph = raw | tft_beam.AnalyzeAndTransformDataset(function, output_record_batches=True)
        _ = graph | tft_beam.WriteTransformFn(str(out))
        encoder = example_coder.RecordBatchToExamplesEncoder(metadata.schema)
        records_file = str(out / "records")
        _ = batches | beam.FlatMapTuple(lambda batch, _: encoder.encode(batch)) | beam.io.WriteToTFRecord(records_file)
    files = sorted(str(path) for path in out.glob("records*"))
    return [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(files)]


@pytest.fixture(scope="module")
def stories():
    generator = np.random.default_rng(3)
    return [story(number, generator) for number in range(12)]


@pytest.fixture(scope="module")
def transformed(stories, tmp_path_factory):
    out = tmp_path_factory.mktemp("transform_graph")
    return out, transform(stories, out, tmp_path_factory.mktemp("beam"))


def by_id(examples):
    return {example.features.feature[example_schema.STORY_ID].bytes_list.value[0]: example for example in examples}


def sentences_of(examples) -> list[str]:
    return [text.decode() for example in examples for text in example.features.feature["sentences"].bytes_list.value]


def vectors_of(examples) -> np.ndarray:
    rows = [example.features.feature[example_schema.VECTORS].float_list.value for example in examples]
    return np.array(rows, np.float32).reshape(-1, SIZE)


def test_everything_else_passes_through_untouched(stories, transformed):
    after = by_id(transformed[1])
    assert len(after) == len(stories)
    for name, before in by_id(stories).items():
        features = dict(after[name].features.feature)
        assert len(features.pop(example_schema.VECTORS).float_list.value) == FRAMES * SIZE
        assert features == dict(before.features.feature)


def test_vectors_are_the_principal_components(transformed):
    """Compares with NumPy, up to the sign of each component."""
    raw = load_encoder(EMBEDDED)(tf.constant(sentences_of(transformed[1]))).numpy().astype(np.float64)
    centred = raw - raw.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:SIZE].T
    expected /= np.sqrt((expected**2).mean())
    vectors = vectors_of(transformed[1])
    signs = np.sign((vectors * expected).sum(axis=0))
    np.testing.assert_allclose(vectors, expected * signs, atol=1e-3)


def test_vectors_are_scaled_by_one_number_and_not_whitened(transformed):
    vectors = vectors_of(transformed[1])
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=1e-5)
    assert (vectors**2).mean() == pytest.approx(1, abs=1e-5)
    variances = (vectors**2).mean(axis=0)
    assert variances[0] > 1.3 * variances[-1]


def test_words_of_the_training_stories(stories, transformed):
    out, _ = transformed
    known = [word.decode() for word in tft.TFTransformOutput(str(out)).vocabulary_by_name(WORDS_FILE)]
    occurring = [word for sentence in sentences_of(stories) for word in words(sentence)]
    assert sorted(known) == sorted(set(occurring))
    counts = [occurring.count(word) for word in known]
    assert counts == sorted(counts, reverse=True)


@pytest.fixture(scope="module")
def vectorizer(transformed, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("export") / "vectorizer"
    export_vectorizer(transformed[0], path, SETTINGS)
    return str(path)


def test_vectorizer_in_a_process_without_tfx(transformed, vectorizer):
    sentences = sentences_of(transformed[1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_PROCESS_WITHOUT_TFX, vectorizer],
        input=json.dumps(sentences),
        capture_output=True,
        text=True,
        cwd=Path(vectorizer).parent,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), vectors_of(transformed[1]), atol=1e-5)


def test_vectorizer_is_an_encoder(transformed, vectorizer):
    """The vectorizer computes the vector of each sentence independently, for any number of sentences."""
    encoder = load_encoder(vectorizer)
    sentences = sentences_of(transformed[1])[: FRAMES + 2]
    assert encoder.width == SIZE
    np.testing.assert_allclose(encoder(tf.constant(sentences)), vectors_of(transformed[1])[: FRAMES + 2], atol=1e-5)
    np.testing.assert_allclose(encoder(tf.constant(sentences[1:2]))[0], encoder(tf.constant(sentences))[1], atol=1e-6)
    assert encoder(tf.constant([], tf.string)).shape.as_list() == [0, SIZE]
    assert hub.KerasLayer(vectorizer, input_shape=[], dtype=tf.string)(tf.constant(sentences)).shape[1] == SIZE


def test_vectorizer_saves_again_inside_an_export(vectorizer, tmp_path):
    class Export(tf.Module):
        def __init__(self):
            super().__init__()
            self.vectorizer = tf.saved_model.load(vectorizer)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, sentences):
            return self.vectorizer(sentences)

    tf.saved_model.save(Export(), str(tmp_path))
    sentences = tf.constant(["red cube"])
    again = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(again(sentences), tf.saved_model.load(vectorizer)(sentences))


def test_vectorizer_replaces_an_existing_folder(transformed, vectorizer, tmp_path):
    out = tmp_path / "vectorizer"
    out.mkdir()
    (out / "old").touch()
    export_vectorizer(transformed[0], out, SETTINGS)
    assert not (out / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["vectorizer"]
    assert load_encoder(str(out)).width == SIZE


def test_sentences_that_are_all_alike_give_zeros(tmp_path_factory):
    same = [
        example_schema.story_example(str(number), ["the same"] * FRAMES, [IMAGE] * FRAMES, labels=[[1, 0]] * FRAMES)
        for number in range(3)
    ]
    out = tmp_path_factory.mktemp("alike")
    np.testing.assert_allclose(vectors_of(transform(same, out, tmp_path_factory.mktemp("beam"))), 0, atol=1e-3)


def test_more_components_than_the_encoder_has(stories, tmp_path):
    settings = Settings(model=StoryGANConfig(frames=FRAMES, sentence_size=513), data=DataConfig(encoder=EMBEDDED))
    with pytest.raises(ConfigError, match=r"model\.sentence_size: found 513, but .*'embedded' gives vectors of 512"):
        transform(stories, tmp_path, tmp_path, settings)


def test_stories_of_another_length():
    with pytest.raises(ConfigError, match=r"model\.frames: found 3, but 'sentences' in the data has shape \[2, 4\]"):
        preprocessing_fn({example_schema.SENTENCES: tf.zeros([2, 4], tf.string)}, CONFIG)


@pytest.mark.parametrize("kind", [tf.identity, tf.RaggedTensor.to_sparse, lambda ragged: None])
def test_stories_of_different_lengths(kind):
    with pytest.raises(DataError, match=r"expected a dense tensor \[B, T\]"):
        preprocessing_fn({example_schema.SENTENCES: kind(tf.ragged.constant([["a"], ["b", "c"]]))}, CONFIG)


@pytest.mark.parametrize(
    ("custom_config", "message"),
    [
        ({"settings": '{"data": {"encodr": "embedded"}}'}, r"'data\.encodr'; did you mean 'encoder'"),
        ({"settings": "{"}, "not JSON"),
        ({"setings": "{}"}, "setings"),
    ],
)
def test_settings_that_cannot_be_read(custom_config, message):
    with pytest.raises(ConfigError, match=message):
        preprocessing_fn({example_schema.SENTENCES: tf.zeros([2, FRAMES], tf.string)}, CONFIG | custom_config)


# Starting from another model


def starting_from(model: Path, **sizes: int) -> Settings:
    return SETTINGS.override([f"training.init_from={model}", *(f"model.{key}={n}" for key, n in sizes.items())])


@pytest.fixture(scope="module")
def initial(vectorizer, tmp_path_factory) -> Path:
    """An exported model with the vectorizer of `stories`."""
    generator = StoryGenerator(StoryGANConfig(frames=FRAMES, sentence_size=SIZE, generator_width=8))
    generator(np.zeros([1, FRAMES, SIZE], np.float32))
    path = tmp_path_factory.mktemp("initial") / "1"
    with info_alone():
        export_storygan(generator, tf.saved_model.load(vectorizer), model_info(SETTINGS, [], []), path)
    return path


@pytest.fixture(scope="module")
def others() -> list[tf.train.Example]:
    """Other stories, on which a PCA would give other vectors."""
    generator = np.random.default_rng(8)
    return [story(number, generator) for number in range(7)]


@pytest.fixture(scope="module")
def retransformed(others, initial, tmp_path_factory):
    out = tmp_path_factory.mktemp("retransformed")
    return out, transform(others, out, tmp_path_factory.mktemp("beam"), starting_from(initial))


def test_vectors_of_the_initial_model_are_not_refitted(retransformed, vectorizer):
    expected = tf.saved_model.load(vectorizer)(tf.constant(sentences_of(retransformed[1])))
    np.testing.assert_allclose(vectors_of(retransformed[1]), expected, atol=1e-6)


def test_words_are_those_of_the_new_stories(retransformed, others):
    known = [word.decode() for word in tft.TFTransformOutput(str(retransformed[0])).vocabulary_by_name(WORDS_FILE)]
    assert set(known) == {word for sentence in sentences_of(others) for word in words(sentence)}


@pytest.mark.slow
def test_its_vectorizer_is_exported_again(retransformed, initial, vectorizer, tmp_path):
    export_vectorizer(retransformed[0], tmp_path / "vectorizer", starting_from(initial))
    sentences = tf.constant(["red cube", "", "a green sphere at the top", "blue"])
    again = tf.saved_model.load(str(tmp_path / "vectorizer"))
    np.testing.assert_allclose(again(sentences), tf.saved_model.load(vectorizer)(sentences), atol=1e-6)


@pytest.mark.slow
def test_an_initial_model_of_another_width(others, initial, tmp_path):
    with pytest.raises(ConfigError, match=r"sentence_size: found 7, but the initial model .* has vectors of 6"):
        transform(others, tmp_path, tmp_path, starting_from(initial, sentence_size=SIZE + 1))
