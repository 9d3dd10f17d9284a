"""The schedule `joint`: which networks are updated, in which order, on which losses, with how many passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.data.batch_types import to_float
from storygan_tf.data.training_input import training_dataset
from storygan_tf.models import losses
from storygan_tf.training.storygan import Batch, StoryGAN

Data = dict[str, tuple[Batch, ...]]


def joint(**settings) -> PhaseConfig:
    return PhaseConfig(schedule="joint", image_batch=6, story_batch=4, **settings)


@pytest.fixture
def data(labelled) -> Data:
    return next(iter(training_dataset(labelled, joint(), (5, 0), 0, 1)))


@pytest.fixture
def fresh_gan(shared_gan, labelling) -> Callable[[], StoryGAN]:
    """Returns a function that gives the model with its initial weights, always the same object."""
    return lambda: shared_gan(labelling)


@pytest.fixture
def gan(fresh_gan) -> StoryGAN:
    return fresh_gan()


@pytest.fixture(scope="module")
def without_option() -> dict[Any, Any]:
    """Caches the weights after a step without any option."""
    return {}


def moments(gan: StoryGAN) -> list[np.ndarray]:
    return [slot.numpy() for slot in gan.optimizers.generator.variables if slot.name.startswith("m/")]


def reported(gan: StoryGAN) -> dict[str, float]:
    return {name: float(tracker.result()) for name, tracker in gan.trackers.items()}


@pytest.mark.parametrize("steps", [1, 3])
def test_each_discriminator_is_updated_once_and_the_generator_as_often_as_wanted(gan, data, steps):
    gan.compile(joint(generator_steps=steps), steps=10)
    gan.train_step(data)
    assert [int(optimizer.iterations) for optimizer in gan.optimizers] == [steps, 1, 1]


@pytest.mark.parametrize("image_frames", ["one", "all"])
def test_the_losses_by_hand(gan, config, data, image_frames):
    """Recomputes them from one pass of the generator over both mini-batches; the image term is T times the mean."""
    still = {"generator_learning_rate": 0.0, "discriminator_learning_rate": 0.0}
    gan.compile(joint(image_frames=image_frames, **still), steps=10)
    image, story = data["image"][0], data["story"][0]
    chosen = [(row, frame) for row in range(6) for frame in range(config.frames)]
    if image_frames == "one":
        chosen = list(enumerate(image["frame"]))
    count = len(chosen)
    context = gan.generator.encode(
        tf.concat([image["vectors"], story["vectors"]], 0), True, seed=tf.concat([image["seed"], story["seed"]], 0)
    )
    gists = [context.gists[row, frame] for row, frame in chosen]
    gists += [context.gists[6 + row, frame] for row in range(4) for frame in range(config.frames)]
    drawn = gan.generator.image_generator(tf.stack(gists), training=True)
    single, whole = drawn[:count], tf.reshape(drawn[count:], [4, config.frames, 64, 64, 3])
    sentences = tf.stack([image["vectors"][row, frame] for row, frame in chosen])
    real = to_float(tf.stack([image["images"][row, frame] for row, frame in chosen]))
    h0 = tf.stack([context.h0[row] for row, _ in chosen])
    image_logits = [gan.image_discriminator(each, sentences, h0, training=True) for each in (real, single)]
    stories = (to_float(story["images"]), whole)
    story_logits = [gan.story_discriminator(each, story["vectors"], training=True) for each in stories]
    gan.train_step(data)
    expected = {
        "image_discriminator": config.frames * np.mean(losses.discriminator_loss(*image_logits)),
        "image_generator": config.frames * np.mean(losses.generator_loss(image_logits[1])),
        "image_accuracy": np.mean(losses.accuracy(*image_logits)),
        "story_discriminator": np.mean(losses.discriminator_loss(*story_logits)),
        "story_generator": np.mean(losses.generator_loss(story_logits[1])),
        "story_accuracy": np.mean(losses.accuracy(*story_logits)),
        "kl": np.mean(losses.kl_divergence(context.mu[6:], context.log_var[6:])),
        "l1": np.mean(np.abs(whole - stories[0])),
        "l2": np.mean(np.square(whole - stories[0])),
    }
    assert reported(gan) == pytest.approx(expected, rel=1e-4)


def test_the_generator_is_updated_on_all_terms_together(fresh_gan, data):
    """Adam's first moments after one update are the sum of those of the image, the story and the pixel terms."""
    parts = {
        "image": {"image_weight": 2.0, "generator_label_weight": 0.5, "feature_matching_weight": 3.0},
        "story": {"story_weight": 3.0},
        "pictures": {"kl_weight": 2.0, "l1_weight": 5.0},
    }
    none = {"image_weight": 0.0, "story_weight": 0.0, "kl_weight": 0.0}

    def update(**weights: float) -> list[np.ndarray]:
        gan = fresh_gan()
        gan.compile(joint(discriminator_learning_rate=0.0, label_weight=1.0, **(none | weights)), steps=10)
        gan.train_step(data)
        return moments(gan)

    together = update(**{name: weight for part in parts.values() for name, weight in part.items()})
    apart = [update(**part) for part in parts.values()]
    for whole, *each in zip(together, *apart, strict=True):
        np.testing.assert_allclose(whole, sum(each), rtol=1e-3, atol=1e-3)
    assert all(any(np.any(moment) for moment in part) for part in apart)


