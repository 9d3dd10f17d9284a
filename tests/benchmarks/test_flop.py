"""Counts of operations, compared with numbers that were computed by hand and with TensorFlow's profiler."""

from __future__ import annotations

import collections
import dataclasses

import pytest
import tensorflow as tf
from flop import executed, needed, operations, parts, step_executed
from small_models import small_config
from step_program import random_stories
from upsampling import keras_upsampling, transposed

from storygan_tf.config.schema import PhaseConfig, StoryGANConfig
from storygan_tf.data.training_input import training_dataset
from storygan_tf.models.story_discriminator import StoryDiscriminator
from storygan_tf.training.storygan import StoryGAN

MEGA = 1e6
TINY = small_config(frames=3, context_size=32, discriminator_width=4)

TRUNK = 2 * 16 * (1024 * 3 * 64 + 256 * 64 * 128 + 64 * 128 * 256 + 16 * 256 * 512)
"""Operations of four 4x4 convolutions of stride 2: output pixels times channels in times channels out."""

JOINT = 2 * 9 * 16 * (512 + 256) * 512
PICTURE = 2 * (9 * 16 * 8 * 512 + 16 * (16 * 512 * 256 + 64 * 256 * 128 + 256 * 128 * 64 + 1024 * 64 * 3))
PLAIN_PICTURE = 2 * 9 * (16 * 8 * 512 + 64 * 512 * 256 + 256 * 256 * 128 + 1024 * 128 * 64 + 4096 * 64 * 3)
"""Operations of the image generator with 3x3 convolutions of upsampled maps."""


def count(function, *shapes: list[int]) -> int:
    traced = tf.function(function, autograph=False)
    return executed(traced.get_concrete_function(*(tf.TensorSpec(shape, tf.float32) for shape in shapes)))


@pytest.fixture(scope="module")
def seed_parts():
    """Returns the costs of the networks' parts at the seed's widths."""
    return parts(StoryGANConfig())


@pytest.mark.parametrize(
    ("function", "shapes", "multiplications"),
    [
        (lambda a, b: a @ b, ([2, 3], [3, 5]), 2 * 3 * 5),
        (lambda a, b: tf.matmul(a, b, transpose_a=True), ([3, 2], [3, 5]), 2 * 3 * 5),
        (lambda a, b: tf.matmul(a, b, transpose_b=True), ([2, 3], [5, 3]), 2 * 3 * 5),
        (lambda a, b: a @ b, ([7, 2, 3], [7, 3, 5]), 7 * 2 * 3 * 5),
        (lambda a, b: tf.matmul(a, b, transpose_b=True), ([7, 2, 3], [7, 5, 3]), 7 * 2 * 3 * 5),
        (lambda a, b: tf.einsum("npk,nkc->npc", a, b), ([7, 2, 3], [7, 3, 5]), 7 * 2 * 3 * 5),
        (lambda a, b: tf.nn.conv2d(a, b, 1, "SAME"), ([2, 8, 8, 3], [3, 3, 3, 5]), 2 * 64 * 9 * 3 * 5),
        (lambda a, b: tf.nn.conv2d(a, b, 2, "SAME"), ([2, 8, 8, 3], [4, 4, 3, 5]), 2 * 16 * 16 * 3 * 5),
        (lambda a, b: tf.nn.conv2d(a, b, 1, "VALID"), ([2, 4, 4, 3], [4, 4, 3, 5]), 2 * 16 * 3 * 5),
        (
            lambda a, b: tf.nn.conv2d_transpose(a, b, [2, 8, 8, 5], 2, "SAME"),
            ([2, 4, 4, 3], [4, 4, 5, 3]),
            2 * 16 * 16 * 3 * 5,
        ),
    ],
)
def test_a_forward_pass_and_both_gradients_cost_the_same(function, shapes, multiplications):
    def gradient(number):
        def both(one, other):
            with tf.GradientTape() as tape:
                tape.watch([one, other])
                outputs = function(one, other)
            return tape.gradient(outputs, (one, other)[number])

        return both

    assert count(function, *shapes) == 2 * multiplications
    assert count(gradient(0), *shapes) == count(gradient(1), *shapes) == 2 * multiplications


