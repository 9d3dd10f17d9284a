"""Trains on one replica and on two and writes the results: `python replicas_program.py OUT INPUTS`.

A program of its own, because logical devices must be configured before TensorFlow starts.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from storygan_tf.config.schema import PhaseConfig, StoryGANConfig
from storygan_tf.data.stories import Stories
from storygan_tf.data.training_input import training_dataset
from storygan_tf.training.storygan import StoryGAN

STILL = 1e-9
"""A learning rate at which a step of Adam, whose size does not depend on that of the gradient, changes nothing."""


def train(model: StoryGANConfig, phase: PhaseConfig, stories: Stories, replicas: int) -> dict[str, Any]:
    """Trains a step that does not change the weights, then two normal ones, and returns the results.

    All steps run the same compiled function.
    """
    if replicas == 1:
        strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    else:
        strategy = tf.distribute.MirroredStrategy([f"/cpu:{number}" for number in range(replicas)])
    with strategy.scope():
        keras.utils.set_random_seed(7)
        gan = StoryGAN(model)
        gan.compile(phase, steps=10)
        pictures = draw(gan, stories, strategy)

    def fit(start: int, steps: int, rate: float) -> dict[str, float]:
        for optimizer in gan.optimizers:
            optimizer.learning_rate = rate
        data = training_dataset(stories, phase, (1, 0), start, steps, replicas=replicas)
        if replicas > 1:
            data = strategy.distribute_datasets_from_function(lambda _: data)
        history = gan.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False).history
        return {name: values[0] for name, values in history.items()}

    losses = [fit(0, 1, STILL)]
    moments = [variable.numpy() for optimizer in gan.optimizers for variable in optimizer.variables]
    losses.append(fit(1, 2, phase.generator_learning_rate))
    return {
        "pictures": pictures,
        "losses": losses,
        "moments": moments[1:],
        "weights": [weight.numpy() for weight in gan.trainable_weights],
        "statistics": [weight.numpy() for weight in gan.non_trainable_weights if "moving_" in weight.name],
        "synchronized": {
            layer.synchronized for layer in gan.submodules if isinstance(layer, keras.layers.BatchNormalization)
        },
    }


def draw(gan: StoryGAN, stories: Stories, strategy: tf.distribute.Strategy) -> np.ndarray:
    """Returns the pictures of eight stories, of which each replica draws its part."""
    part = 8 // strategy.num_replicas_in_sync

    def draw_part(vectors: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return gan.generator(vectors, training=False, seed=seed).images

    def parts_of(values: tf.Tensor) -> Any:
        return strategy.experimental_distribute_values_from_function(
            lambda context: values[context.replica_id_in_sync_group * part :][:part]
        )

    arguments = [parts_of(tf.constant(stories.vectors[:8])), parts_of(tf.range(8, dtype=tf.int64))]
    drawn = strategy.run(tf.function(draw_part), arguments)
    return np.concatenate([value.numpy() for value in strategy.experimental_local_results(drawn)])


def main(out: Path, inputs: Path) -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    model, phase, stories = pickle.loads(inputs.read_bytes())
    out.write_bytes(pickle.dumps([train(model, phase, stories, replicas) for replicas in (1, 2)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
