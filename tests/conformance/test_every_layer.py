"""Every layer and network: shapes, dtypes, round trips of configuration and weights, XLA."""

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
    trains: bool = True  # whether `call` has the argument `training`
    seeded: bool = False  # whether `call` has the argument `seed`, and the last output is the seed


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
    Case("generator", StoryGenerator, ((3, 2, 6),), ((3, 2, 64, 64, 3), *3 * ((3, 32),)), seeded=True),
    Case("storygan", StoryGAN, ((3, 2, 6),), ((3, 2, 64, 64, 3), *3 * ((3, 32),)), seeded=True),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request) -> Case:
    return request.param


@pytest.fixture(scope="module")
def layer(case, config) -> keras.layers.Layer:
    """Returns the layer of a case, built once for all tests of the case; its weights are random."""
    keras.utils.set_random_seed(7)
    layer = case.make(config)
    outputs_of(layer, case)
    return layer


def inputs_of(case: Case) -> list[tf.Tensor]:
    random = np.random.default_rng(1)
    return [tf.constant(random.normal(size=shape), tf.float32) for shape in case.inputs]


def outputs_of(layer: keras.layers.Layer, case: Case, training: bool = False) -> list[tf.Tensor]:
    return call(layer, case, *inputs_of(case), **({"training": training} if case.trains else {}))


def call(layer: keras.layers.Layer, case: Case, *inputs: tf.Tensor, **arguments: bool) -> list[tf.Tensor]:
    """Returns the outputs of a layer, without the seeds of a generator, which are zeros."""
    if not case.seeded:
        return tf.nest.flatten(layer(*inputs, **arguments))
    *outputs, _ = layer(*inputs, seed=tf.zeros([tf.shape(inputs[0])[0]], tf.int64), **arguments)
    return outputs


def test_shapes_and_dtypes(case, layer):
    for training in (False, True):
        outputs = outputs_of(layer, case, training)
        assert [tuple(output.shape) for output in outputs] == list(case.outputs)
        assert {output.dtype for output in outputs} == {tf.float32}
        assert all(np.all(np.isfinite(output)) for output in outputs)


def test_static_shapes_with_an_unknown_batch(case, layer):
    specs = [tf.TensorSpec([None, *shape[1:]], tf.float32) for shape in case.inputs]
    traced = tf.function(lambda *inputs: call(layer, case, *inputs)).get_concrete_function(*specs)
    shapes = [output.shape.as_list() for output in tf.nest.flatten(traced.structured_outputs)]
    assert shapes == [[None, *shape[1:]] for shape in case.outputs]


def test_config_round_trip(case, layer, config):
    unbuilt = case.make(config)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(unbuilt))
    assert type(again) is type(unbuilt)
    assert again.get_config() == unbuilt.get_config()
    outputs_of(again, case)
    shapes = [[tuple(weight.shape) for weight in each.weights] for each in (layer, again)]
    assert shapes[0] == shapes[1]


def test_weights_round_trip(case, layer, config, tmp_path):
    """Another layer of the same configuration gives the same outputs once it has the weights, by list and by file."""
    outputs_of(layer, case, training=case.trains)  # moves the moving statistics away from their start
    expected = outputs_of(layer, case)
    other = case.make(config)
    outputs_of(other, case)
    before = other.get_weights()
    other.set_weights(layer.get_weights())
    assert same(expected, outputs_of(other, case))
    if isinstance(layer, keras.Model):
        other.set_weights(before)
        assert not same(expected, outputs_of(other, case))
        layer.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        assert same(expected, outputs_of(other, case))


def same(expected: list[tf.Tensor], outputs: list[tf.Tensor]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(expected, outputs, strict=True))


def test_xla_gives_the_same_outputs(case, layer):
    """Allows a difference of 1e-4, because XLA sums products in another order and a dozen layers follow each other."""
    expected = outputs_of(layer, case)
    compiled = tf.function(lambda *inputs: call(layer, case, *inputs), jit_compile=True)
    for one, other in zip(expected, compiled(*inputs_of(case)), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4)


def test_no_two_weights_have_one_name(config, tmp_path):
    """HDF5 files and the slots of optimizers are identified by names."""
    gan = StoryGAN(config)
    names = [weight.name for weight in gan.weights]
    assert len(set(names)) == len(names)
    gan.save_weights(tmp_path / "legacy.h5")


def test_pictures_are_in_range(gan, config):
    images = gan(100 * tf.random.normal([2, config.frames, config.sentence_size]), training=True).images
    assert float(tf.reduce_max(tf.abs(images))) <= 1.0


def test_a_whole_generator_goes_through_a_keras_file(gan, config, tmp_path):
    sentences = tf.random.normal([2, config.frames, config.sentence_size])
    expected = gan.generator(sentences)
    gan.generator.save(tmp_path / "generator.keras")
    again = keras.models.load_model(tmp_path / "generator.keras")
    assert again.config == config
    np.testing.assert_array_equal(again(sentences, seed=expected.seed).images, expected.images)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: UpsampleConv2D(0), "filters: found 0, expected at least 1"),
        (lambda: Text2Gist(30, filter_count=16), "units: found 30, expected a multiple of filter_count = 16"),
    ],
)
def test_impossible_sizes_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("shape", [(2, 3, 6), (2, 2, 5), (2, 6)])
def test_sentences_of_another_shape_are_refused(gan, shape):
    with pytest.raises(ValueError, match=r"sentences: found shape .*, expected \[batch, 2, 6\]"):
        gan.generator(tf.zeros(shape))