def test_upsampling_as_a_transposed_convolution_costs_16_taps_a_pixel_instead_of_36():
    shapes = [2, 8, 8, 6], [3, 3, 6, 5]
    assert count(transposed, *shapes) == 2 * 2 * 64 * 16 * 6 * 5
    assert count(keras_upsampling, *shapes) == 2 * 2 * 64 * 36 * 6 * 5


def test_unused_operations_are_not_counted():
    def wasteful(one, other):
        _ = one @ other
        return one + 1.0

    assert count(wasteful, [4, 4], [4, 4]) == 0


def test_updates_of_weights_are_counted():
    weight = tf.Variable(tf.zeros([4, 4]))

    def update(one, other):
        weight.assign_add(one @ other)

    assert count(update, [4, 4], [4, 4]) == 2 * 64


def test_an_unknown_size_is_an_error():
    with pytest.raises(ValueError, match=r"found shape \(None, 5\), expected one with all sizes known"):
        count(lambda a, b: tf.nn.relu(a) @ b, [2, 3], [3, 5]) + count(lambda a, b: a @ b, [None, 5], [5, 5])


def test_multiplications_in_a_loop_are_an_error():
    def loop(one):
        return tf.while_loop(lambda value: tf.reduce_sum(value) < 9, lambda value: [value @ one], [one])[0]

    with pytest.raises(ValueError, match="found MatMul, expected multiplications outside of functions"):
        count(loop, [4, 4])


def test_a_multiplication_without_a_rule_is_an_error():
    with pytest.raises(ValueError, match="found Conv3D, expected multiplications"):
        count(lambda a, b: tf.nn.conv3d(a, b, [1] * 5, "SAME"), [1, 4, 4, 4, 2], [3, 3, 3, 2, 2])


def test_the_seeds_image_generator_by_hand(seed_parts):
    assert seed_parts["picture"].forward == PICTURE
    assert round(PICTURE / MEGA, 1) == 208.8
    assert round(PLAIN_PICTURE / MEGA, 1) == 468.3
    assert seed_parts["picture"].update == 3 * PICTURE


def test_the_seeds_image_discriminator_by_hand(seed_parts):
    """An update of its weights does not need the gradient of the frames, the input of the first convolution."""
    image = seed_parts["image_discriminator"]
    assert round(TRUNK / MEGA, 1) == 207.6
    score = 2 * 16 * 512
    assert image.forward == TRUNK + JOINT + score
    assert image.update == 3 * image.forward - 2 * 16 * 1024 * 3 * 64
    assert image.through == 2 * image.forward


def test_the_seeds_story_discriminator_by_hand(seed_parts):
    story = seed_parts["story_discriminator"]
    images, text, score = 4 * (TRUNK + 2 * 16 * 4 * 512 * 32), 2 * 512 * 512, 2 * 512
    assert story.forward == images + text + score
    assert story.update == 3 * story.forward - text - 4 * 2 * 16 * 1024 * 3 * 64
    assert story.through == 2 * (images + score) + text


def test_the_seeds_recurrent_part_by_hand(seed_parts):
    story_encoder = 512 * 128 + 2 * 128 * 128
    sentence = 228 * 128 + 2 * 3 * 128 * 128 + 2 * 3 * 128 * 128 - 3 * 128 * 128 + 3 * 128 * 128
    filters = 128 * 1024 + 8 * 64 * 16
    assert seed_parts["context"].forward == 2 * (story_encoder + 4 * (sentence + filters))


