"""The moving statistics stand for the batch's: what is trained is what is served."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig
from storygan_tf.data.training_input import training_dataset
from storygan_tf.training.storygan import StoryGAN

STEPS = 150


def ssim(one: tf.Tensor, other: tf.Tensor) -> float:
    frames = [tf.reshape(images, [-1, 64, 64, 3]) for images in (one, other)]
    return float(tf.reduce_mean(tf.image.ssim(*frames, max_val=2.0)))


def test_training_and_inference_mode_draw_alike_after_a_short_training(config, stories):
    phase = PhaseConfig(
        schedule="pixel",
        story_batch=12,
        generator_learning_rate=1e-3,
        beta_1=0.9,
        l1_weight=20.0,
        kl_weight=0.05,
        decay="linear",
    )
    gan = StoryGAN(dataclasses.replace(config, generator_width=32))
    gan.compile(phase, steps=STEPS)
    gan.fit(training_dataset(stories, phase, (1, 0), 0, STEPS), steps_per_epoch=STEPS, verbose=0)
    vectors, seeds = tf.constant(stories.vectors), tf.range(24, dtype=tf.int64)
    trained, served = (gan.generator(vectors, training=training, seed=seeds).images for training in (True, False))
    # The pictures show squares, not two grey fields, so that the frames of two stories differ.
    assert np.std(served, axis=0).mean() > 0.01
    assert ssim(trained, served) >= 0.9
