"""Trains a tiny StoryGAN in a working folder: `python training_program.py WORK_DIR OUT`.

Tests kill this program. The training has two phases and one bad story, so that it also rolls back once. At the end it
writes all trained arrays to the file OUT.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from storygan_tf.common.errors import StoryGANError
from storygan_tf.config.schema import PhaseConfig, Settings, StoryGANConfig, TrainConfig
from storygan_tf.data.stories import Stories
from storygan_tf.data.training_input import StreamSeeds, shuffled_indices
from storygan_tf.training.trainer import Trainer

SAVE_SECONDS = 0.1
"""Seconds between checkpoints; so few that this short training also saves within epochs."""

MODEL = StoryGANConfig(
    frames=2,
    sentence_size=6,
    noise_size=3,
    context_size=16,
    filter_count=4,
    filter_length=12,
    generator_width=16,
    discriminator_width=4,
)
PHASES = (
    PhaseConfig("warm_up", epochs=4, schedule="pixel", story_batch=8, l1_weight=1.0, decay="linear", average=0.9),
    PhaseConfig("adversarial", epochs=4, schedule="joint", image_batch=8, story_batch=8, l1_weight=1.0, average=0.9),
)
SETTINGS = Settings(model=MODEL, training=TrainConfig(steps_per_epoch=32, phases=PHASES, rollbacks=9))
STORIES = 1600
BAD_STEP = 40


def make_stories() -> Stories:
    """Returns random stories, one of which has NaN vectors and is in a batch of the second epoch."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, [STORIES, 2, 64, 64, 3], dtype=np.uint8)
    vectors = random.normal(size=[STORIES, 2, 6]).astype(np.float32)
    seeds = StreamSeeds.of([SETTINGS.training.seed, 0], "story")
    position = tf.constant([BAD_STEP * PHASES[0].story_batch], tf.int64)
    vectors[int(shuffled_indices(position, STORIES, seeds.order)[0])] = np.nan
    labels = np.zeros([STORIES, 2, 0], np.uint8)
    return Stories([f"s{number:04d}" for number in range(STORIES)], [["a", "b"]] * STORIES, images, vectors, labels)


def main(work_dir: Path, out: Path) -> None:
    stories = make_stories()
    gan = Trainer(
        SETTINGS, stories, stories.first(3), work_dir, validation=stories.first(11), save_seconds=SAVE_SECONDS
    ).run()
    slots = [variable for optimizer in gan.optimizers for variable in optimizer.variables]
    np.savez(out, *[variable.numpy() for variable in (*gan.weights, *slots)])


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except StoryGANError as error:
        sys.exit(f"error: {error}")
