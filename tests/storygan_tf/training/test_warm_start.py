"""Starting from a model: its weights to the bit, the discriminators of its run, and the settings that must agree."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import info_alone, small_config

from storygan_tf.common.errors import ConfigError, DataError, ModelError
from storygan_tf.common.model_paths import ASSETS_EXTRA, find_model
from storygan_tf.config.schema import DataConfig, PhaseConfig, Settings, TrainConfig
from storygan_tf.data.stories import Stories
from storygan_tf.export.signatures import INFO_FILE, export_storygan, half_precision_copy, model_info
from storygan_tf.export.weight_io import assign_weights, read_weights, weights_of
from storygan_tf.text.hashed_ngram_encoder import embed
from storygan_tf.training.checkpoints import CheckpointStore
from storygan_tf.training.storygan import StoryGAN
from storygan_tf.training.warm_start import load_initial_model

MODEL = small_config()
PIXEL = PhaseConfig(name="warm_up", schedule="pixel", l1_weight=1.0)
SETTINGS = Settings(
    preset="quick",
    model=MODEL,
    training=TrainConfig(phases=(PIXEL, PhaseConfig())),
    data=DataConfig(encoder="embedded"),
)
LABELS = ("cube", "red")
STORY = ["A red cube.", "A blue sphere."]


class Vectorizer(tf.Module):
    """An encoder and a matrix, as Transform's graph has them."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = tf.Variable(np.random.default_rng(0).normal(size=[64, 6]).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, sentences):
        return embed(sentences, 64) @ self.matrix


def random_gan(seed: int) -> StoryGAN:
    """Returns a model whose variables are all random, including moving statistics."""
    keras.utils.set_random_seed(seed)
    gan = StoryGAN(MODEL)
    random = np.random.default_rng(seed)
    for network in gan.networks:
        for variable in network.variables:
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return gan


def export(gan: StoryGAN, path: Path) -> None:
    info = model_info(SETTINGS, [STORY], ["a", "red", "cube"], LABELS)
    with info_alone():
        export_storygan(gan.generator, Vectorizer(), info, path)


@pytest.fixture(scope="module")
def trained() -> StoryGAN:
    return random_gan(1)


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory) -> Path:
    """Returns a run directory with two trainings, the second of which was exported; tests must not change it."""
    root = tmp_path_factory.mktemp("run")
    export(trained, root / "serving_model" / "storygan" / "5")
    for key, gan in (("another", random_gan(2)), ("this", trained)):
        CheckpointStore(root / "work" / key / "checkpoints").save(gan, 3, {})
    return root


@pytest.fixture(scope="module")
def alone(run, tmp_path_factory) -> Path:
    """Returns a copy of the version directory of the run."""
    return Path(shutil.copytree(run / "serving_model" / "storygan" / "5", tmp_path_factory.mktemp("alone") / "5"))


def assert_equal(one: keras.Model, other: keras.Model) -> None:
    for mine, theirs in zip(one.variables, other.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=mine.name)


# The parts of the model that a training uses


def test_the_description_of_the_model_is_read(run):
    initial = load_initial_model(str(run))
    assert (initial.model, initial.preset, initial.encoder, initial.labels) == (MODEL, "quick", "embedded", LABELS)
    assert initial.checkpoint == run / "work" / "this" / "checkpoints" / "000000003"


def test_the_description_names_what_is_taken(run, alone):
    weights = "its weights, sentence encoder and PCA"
    assert load_initial_model(str(run)).description == f"goes on from {run}: {weights}, its discriminators"
    assert load_initial_model(str(alone)).description == f"goes on from {alone}: {weights}, new discriminators"


def test_weights_and_discriminators_are_those_of_the_run(run, trained):
    gan = random_gan(7)
    load_initial_model(str(run)).apply(gan)
    for mine, theirs in zip(gan.networks, trained.networks, strict=True):
        assert_equal(mine, theirs)


