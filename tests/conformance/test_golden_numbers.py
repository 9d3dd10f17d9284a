"""The recurrent part against a plain NumPy version of its equations, written in loops."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.models.context_encoder import ContextEncoder
from storygan_tf.models.image_discriminator import ImageDiscriminator
from storygan_tf.models.layers.dynamic_filter import dynamic_filter
from storygan_tf.models.layers.text2gist import Text2Gist
from storygan_tf.models.noise import Noise
from storygan_tf.models.story_discriminator import StoryDiscriminator
from storygan_tf.models.story_encoder import StoryEncoder
from storygan_tf.models.story_generator import StoryGenerator

UNITS, FEATURES, FRAMES, BATCH = 32, 7, 3, 5
FILTERS, LENGTH = 4, 12
EPSILON = 1e-5


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def randomise(layer: keras.layers.Layer) -> None:
    """Gives every weight a random value, biases and moving statistics too; variances stay positive."""
    weights = [0.3 * normal(*weight.shape, seed=number) for number, weight in enumerate(layer.weights)]
    layer.set_weights(
        [
            np.abs(value) + 0.5 if "variance" in weight.name else value
            for weight, value in zip(layer.weights, weights, strict=True)
        ]
    )


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def thirds(matrix: np.ndarray) -> list[np.ndarray]:
    return np.split(matrix, 3, axis=-1)


def reference_norm(x: np.ndarray, norm: keras.layers.BatchNormalization) -> np.ndarray:
    gamma, beta, mean, variance = norm.get_weights()
    return gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta


def reference_text2gist_states(cell: Text2Gist, inputs: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Returns the hidden states by the original code's equations: [frames, features], [units] -> [frames, units]."""
    (w_z, w_r, w_h), (b_z, b_r, b_h) = thirds(cell.kernel.numpy()), thirds(cell.bias.numpy())
    u_z, u_r, u_h = thirds(cell.recurrent_kernel.numpy())
    states = []
    for i_t in inputs:
        z = sigmoid(i_t @ w_z + state @ u_z + b_z)
        r = sigmoid(i_t @ w_r + state @ u_r + b_r)
        state = (1 - z) * state + z * np.tanh(i_t @ w_h + (r * state) @ u_h + b_h)
        states.append(state)
    return np.array(states)


def reference_filters(cell: Text2Gist, i_t: np.ndarray) -> np.ndarray:
    """Returns the filters by table 2.3 of the original code: linear, BN, tanh, reshaped to [filters, length]."""
    flat = np.tanh(reference_norm(i_t @ cell.filter_dense.get_weights()[0], cell.filter_norm))
    return np.array([flat[k * LENGTH : (k + 1) * LENGTH] for k in range(FILTERS)])


