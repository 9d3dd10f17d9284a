"""Trains a small StoryGAN for two epochs and prints its losses and devices as JSON: `python fit_program.py SETTING...`.

It is a program of its own because a process cannot change the settings of a GPU after it has used it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from storygan_tf.config import presets
from storygan_tf.data.stories import Stories
from storygan_tf.training.trainer import Trainer

SETTINGS = (
    "model.sentence_size=32",
    "model.generator_width=64",
    "model.discriminator_width=16",
    "training.strategy=one-device",
    "training.steps_per_epoch=6",
    "training.storyboard_stories=2",
    "training.phases.warm_up.epochs=1",
    "training.phases.adversarial.epochs=1",
    "training.phases.adversarial.schedule=joint",
)


def random_stories(count: int) -> Stories:
    random = np.random.default_rng(0)
    return Stories(
        ids=[f"s{number:02d}" for number in range(count)],
        sentences=[["A sentence."] * 4 for _ in range(count)],
        images=random.integers(0, 256, (count, 4, 64, 64, 3), dtype=np.uint8),
        vectors=random.normal(size=(count, 4, 32)).astype(np.float32),
        labels=np.zeros((count, 4, 0), np.uint8),
    )


def main(settings: Sequence[str]) -> None:
    stories = random_stories(24)
    with tempfile.TemporaryDirectory() as folder:
        chosen = presets.load("quick").override([*SETTINGS, *settings])
        trainer = Trainer(chosen, stories, stories.first(2), Path(folder))
        trainer.run()
    gpus = tf.config.list_physical_devices("GPU")
    found = {
        "devices": list(trainer.strategy.extended.worker_devices),
        "growth": [tf.config.experimental.get_memory_growth(gpu) for gpu in gpus],
        "compute": sorted(
            {layer.compute_dtype for layer in trainer.gan.submodules if isinstance(layer, keras.layers.Layer)}
        ),
        "weights": sorted({weight.dtype.name for weight in trainer.gan.trainable_weights}),
        "losses": [entry["losses"] for entry in trainer.state.history],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