def test_a_joint_step_at_the_seeds_widths_needs_428_gflop():
    """A step that drew other frames for the discriminators than for the first generator update would need 445."""
    phase = PhaseConfig(schedule="joint", generator_steps=2)
    story, frames, singles = 24, 96, 24
    first, text = 2 * 16 * 1024 * 3 * 64, 2 * 512 * 512
    image, story_image = TRUNK + JOINT, TRUNK + 2 * 16 * 4 * 512 * 32
    discriminators = 2 * (singles * (3 * image - first) + frames * (3 * story_image - first) + story * 2 * text)
    generator = 2 * (3 * (frames + singles) * PICTURE + 2 * (singles * image + frames * story_image) + story * text)
    assert needed(StoryGANConfig(), phase) / 1e9 == pytest.approx((discriminators + generator) / 1e9, rel=0.003)
    assert needed(StoryGANConfig(), phase) / 1e9 == pytest.approx(428.1, abs=0.05)


@pytest.mark.parametrize(
    "phase",
    [
        PhaseConfig(schedule="joint", image_batch=2, story_batch=3, generator_steps=2),
        pytest.param(PhaseConfig(image_batch=2, image_frames="all", story_batch=3), marks=pytest.mark.slow),
        pytest.param(PhaseConfig(image_batch=2, story_batch=3, story_steps=2), marks=pytest.mark.slow),
        pytest.param(PhaseConfig(schedule="pixel", story_batch=5, l1_weight=1.0), marks=pytest.mark.slow),
    ],
    ids=lambda phase: phase.schedule,
)
def test_a_step_executes_what_it_needs_and_no_more(phase):
    assert executed_step(TINY, phase) == needed(TINY, phase)


def test_mismatched_pairs_and_labels_share_the_trunk():
    """Mismatched pairs and labels add the cost of their heads only, since the trunk's maps are reused."""
    phase = PhaseConfig(image_batch=2, story_steps=0, mismatched=True, label_weight=1.0)
    config = dataclasses.replace(TINY, labels=5)
    joint, score, label = 2 * 9 * 16 * (32 + 6 + 32) * 32, 2 * 16 * 32, 2 * 16 * 32 * 5
    assert executed_step(config, phase) - needed(config, phase) == 2 * 3 * (joint + score + label)


def executed_step(config: StoryGANConfig, phase: PhaseConfig) -> int:
    gan = StoryGAN(config)
    gan.compile(phase, steps=10)
    return step_executed(gan, training_dataset(random_stories(config), phase, (1, 0), 0, 1), phase)


def test_the_profiler_of_tensorflow_counts_the_same():
    """Compares all nodes, also unused ones; the profiler counts VALID convolutions differently, but there are none."""
    network = StoryDiscriminator(frames=3, width=8)
    specs = [tf.TensorSpec([2, 3, 64, 64, 3], tf.float32), tf.TensorSpec([2, 3, 128], tf.float32)]

    @tf.function(autograph=False)
    def gradients(stories, sentences):
        with tf.GradientTape() as tape:
            tape.watch(stories)
            logits = network(stories, sentences, training=True)
        return tape.gradient(logits, [stories, *network.trainable_variables])

    network(*(tf.zeros(spec.shape) for spec in specs))
    graph = gradients.get_concrete_function(*specs).graph
    ours: dict[str, int] = collections.Counter()
    for node in graph.get_operations():
        ours[node.type] += operations(node)
    assert profiled(graph) == {kind: total for kind, total in ours.items() if total}
    assert set(profiled(graph)) == {"Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter", "MatMul"}


def profiled(graph: tf.Graph) -> dict[str, int]:
    """Returns the operations that TensorFlow's profiler counts for multiplications, by type of node."""
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    found = tf.compat.v1.profiler.profile(graph, cmd="op", options=options.with_empty_output().build())
    counts = {}
    while found.children:
        found = found.children[0]
        counts[found.name] = found.float_ops
    return {name: total for name, total in counts.items() if "Conv2D" in name or "MatMul" in name}