def reference_dynamic_filter(signal: np.ndarray, filters: np.ndarray, stride: int) -> np.ndarray:
    """Correlates [length] with [channels, filter_length], zeros outside: [length / stride, channels]."""
    channels, length = filters.shape
    before = (length - stride) // 2
    outputs = np.zeros([len(signal) // stride, channels])
    for position, channel, tap in np.ndindex(*outputs.shape, length):
        at = position * stride - before + tap
        if 0 <= at < len(signal):
            outputs[position, channel] += signal[at] * filters[channel, tap]
    return outputs


@pytest.fixture
def cell() -> Text2Gist:
    cell = Text2Gist(UNITS, FILTERS, LENGTH)
    cell(normal(1, 1, FEATURES), normal(1, UNITS))
    randomise(cell)
    return cell


def test_text2gist_recurrence(cell):
    inputs, start = normal(BATCH, FRAMES, FEATURES), normal(BATCH, UNITS)
    _, states = cell(inputs, start, training=False)
    for story in range(BATCH):
        expected = reference_text2gist_states(cell, inputs[story], start[story])
        np.testing.assert_allclose(states[story], expected, atol=1e-5)


def test_a_product_for_a_gist():
    cell = Text2Gist(UNITS, FILTERS, LENGTH, "product")
    inputs, start = normal(BATCH, FRAMES, UNITS), normal(BATCH, UNITS)
    gists, states = cell(inputs, start, training=False)
    np.testing.assert_allclose(gists, inputs * states, atol=1e-6)
    assert not [weight.name for weight in cell.weights if "filter" in weight.name]


def test_filter_network(cell):
    inputs = normal(BATCH, FEATURES)
    filters = cell.filters(tf.constant(inputs), training=False)
    assert filters.shape == (BATCH, LENGTH, FILTERS)
    for row in range(BATCH):
        np.testing.assert_allclose(filters[row], reference_filters(cell, inputs[row]).T, atol=1e-5)


def test_text2gist_reads_each_state_by_its_own_filters(cell):
    inputs, start = normal(BATCH, FRAMES, FEATURES), normal(BATCH, UNITS)
    gists, states = cell(inputs, start, training=False)
    for story, frame in np.ndindex(BATCH, FRAMES):
        filters = reference_filters(cell, inputs[story, frame])
        expected = reference_dynamic_filter(states[story, frame].numpy(), filters, stride=FILTERS)
        np.testing.assert_allclose(gists[story, frame], expected.ravel(), atol=1e-5)


@pytest.mark.parametrize(
    ("length", "filter_length", "channels", "stride"), [(128, 64, 16, 16), (32, 12, 4, 4), (12, 3, 5, 3), (10, 9, 2, 1)]
)
def test_dynamic_filter(length, filter_length, channels, stride):
    signal, filters = normal(2, length), normal(2, filter_length, channels)
    found = dynamic_filter(tf.constant(signal), tf.constant(filters), stride)
    for row in range(2):
        expected = reference_dynamic_filter(signal[row], filters[row].T, stride)
        np.testing.assert_allclose(found[row], expected, atol=1e-4)


def test_dynamic_filter_is_tensorflows_convolution_with_padding_same():
    """Compares at the paper's sizes: 24 zeros on each side, 8 positions of 16 channels."""
    signal, filters = normal(2, 128), normal(2, 64, 16)
    found = dynamic_filter(tf.constant(signal), tf.constant(filters), 16)
    for row in range(2):
        expected = tf.nn.conv1d(signal[row][None, :, None], filters[row][:, None, :], stride=16, padding="SAME")
        np.testing.assert_allclose(found[row], expected[0], atol=1e-4)


def test_context_encoder():
    """Recomputes linear + BN + ReLU on sentence and noise, then the GRU of Cho et al., then Text2Gist."""
    encoder = ContextEncoder(UNITS, FILTERS, LENGTH)
    sentences, noise = normal(BATCH, FRAMES, 6), normal(BATCH, FRAMES, 3)
    gru_start, story_start = normal(BATCH, UNITS, seed=1), normal(BATCH, UNITS, seed=2)
    arguments = [tf.constant(array) for array in (sentences, noise, gru_start, story_start)]
    encoder(*arguments)
    randomise(encoder)
    gists = encoder(*arguments, training=False)
    for story in range(BATCH):
        joined = np.concatenate([sentences[story], noise[story]], axis=-1)
        hidden = np.maximum(reference_norm(joined @ encoder.dense.get_weights()[0], encoder.norm), 0)
        features = reference_gru(encoder.gru, hidden, gru_start[story])
        expected, _ = encoder.text2gist(features[None], story_start[story][None], training=False)
        np.testing.assert_allclose(gists[story], expected[0], atol=1e-5)


def reference_gru(cell: keras.layers.GRUCell, inputs: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Returns the states of a GRU whose update gate keeps the old state, unlike that of Text2Gist."""
    kernel, recurrent, bias = cell.get_weights()
    (w_z, w_r, w_h), (u_z, u_r, u_h), (b_z, b_r, b_h) = thirds(kernel), thirds(recurrent), thirds(bias)
    states = []
    for x in inputs:
        z = sigmoid(x @ w_z + state @ u_z + b_z)
        r = sigmoid(x @ w_r + state @ u_r + b_r)
        state = z * state + (1 - z) * np.tanh(x @ w_h + (r * state) @ u_h + b_h)
        states.append(state)
    return np.array(states, np.float32)


def test_story_encoder():
    encoder = StoryEncoder(UNITS)
    sentences, epsilon = normal(BATCH, FRAMES, 6), normal(BATCH, UNITS)
    encoder(sentences)
    randomise(encoder)
    mu, log_var = encoder(sentences, training=False)
    flat = np.array([np.concatenate(list(story)) for story in sentences])
    hidden = np.maximum(reference_norm(flat @ encoder.dense.get_weights()[0], encoder.norm), 0)
    for found, dense in ((mu, encoder.mu), (log_var, encoder.log_var)):
        weights, bias = dense.get_weights()
        np.testing.assert_allclose(found, hidden @ weights + bias, atol=1e-5)
    h0 = StoryEncoder.sample(mu, log_var, tf.constant(epsilon))
    np.testing.assert_allclose(h0, mu + np.sqrt(np.exp(log_var)) * epsilon, atol=1e-5)


def test_generator_is_its_parts_in_a_row(config, gan):
    """h0 starts Text2Gist, g_0 starts the GRU, epsilon_t joins sentence t; each gist becomes the frame of its place."""
    generator = gan.generator
    sentences = tf.constant(normal(BATCH, config.frames, config.sentence_size))
    size = config.context_size
    noise = Noise(normal(BATCH, size, seed=1), normal(BATCH, size, seed=2), normal(BATCH, config.frames, 3, seed=3))
    output = generator(sentences, training=False, noise=Noise(*map(tf.constant, noise)))
    mu, log_var = generator.story_encoder(sentences, training=False)
    h0 = mu + np.exp(log_var / 2) * noise.story
    gists = generator.context_encoder(sentences, *map(tf.constant, (noise.sentences, noise.state)), h0, training=False)
    for found, expected in ((output.mu, mu), (output.log_var, log_var), (output.h0, h0)):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    for story, frame in np.ndindex(BATCH, config.frames):
        expected = generator.image_generator(gists[story, frame][tf.newaxis], training=False)[0]
        np.testing.assert_allclose(output.images[story, frame], expected, atol=1e-5)


def test_without_story_noise_h0_is_its_mean(config):
    generator = StoryGenerator(dataclasses.replace(config, story_noise=False))
    output = generator(
        tf.constant(normal(BATCH, config.frames, config.sentence_size)), seed=tf.range(5, dtype=tf.int64)
    )
    np.testing.assert_array_equal(output.h0, output.mu)


def test_story_discriminator_is_a_weighted_product_of_its_two_sides():
    """Recomputes `w^T (E_img(X) * E_text(S)) + b` with the features of the frames in their order."""
    discriminator = StoryDiscriminator(FRAMES, 4)
    stories, sentences = tf.constant(normal(BATCH, FRAMES, 64, 64, 3)), tf.constant(normal(BATCH, FRAMES, 6))
    discriminator(stories, sentences)
    randomise(discriminator)
    weights, bias = discriminator.score_dense.get_weights()
    image_side = discriminator.encode_images(stories, training=False).numpy()
    text_side = discriminator.encode_text(sentences, training=False).numpy()
    logits = discriminator(stories, sentences, training=False)
    np.testing.assert_allclose(logits, (image_side * text_side) @ weights[:, 0] + bias, rtol=1e-4)
    repeated = tf.repeat(stories[:, 1:2], FRAMES, axis=1)
    alone = discriminator.encode_images(repeated, training=False).numpy()[:, :128]
    np.testing.assert_allclose(image_side[:, 128:256], alone, rtol=1e-4, atol=1e-5)


def test_image_discriminator_joins_each_frame_with_its_own_sentence_and_story():
    """The condition is equal at all 16 positions, so the joint convolution multiplies it by the summed kernel."""
    discriminator = ImageDiscriminator(4)
    images, sentences, h0 = normal(BATCH, 64, 64, 3), normal(BATCH, 6), normal(BATCH, UNITS)
    discriminator(images, sentences, h0)
    randomise(discriminator)
    features = discriminator.trunk(images, training=False)[-1]
    condition = np.broadcast_to(np.concatenate([sentences, h0], -1)[:, None, None], [BATCH, 4, 4, 6 + UNITS])
    joint = discriminator.joint(np.concatenate([features, condition], axis=-1))
    joint = reference_norm(joint.numpy(), discriminator.joint_norm)
    joint = np.where(joint > 0, joint, 0.2 * joint)
    weights, bias = discriminator.score_conv.get_weights()
    expected = np.einsum("nhwc,hwco->no", joint, weights)[:, 0] + bias
    np.testing.assert_allclose(discriminator(images, sentences, h0, training=False), expected, rtol=1e-3, atol=1e-4)
