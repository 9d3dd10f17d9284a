"""Gradients and updates reach the weights that they must reach, and no others."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.data.training_input import training_dataset
from storygan_tf.models import losses
from storygan_tf.training import train_schedules
from storygan_tf.training.objectives import SingleFrames, StoryFrames
from storygan_tf.training.storygan import Batch, StoryGAN, to_float

BATCH = 6
PIXEL = PhaseConfig(schedule="pixel", story_batch=BATCH, l1_weight=1.0)


def adversarial(**settings: float) -> PhaseConfig:
    return PhaseConfig(image_batch=BATCH, story_batch=BATCH, **settings)


@pytest.fixture
def batch(stories) -> Batch:
    data = training_dataset(stories, adversarial(), (5, 0), 0, 1)
    return next(iter(data))["story"][0]


@pytest.fixture
def still(gan) -> StoryGAN:
    """Returns the model compiled with learning rates of 0, so that updates report losses and change nothing."""
    gan.compile(adversarial(generator_learning_rate=0.0, discriminator_learning_rate=0.0), steps=10)
    return gan


def unreached(gradients: list[tf.Tensor | None], variables: list[tf.Variable]) -> list[str]:
    pairs = zip(gradients, variables, strict=True)
    return [variable.name for gradient, variable in pairs if gradient is None or not np.any(gradient)]


# Gradients


def test_no_gradient_goes_back_through_the_image_discriminators_h0(gan):
    images, sentences, h0 = tf.random.normal([3, 64, 64, 3]), tf.random.normal([3, 6]), tf.random.normal([3, 32])
    with tf.GradientTape() as tape:
        tape.watch([images, sentences, h0])
        logits = gan.image_discriminator(images, sentences, h0, training=True)
    to_images, to_sentences, to_h0 = tape.gradient(logits, [images, sentences, h0])
    assert to_h0 is None
    assert np.any(to_images)
    assert np.any(to_sentences)


def test_logits_depend_on_h0_nevertheless(gan):
    images, sentences = tf.random.normal([3, 64, 64, 3]), tf.random.normal([3, 6])
    one, other = (gan.image_discriminator(images, sentences, h0) for h0 in (tf.zeros([3, 32]), tf.ones([3, 32])))
    assert np.all(np.abs(one - other) > 1e-6)


def test_the_story_encoder_learns_from_the_picture_alone(gan, batch):
    """Its gradient equals that with a constant as the discriminator's h0, and is not zero."""
    variables = gan.generator.story_encoder.trainable_variables

    def gradients(constant: bool) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            output = gan.generator(batch["vectors"], training=True, seed=batch["seed"])
            h0 = tf.constant(output.h0.numpy()) if constant else output.h0
            logits = gan.image_discriminator(output.images[:, 0], batch["vectors"][:, 0], h0, training=True)
            loss = losses.generator_loss(logits)
        return tape.gradient(loss, variables)

    through_h0, with_constant = gradients(False), gradients(True)
    assert not unreached(through_h0, variables)
    for one, other in zip(through_h0, with_constant, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_each_of_the_generators_losses_reaches_all_its_weights_and_kl_the_story_encoder_alone(gan, batch):
    variables = gan.generator.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        output = gan.generator(batch["vectors"], training=True, seed=batch["seed"])
        # The last frame depends on the recurrent matrices of the GRU and of Text2Gist.
        last = output.images[:, -1], batch["vectors"][:, -1], output.h0
        values = {
            "image": losses.generator_loss(gan.image_discriminator(*last, training=True)),
            "story": losses.generator_loss(gan.story_discriminator(output.images, batch["vectors"], training=True)),
            "pixel": losses.pixel_l1(output.images, to_float(batch["images"]), 1.0),
        }
        kl = losses.kl_divergence(output.mu, output.log_var)
    assert {name: unreached(tape.gradient(value, variables), variables) for name, value in values.items()} == {
        "image": [],
        "story": [],
        "pixel": [],
    }
    reached = {variable.name for variable in variables} - set(unreached(tape.gradient(kl, variables), variables))
    assert reached == {variable.name for variable in gan.generator.story_encoder.trainable_variables}


def test_a_discriminators_loss_reaches_all_its_weights(gan, batch):
    fake = gan.generator(batch["vectors"], training=True, seed=batch["seed"])
    real, vectors = to_float(batch["images"]), batch["vectors"]
    calls: dict[keras.Model, Callable] = {
        gan.image_discriminator: lambda images: gan.image_discriminator(
            images[:, 1], vectors[:, 1], fake.h0, training=True
        ),
        gan.story_discriminator: lambda images: gan.story_discriminator(images, vectors, training=True),
    }
    for network, call in calls.items():
        with tf.GradientTape() as tape:
            value = losses.discriminator_loss(call(real), call(fake.images))
        assert not unreached(tape.gradient(value, network.trainable_variables), network.trainable_variables)


# Updates


def snapshot(gan: StoryGAN) -> dict[str, list[np.ndarray]]:
    return {network.name: [variable.numpy() for variable in network.trainable_variables] for network in gan.networks}


def changed(before: dict[str, list[np.ndarray]], gan: StoryGAN) -> dict[str, float]:
    """Returns, for each network, the fraction of its trainable tensors that are not as they were."""
    after = snapshot(gan)
    return {
        name: float(np.mean([not np.array_equal(*pair) for pair in zip(before[name], after[name], strict=True)]))
        for name in before
    }


def test_an_image_discriminators_update_changes_it_alone(gan, batch):
    gan.compile(adversarial(), steps=10)
    before = snapshot(gan)
    fake = gan.generator(batch["vectors"], training=True, seed=batch["seed"])
    real, labels = to_float(batch["images"])[:, 0], batch["labels"][:, 0]
    train_schedules.update_image_discriminator(
        gan, SingleFrames(real, fake.images[:, 0], batch["vectors"][:, 0], fake.h0, labels)
    )
    assert changed(before, gan) == {"generator": 0, "image_discriminator": 1, "story_discriminator": 0}


def test_a_story_discriminators_update_changes_it_alone(gan, batch):
    gan.compile(adversarial(), steps=10)
    before = snapshot(gan)
    fake = gan.generator(batch["vectors"], training=True, seed=batch["seed"])
    train_schedules.update_story_discriminator(
        gan, StoryFrames(to_float(batch["images"]), fake.images, batch["vectors"])
    )
    assert changed(before, gan) == {"generator": 0, "image_discriminator": 0, "story_discriminator": 1}


@pytest.mark.parametrize("update", [train_schedules.image_update, train_schedules.story_update])
def test_a_generators_update_changes_it_alone(gan, batch, update):
    """The discriminators have a learning rate of 0, so that only the generator's own update changes weights."""
    gan.compile(adversarial(discriminator_learning_rate=0.0), steps=10)
    before = snapshot(gan)
    update(gan, batch)
    assert changed(before, gan) == {"generator": 1, "image_discriminator": 0, "story_discriminator": 0}


@pytest.mark.parametrize(
    ("update", "own"),
    [(train_schedules.image_update, "image_discriminator"), (train_schedules.story_update, "story_discriminator")],
)
def test_an_update_without_the_generators_changes_one_discriminator(gan, batch, update, own):
    gan.compile(adversarial(generator_learning_rate=0.0), steps=10)
    before = snapshot(gan)
    update(gan, batch)
    assert changed(before, gan) == {
        "generator": 0,
        "image_discriminator": float(own == "image_discriminator"),
        "story_discriminator": float(own == "story_discriminator"),
    }


def test_the_pixel_schedule_does_not_touch_the_discriminators(gan, batch):
    gan.compile(PIXEL, steps=10)
    before, statistics = snapshot(gan), [network.get_weights() for network in gan.networks[1:]]
    gan.train_step({"image": (), "story": (batch,)})
    assert changed(before, gan) == {"generator": 1, "image_discriminator": 0, "story_discriminator": 0}
    for network, weights in zip(gan.networks[1:], statistics, strict=True):
        for now, then in zip(network.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(("image_steps", "story_steps"), [(1, 1), (2, 3), (0, 1)])
def test_optimizers_have_slots_and_counts_of_their_own(gan, batch, image_steps, story_steps):
    gan.compile(adversarial(image_steps=image_steps, story_steps=story_steps), steps=10)
    gan.train_step({"image": (batch,) * image_steps, "story": (batch,) * story_steps})
    counts = [int(optimizer.iterations) for optimizer in gan.optimizers]
    assert counts == [image_steps + story_steps, image_steps, story_steps]
    slots = [{id(variable) for variable in optimizer.variables} for optimizer in gan.optimizers]
    assert not set.intersection(*slots)
    for optimizer, network in zip(gan.optimizers, gan.networks, strict=True):
        # Adam's two moments for each weight, and the count of updates.
        assert len(optimizer.variables) == 2 * len(network.trainable_variables) + 1


# The losses of Algorithm 1


def test_the_image_update_uses_the_selected_frame_of_each_story(still, config, batch):
    """Recomputes the loss story by story from picture, sentence and gist of frame t; it is T times the batch mean."""
    frames = batch["frame"].numpy()
    assert set(frames) == {0, 1}
    context = still.generator.encode(batch["vectors"], training=True, seed=batch["seed"])
    gists = tf.stack([context.gists[story, frame] for story, frame in enumerate(frames)])
    sentences = tf.stack([batch["vectors"][story, frame] for story, frame in enumerate(frames)])
    real = to_float(tf.stack([batch["images"][story, frame] for story, frame in enumerate(frames)]))
    fake = still.generator.image_generator(gists, training=True)
    real_logits, fake_logits = (
        still.image_discriminator(images, sentences, context.h0, training=True).numpy() for images in (real, fake)
    )
    train_schedules.image_update(still, batch)
    found = {name: float(still.trackers[name].result()) for name in ("image_discriminator", "image_generator")}
    expected = -np.log(sigmoid(real_logits)) - np.log(1 - sigmoid(fake_logits))
    assert found["image_discriminator"] == pytest.approx(config.frames * expected.mean(), rel=1e-4)
    assert found["image_generator"] == pytest.approx(config.frames * -np.log(sigmoid(fake_logits)).mean(), rel=1e-4)


def test_the_story_update_uses_whole_stories(still, batch):
    output = still.generator(batch["vectors"], training=True, seed=batch["seed"])
    real_logits, fake_logits = (
        still.story_discriminator(images, batch["vectors"], training=True).numpy()
        for images in (to_float(batch["images"]), output.images)
    )
    train_schedules.story_update(still, batch)
    found = {name: float(tracker.result()) for name, tracker in still.trackers.items()}
    expected = -np.log(sigmoid(real_logits)) - np.log(1 - sigmoid(fake_logits))
    assert found["story_discriminator"] == pytest.approx(expected.mean(), rel=1e-4)
    assert found["story_generator"] == pytest.approx(-np.log(sigmoid(fake_logits)).mean(), rel=1e-4)
    variance = np.exp(output.log_var)
    kl = 0.5 * (np.square(output.mu) + variance - np.log(variance) - 1).sum(axis=1).mean()
    assert found["kl"] == pytest.approx(kl, rel=1e-4)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def test_the_generator_faces_the_discriminator_that_was_just_updated(shared_gan, config, batch):
    phase = adversarial(discriminator_learning_rate=0.01)
    gan = shared_gan(config)
    gan.compile(phase, steps=10)
    train_schedules.story_update(gan, batch)
    found = float(gan.trackers["story_generator"].result())
    gan = shared_gan(config)
    gan.compile(phase, steps=10)
    output = gan.generator(batch["vectors"], training=True, seed=batch["seed"])
    stale = gan.story_discriminator(output.images, batch["vectors"], training=True)
    train_schedules.update_story_discriminator(
        gan, StoryFrames(to_float(batch["images"]), output.images, batch["vectors"])
    )
    fresh = gan.story_discriminator(output.images, batch["vectors"], training=True)
    assert found == pytest.approx(float(np.mean(losses.generator_loss(fresh))), rel=1e-4)
    assert found != pytest.approx(float(np.mean(losses.generator_loss(stale))), rel=1e-2)


@pytest.mark.parametrize("image_weight", [1.0, 3.0])
def test_weights_of_the_objective_scale_its_gradients(gan, batch, image_weight):
    """Adam's first moment after one update is (1 - beta_1) times the gradient."""
    gan.compile(adversarial(image_weight=image_weight, discriminator_learning_rate=0.0), steps=10)
    with tf.GradientTape() as tape:
        context = gan.generator.encode(batch["vectors"], training=True, seed=batch["seed"])
        gists = tf.gather(context.gists, batch["frame"], batch_dims=1)
        sentences = tf.gather(batch["vectors"], batch["frame"], batch_dims=1)
        fake = gan.generator.image_generator(gists, training=True)
        logits = gan.image_discriminator(fake, sentences, context.h0, training=True)
        loss = image_weight * 2 * tf.reduce_mean(tf.nn.softplus(-logits))
    kernel = gan.generator.image_generator.first.kernel
    expected = 0.5 * tape.gradient(loss, kernel)
    train_schedules.image_update(gan, batch)
    (moment,) = (slot for slot in gan.optimizers.generator.variables if slot.name.endswith("m/" + kernel.name))
    np.testing.assert_allclose(moment, expected, atol=1e-5)


@pytest.mark.parametrize("update", [train_schedules.image_update, train_schedules.story_update])
def test_there_is_no_other_term_in_an_updates_objective(gan, batch, update):
    """The loss is 0 if the adversarial term has weight 0; KL is part of the story update, where it has a weight."""
    gan.compile(
        adversarial(image_weight=0.0, story_weight=0.0, kl_weight=float(update is train_schedules.image_update)),
        steps=10,
    )
    update(gan, batch)
    assert not any(np.any(slot) for slot in gan.optimizers.generator.variables[1:])


def test_the_weighted_terms_of_the_story_update_add_up(gan, batch):
    """Moments of KL, of both pixel losses and of the adversarial term alone sum to those of all together."""
    weights = {"story_weight": 2.0, "kl_weight": 3.0, "l1_weight": 5.0, "l2_weight": 7.0}
    start = [network.get_weights() for network in gan.networks]

    def moments(**chosen: float) -> list[np.ndarray]:
        for network, values in zip(gan.networks, start, strict=True):
            network.set_weights(values)
        settings = dict.fromkeys(weights, 0.0) | chosen
        gan.compile(adversarial(discriminator_learning_rate=0.0, **settings), steps=10)
        train_schedules.story_update(gan, batch)
        return [slot.numpy() for slot in gan.optimizers.generator.variables if slot.name.startswith("m/")]

    together = moments(**weights)
    apart = [moments(**{name: value}) for name, value in weights.items()]
    for whole, *parts in zip(together, *apart, strict=True):
        np.testing.assert_allclose(whole, sum(parts), rtol=1e-3, atol=1e-3)
    assert any(np.any(part) for part in apart[1])