def test_the_generator_faces_the_discriminators_that_were_just_updated(fresh_gan, data):
    losses_of = []
    for rate in (0.0, 0.01):
        gan = fresh_gan()
        gan.compile(joint(discriminator_learning_rate=rate), steps=10)
        gan.train_step(data)
        losses_of.append(reported(gan))
    before, after = losses_of
    for name in ("image_discriminator", "story_discriminator", "image_accuracy", "l1"):
        assert after[name] == pytest.approx(before[name], rel=1e-6)
    for name in ("image_generator", "story_generator"):
        assert after[name] != pytest.approx(before[name], rel=1e-3)


def test_the_second_update_draws_anew_with_other_noise(gan, data):
    """Without an update of the generator the second pass has the same KL and other pictures."""
    found = []
    for steps in (1, 2):
        gan.compile(
            joint(generator_steps=steps, generator_learning_rate=0.0, discriminator_learning_rate=0.0), steps=10
        )
        gan.train_step(data)
        found.append(reported(gan))
    assert found[1]["kl"] == pytest.approx(found[0]["kl"], rel=1e-6)
    assert found[1]["l1"] != pytest.approx(found[0]["l1"], rel=1e-6)
    assert found[1]["l1"] == pytest.approx(found[0]["l1"], rel=0.2)


def executed(graph: tf.Graph) -> list[tf.Operation]:
    """Returns the operations that lead to a result or a side effect: the others are cut out before a graph runs."""
    wanted, found = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs), set()
    while wanted:
        operation = wanted.pop()
        if operation not in found:
            found.add(operation)
            wanted += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return list(found)


def passes(gan: StoryGAN, data: Data) -> dict[str, int]:
    """Counts the convolutions of a step that read or write frames. A transposed one is a `Conv2DBackpropInput`."""
    operations = executed(tf.function(gan.train_step).get_concrete_function(data).graph)
    reading = [op for op in operations if op.type == "Conv2D" and op.inputs[0].shape[1:] == [64, 64, 3]]
    writing = [op for op in operations if op.type == "Conv2DBackpropInput" and op.outputs[0].shape[1:] == [64, 64, 3]]
    return {
        "of a trunk": sum("gradient_tape" not in op.name for op in reading),
        "back through a trunk": sum("gradient_tape" in op.name for op in writing),
        "of the generator": sum("gradient_tape" not in op.name for op in writing),
        "back through the generator": sum("gradient_tape" in op.name for op in reading),
    }


@pytest.mark.slow
def test_every_frame_passes_a_network_as_often_as_it_must_and_no_more(gan, data):
    """Each trunk is passed twice in the discriminators' update and once in each update of the generator."""
    gan.compile(joint(generator_steps=2), steps=10)
    assert passes(gan, data) == {
        "of a trunk": 2 * (2 + 2),
        "back through a trunk": 2 * 2,
        "of the generator": 2,
        "back through the generator": 2,
    }


@pytest.mark.slow
def test_options_add_one_pass_of_the_true_frames_at_the_most(gan, data, every_option):
    """Mismatched pairs and labels share the trunk; feature matching needs the features of real frames once."""
    gan.compile(joint(**every_option), steps=10)
    assert passes(gan, data) == {
        "of a trunk": 2 * (2 + 1) + 1,
        "back through a trunk": 2 * 1,
        "of the generator": 1,
        "back through the generator": 1,
    }


def test_a_step_reaches_all_weights_of_all_networks(gan, data, every_option):
    gan.compile(joint(**every_option), steps=10)
    before = [[value.copy() for value in network.get_weights()] for network in gan.networks]
    gan.train_step(data)
    for network, values in zip(gan.networks, before, strict=True):
        for variable, then in zip(network.weights, values, strict=True):
            assert not np.array_equal(variable, then), variable.name


# Options, one at a time


NETWORKS = ("generator", "image_discriminator", "story_discriminator", "averaged")
STILL = {"generator_learning_rate": 0.0}


@pytest.mark.parametrize("schedule", ["joint", pytest.param("algorithm1", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ({"mismatched": True}, {"image_discriminator"}),
        ({"label_weight": 1.0}, {"image_discriminator"}),
        ({"generator_label_weight": 1.0}, {"generator"}),
        ({"feature_matching_weight": 1.0}, {"generator"}),
        ({"average": 0.9}, {"averaged"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_changes_what_it_should_and_nothing_else(fresh_gan, without_option, data, schedule, option, changes):
    """Compares all trained weights after a step; for an option of a discriminator the generator is not updated.

    In Algorithm 1 the story update follows the image update of the generator, so that the story discriminator changes
    with the generator.
    """
    if schedule == "algorithm1" and "generator" in changes:
        changes = changes | {"story_discriminator"}
    still = {} if changes & {"generator", "averaged"} else STILL

    def weights_after_a_step(**options: Any) -> dict[str, list[np.ndarray]]:
        gan = fresh_gan()
        gan.compile(dataclasses.replace(joint(**still, **options), schedule=schedule), steps=10)
        gan.train_step(data)
        return {name: [value.numpy() for value in _trained(gan, name)] for name in NETWORKS}

    key = schedule, bool(still)
    if key not in without_option:
        without_option[key] = weights_after_a_step()
    before, after = without_option[key], weights_after_a_step(**option)
    changed = {
        name
        for name in NETWORKS
        if not all(np.array_equal(one, other) for one, other in zip(before[name], after[name], strict=True))
    }
    assert changed == changes


def _trained(gan: StoryGAN, name: str) -> list[tf.Variable]:
    network = getattr(gan, name)
    return network.trainable_variables or [value for value in network.variables if "moving_" not in value.name]
