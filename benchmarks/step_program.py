"""The program that `train_step.py` times: it runs a training step of StoryGAN on request.

Any other program can follow the same protocol (`train_step.py --compare-cmd`): run some steps to warm up and print a
line `READY`. Then, for each line `step` on standard input, run one step and print a line that begins with `step`. End
at the end of the input. Between steps the program does nothing. Its other lines are ignored. This program prints
`step SECONDS input SECONDS`: the duration of the step, and how long of that it waited for its mini-batches.

    echo step | python benchmarks/step_program.py SETTINGS PHASE

SETTINGS is the JSON of `Settings.to_json`, PHASE the index of a phase. Stories are random, which costs no time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import keras
import numpy as np

from storygan_tf.config.schema import IMAGE_SIZE, Settings, StoryGANConfig
from storygan_tf.data.training_input import Stories, training_dataset
from storygan_tf.training.distribution import make_strategy, precision
from storygan_tf.training.step_function import make_step
from storygan_tf.training.storygan import StoryGAN

STORIES = 240
WARM_UP = 2
ENDLESS = 1_000_000
"""Number of steps for which learning rates are computed, more than any measurement runs."""

DRAWN = 500
"""Number of steps after which the mini-batches repeat."""


def random_stories(config: StoryGANConfig) -> Stories:
    """Returns stories of random numbers, with the model's sizes."""
    random = np.random.default_rng(1)
    frames = [STORIES, config.frames]
    return Stories(
        ids=[f"{number:03d}" for number in range(STORIES)],
        sentences=[[""] * config.frames] * STORIES,
        images=random.integers(0, 256, [*frames, IMAGE_SIZE, IMAGE_SIZE, 3], np.uint8),
        vectors=random.normal(size=[*frames, config.sentence_size]).astype(np.float32),
        labels=random.integers(0, 2, [*frames, config.labels], np.uint8),
    )


def make_program(settings: Settings, number: int) -> Callable[[], float]:
    """Returns a function that runs the next step of a phase and returns the seconds that it waited for its data."""
    training, phase = settings.training, settings.training.phases[number]
    stories = random_stories(settings.model)
    strategy = make_strategy(training.strategy)
    with strategy.scope(), precision(strategy, mixed=training.mixed_precision):
        keras.utils.set_random_seed(training.seed)
        gan = StoryGAN(settings.model)
        gan.compile(phase, steps=ENDLESS, background=stories.images[0, 0])
    replicas = strategy.num_replicas_in_sync
    data = training_dataset(stories, phase, (training.seed, number), 0, DRAWN, replicas=replicas).repeat()
    batches = iter(strategy.distribute_datasets_from_function(lambda _: data))
    train = make_step(gan, strategy, xla=training.xla)

    def step() -> float:
        began = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - began
        train(batch)
        gan.generator.trainable_variables[-1].numpy()  # waits for a GPU
        return waited

    return step


def serve(step: Callable[[], float]) -> None:
    """Follows the protocol until the input ends."""
    for _ in range(WARM_UP):
        step()
    print("READY", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        waited = step()
        print(f"step {time.perf_counter() - began:.6f} input {waited:.6f}", flush=True)


if __name__ == "__main__":
    serve(make_program(Settings.from_json(sys.argv[1]), int(sys.argv[2])))