def test_an_export_alone_brings_the_generator(alone, trained):
    gan = random_gan(7)
    discriminators = (gan.image_discriminator, gan.story_discriminator)
    before = [discriminator.get_weights() for discriminator in discriminators]
    initial = load_initial_model(str(alone))
    initial.apply(gan)
    assert not initial.has_discriminators
    assert_equal(gan.generator, trained.generator)
    for discriminator, weights in zip(discriminators, before, strict=True):
        for mine, earlier in zip(discriminator.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(mine, earlier)


def test_a_checkpoint_of_another_training_is_not_taken(run, tmp_path):
    """The run has trained other weights since the version was pushed, or has another configuration now."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(copy / "work" / "this")
    assert not load_initial_model(str(copy)).has_discriminators


def test_a_damaged_checkpoint_is_not_taken(run, tmp_path, caplog):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    data = next((copy / "work" / "this").rglob("weights.data*"))
    data.write_bytes(data.read_bytes()[:-1])
    assert not load_initial_model(str(copy)).has_discriminators
    assert "damaged" in caplog.text


def test_averaged_weights_are_found_in_the_checkpoint(run, trained, tmp_path):
    """The exported generator is the averaged one of the checkpoint, not the one that is trained."""
    shutil.copytree(run / "serving_model", tmp_path / "serving_model")
    networks = {"averaged": trained.generator, "generator": random_gan(9).generator}
    for name in ("image_discriminator", "story_discriminator"):
        networks[name] = getattr(trained, name)
    CheckpointStore(tmp_path / "work" / "a" / "checkpoints").save(tf.train.Checkpoint(**networks), 1, {})
    gan = random_gan(7)
    load_initial_model(str(tmp_path)).apply(gan)
    assert_equal(gan.generator, trained.generator)
    assert_equal(gan.image_discriminator, trained.image_discriminator)


def test_weights_kept_as_float16_are_rounded_once_and_cast_up(trained):
    half, gan = half_precision_copy(trained.generator), random_gan(7)
    assert_equal_but_rounded(half, trained.generator)
    assign_weights(gan.generator, weights_of(half), "half")
    assert_equal_but_rounded(gan.generator, trained.generator)
    assert {variable.dtype for variable in gan.generator.variables} == {tf.float32}
    assert {value.dtype.name for value in read_weights(find_model("blocks")).values()} == {"float32"}


def assert_equal_but_rounded(one: keras.Model, other: keras.Model) -> None:
    for mine, theirs in zip(one.variables, other.variables, strict=True):
        rounded = theirs.numpy() if "norm" in mine.name else theirs.numpy().astype(np.float16)
        np.testing.assert_array_equal(mine.numpy(), rounded, err_msg=mine.name)


def test_weights_are_identified_by_their_names(trained, alone):
    """`mu` and `log_var` have the same shapes, so a change of their order must not swap them."""
    weights = read_weights(alone)
    np.testing.assert_array_equal(weights["story_encoder/mu/kernel"], trained.generator.story_encoder.mu.kernel)
    np.testing.assert_array_equal(
        weights["story_encoder/log_var/kernel"], trained.generator.story_encoder.log_var.kernel
    )
    gan = random_gan(7)
    assign_weights(gan.generator, dict(reversed(list(weights.items()))), "reversed")
    assert_equal(gan.generator, trained.generator)


def test_weights_of_another_model_are_refused_and_nothing_is_set(trained):
    gan = random_gan(7)
    before = gan.generator.get_weights()
    weights = weights_of(trained.generator)
    weights["story_encoder/mu/bias"] = weights["story_encoder/mu/bias"][:-1]
    weights["more/kernel"] = weights.pop("story_encoder/mu/kernel")
    with pytest.raises(ModelError, match=r"that: its .* shape: more/kernel, story_encoder/mu/bias, story_encoder/mu/k"):
        assign_weights(gan.generator, weights, "that")
    for mine, earlier in zip(gan.generator.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, earlier)


def test_every_replica_gets_the_weights(alone, trained):
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        gan = StoryGAN(MODEL)
    load_initial_model(str(alone)).apply(gan)
    assert_equal(gan.generator, trained.generator)


def test_vectors_are_those_of_its_own_encoder_and_pca(alone):
    vectors = load_initial_model(str(alone)).load_vectorizer()(tf.constant(STORY))
    np.testing.assert_array_equal(vectors, Vectorizer()(tf.constant(STORY)))


def stories(vectors: np.ndarray) -> Stories:
    images = np.zeros([1, 2, 64, 64, 3], np.uint8)
    return Stories(["a"], [STORY], images, vectors[np.newaxis].astype(np.float32), np.zeros([1, 2, 0], np.uint8))


def test_stories_prepared_by_another_pca_are_refused(alone):
    initial, vectors = load_initial_model(str(alone)), Vectorizer()(tf.constant(STORY)).numpy()
    initial.check_vectors(stories(vectors))
    with pytest.raises(DataError, match=r"differ by up to .*; prepare the stories with the same --init-from"):
        initial.check_vectors(stories(-vectors))


# Its fingerprint


@pytest.mark.parametrize("file", ["saved_model.pb", f"{ASSETS_EXTRA}/{INFO_FILE}"])
def test_the_fingerprint_is_of_the_content_wherever_it_lies(alone, tmp_path, file):
    copy = Path(shutil.copytree(alone, tmp_path / "copy"))
    before = load_initial_model(str(alone)).fingerprint
    assert load_initial_model(str(copy)).fingerprint == before
    (copy / file).write_bytes((copy / file).read_bytes() + b" ")
    assert load_initial_model(str(copy)).fingerprint != before


def test_discriminators_are_part_of_the_fingerprint(run, alone):
    assert load_initial_model(str(run)).fingerprint != load_initial_model(str(alone)).fingerprint


def test_a_lineage_names_it(alone):
    initial = load_initial_model(str(alone))
    assert initial.lineage_entry() == {"model": str(alone), "sha256": initial.fingerprint}


# What must agree


def test_the_same_settings_agree(run, alone):
    load_initial_model(str(run)).check(SETTINGS, LABELS)
    load_initial_model(str(alone)).check(SETTINGS, ())


def test_all_that_differs_is_listed(alone):
    other = dataclasses.replace(
        SETTINGS,
        model=dataclasses.replace(MODEL, frames=5, generator_width=8),
        data=DataConfig(encoder="https://example.org/encoder"),
    )
    with pytest.raises(ConfigError) as raised:
        load_initial_model(str(alone)).check(other, ["dog", "red"])
    for text in (
        "model.frames is 5, the initial model's 2;",
        "model.generator_width is 8, the initial model's 16;",
        "data.encoder is 'https://example.org/encoder', the initial model's 'embedded';",
        "the stories' labels are dog, red, the initial model's cube, red.",
    ):
        assert text in str(raised.value)


def test_the_order_of_labels_matters_to_a_discriminator_with_labels(run):
    initial, turned = load_initial_model(str(run)), LABELS[::-1]
    initial.check(SETTINGS, turned)
    labelling = dataclasses.replace(MODEL, labels=2)
    with pytest.raises(ConfigError, match="labels are red, cube, the initial model's cube, red"):
        dataclasses.replace(initial, model=labelling).check(dataclasses.replace(SETTINGS, model=labelling), turned)


@pytest.mark.parametrize("change", [{"discriminator_width": 4}, {"spectral_norm": True}, {"labels": 2}])
def test_discriminators_must_agree_where_there_are_some(run, alone, change):
    other = dataclasses.replace(SETTINGS, model=dataclasses.replace(MODEL, **change))
    load_initial_model(str(alone)).check(other)
    with pytest.raises(ConfigError, match=f"model.{next(iter(change))} is "):
        load_initial_model(str(run)).check(other)


def test_new_discriminators_start_behind_a_pixel_phase(run, alone):
    other = dataclasses.replace(SETTINGS, training=TrainConfig(phases=(PhaseConfig(),)))
    load_initial_model(str(run)).check(other)
    with pytest.raises(ConfigError, match=r"brings no discriminators .* 'adversarial', needs them; expected a phase"):
        load_initial_model(str(alone)).check(other)


def test_an_export_of_an_older_version_is_refused(alone, tmp_path):
    copy = Path(shutil.copytree(alone, tmp_path / "5"))
    info = json.loads((copy / ASSETS_EXTRA / INFO_FILE).read_text())
    del info["model"], info["labels"]
    (copy / ASSETS_EXTRA / INFO_FILE).write_text(json.dumps(info))
    with pytest.raises(ModelError, match=r"has no model, labels; .* older version"):
        load_initial_model(str(copy))


@pytest.mark.parametrize("file", ["variables/variables.index", f"{ASSETS_EXTRA}/{INFO_FILE}"])
def test_a_damaged_export_is_named(alone, tmp_path, file):
    copy = Path(shutil.copytree(alone, tmp_path / "5"))
    (copy / file).write_bytes(b"")
    with pytest.raises(ModelError, match="cannot be read"):
        load_initial_model(str(copy)).apply(random_gan(7))


def test_a_missing_model_is_named_with_its_option(tmp_path):
    with pytest.raises(ModelError, match=r"^--init-from .*/nothing: no such folder and no pretrained model"):
        load_initial_model(str(tmp_path / "nothing"))
