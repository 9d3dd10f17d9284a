"""What every layer and network keeps: shapes, dtypes, round trips of configuration and weights, XLA."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.models.context_encoder import ContextEncoder
from storygan_tf.models.image_discriminator import ImageDiscriminator
from storygan_tf.models.image_generator import ImageGenerator
from storygan_tf.models.image_trunk import ImageTrunk
from storygan_tf.models.layers.text2gist import Text2Gist
from storygan_tf.models.layers.upsample_conv import UpsampleConv2D
from storygan_tf.models.story_discriminator import StoryDiscriminator
from storygan_tf.models.story_encoder import StoryEncoder
from storygan_tf.models.story_generator import StoryGenerator
from storygan_tf.training.storygan import StoryGAN


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, the shapes of its inputs (batch first) and of its outputs."""

    name: str
    make: Callable[[Any], keras.layers.Layer]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    trains: bool = True  # whether `call` takes `training`


MAPS = ((3, 32, 32, 4), (3, 16, 16, 8), (3, 8, 8, 16), (3, 4, 4, 32))

CASES = [
    Case("upsample", lambda c: UpsampleConv2D(5), ((3, 4, 6, 2),), ((3, 8, 12, 5),), trains=False),
    Case("upsample_no_bias", lambda c: UpsampleConv2D(5, False), ((3, 4, 6, 2),), ((3, 8, 12, 5),), trains=False),
    Case("text2gist", lambda c: Text2Gist(32, 4, 12), ((3, 2, 7), (3, 32)), ((3, 2, 32), (3, 2, 32))),
    Case(
        "text2gist_product",
        lambda c: Text2Gist(32, 4, 12, "product"),
        ((3, 2, 32), (3, 32)),
        ((3, 2, 32), (3, 2, 32)),
    ),
    Case("story_encoder", lambda c: StoryEncoder(32), ((3, 2, 6),), ((3, 32), (3, 32))),
    Case(
        "context_encoder",
        lambda c: ContextEncoder(32, 4, 12),
        ((3, 2, 6), (3, 2, 3), (3, 32), (3, 32)),
        ((3, 2, 32),),
    ),
    Case("image_generator", lambda c: ImageGenerator(16), ((3, 32),), ((3, 64, 64, 3),)),
    Case("image_trunk", lambda c: ImageTrunk(4), ((3, 64, 64, 3),), MAPS),
    Case("image_discriminator", lambda c: ImageDiscriminator(4), ((3, 64, 64, 3), (3, 6), (3, 32)), ((3,),)),
    Case(
        "labelling_discriminator",
        lambda c: ImageDiscriminator(4, labels=5),
        ((3, 64, 64, 3), (3, 6), (3, 32)),
        ((3,),),
    ),
    Case("story_discriminator", lambda c: StoryDiscriminator(2, 4), ((3, 2, 64, 64, 3), (3, 2, 6)), ((3,),)),
    Case("spectral_trunk", lambda c: ImageTrunk(4, True), ((3, 64, 64, 3),), MAPS),
    Case("generator", StoryGenerator, ((3, 2, 6),), ((3, 2, 64, 64, 3), (3, 32), (3, 32), (3, 32))),
    Case("storygan", StoryGAN, ((3, 2, 6),), ((3, 2, 64, 64, 3), (3, 32), (3, 32), (3, 32))),
]

every_layer = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def inputs_of(case: Case) -> list[tf.Tensor]:
    random = np.random.default_rng(1)
    return [tf.constant(random.normal(size=shape), tf.float32) for shape in case.inputs]


def outputs_of(layer: keras.layers.Layer, case: Case, training: bool = False) -> list[tf.Tensor]:
    arguments = {"training": training} if case.trains else {}
    return tf.nest.flatten(layer(*inputs_of(case), **arguments))


@every_layer
@pytest.mark.parametrize("training", [False, True])
def test_shapes_and_dtypes(case, config, training):
    outputs = outputs_of(case.make(config), case, training)
    assert [tuple(output.shape) for output in outputs] == list(case.outputs)
    assert {output.dtype for output in outputs} == {tf.float32}
    assert all(np.all(np.isfinite(output)) for output in outputs)


@every_layer
def test_static_shapes_with_an_unknown_batch(case, config):
    layer = case.make(config)
    outputs_of(layer, case)
    specs = [tf.TensorSpec([None, *shape[1:]], tf.float32) for shape in case.inputs]
    traced = tf.function(lambda *inputs: tf.nest.flatten(layer(*inputs))).get_concrete_function(*specs)
    found = [output.shape.as_list() for output in tf.nest.flatten(traced.structured_outputs)]
    assert found == [[None, *shape[1:]] for shape in case.outputs]


@every_layer
def test_config_round_trip(case, config):
    layer = case.make(config)
    saved = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(saved)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    outputs_of(layer, case)
    outputs_of(again, case)
    shapes = [[tuple(weight.shape) for weight in each.weights] for each in (layer, again)]
    assert shapes[0] == shapes[1]


@every_layer
def test_weights_round_trip(case, config, tmp_path):
    """Another layer of the same configuration gives the same outputs once it has the weights, by list and by file."""
    layer, by_list = case.make(config), case.make(config)
    outputs_of(layer, case, training=case.trains)  # moves the moving statistics away from their start
    outputs_of(by_list, case)
    by_list.set_weights(layer.get_weights())
    expected = outputs_of(layer, case)
    assert same(expected, outputs_of(by_list, case))
    if isinstance(layer, keras.Model):
        by_file = case.make(config)
        outputs_of(by_file, case)
        assert not same(expected, outputs_of(by_file, case))
        layer.save_weights(tmp_path / "model.weights.h5")
        by_file.load_weights(tmp_path / "model.weights.h5")
        assert same(expected, outputs_of(by_file, case))


def same(expected: list[tf.Tensor], found: list[tf.Tensor]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))


@every_layer
def test_xla_gives_the_same_outputs(case, config):
    """To 1e-4: XLA adds up products in another order, and a dozen layers follow each other."""
    layer = case.make(config)
    expected = outputs_of(layer, case)
    compiled = tf.function(lambda *inputs: tf.nest.flatten(layer(*inputs)), jit_compile=True)
    for one, other in zip(expected, compiled(*inputs_of(case)), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4)


def test_no_two_weights_have_one_name(gan, tmp_path):
    """HDF5 files, and people who read optimizers' slots, go by names."""
    names = [weight.name for weight in gan.weights]
    assert len(set(names)) == len(names)
    gan.save_weights(tmp_path / "legacy.h5")


def test_pictures_are_in_range(gan, config):
    images = gan(100 * tf.random.normal([2, config.frames, config.sentence_size]), training=True).images
    assert float(tf.reduce_max(tf.abs(images))) <= 1.0


def test_a_whole_generator_goes_through_a_keras_file(gan, config, tmp_path):
    sentences = tf.random.normal([2, config.frames, config.sentence_size])
    expected = gan.generator(sentences).images
    gan.generator.save(tmp_path / "generator.keras")
    again = keras.models.load_model(tmp_path / "generator.keras")
    assert again.config == config
    np.testing.assert_array_equal(again(sentences).images, expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: UpsampleConv2D(0), "filters: found 0, expected at least 1"),
        (lambda: Text2Gist(30, filter_count=16), "units: found 30, expected a multiple of filter_count = 16"),
    ],
)
def test_impossible_sizes_are_told(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("shape", [(2, 3, 6), (2, 2, 5), (2, 6)])
def test_sentences_of_another_shape_are_told(gan, shape):
    with pytest.raises(ValueError, match=r"sentences: found shape .*, expected \[batch, 2, 6\]"):
        gan.generator(tf.zeros(shape))
