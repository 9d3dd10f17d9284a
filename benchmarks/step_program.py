"""The program that `train_step.py` times: it runs a training step of StoryGAN on request.

Any other program can follow the same protocol (`train_step.py --compare-cmd`): run some steps to warm up and print a
line `READY`. Then, for each line `step` on standard input, run one step and print a line that begins with `step`. End
at the end of the input. Between steps the program does nothing. Its other lines are ignored. This program prints
`step SECONDS`, the duration of the step.

    echo step | python benchmarks/step_program.py SETTINGS PHASE

SETTINGS is the JSON of `Settings.to_json`, PHASE the index of a phase. Stories are random, which costs no time.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from storygan_tf.config.schema import IMAGE_SIZE, Settings, StoryGANConfig
from storygan_tf.data.stories import Stories
from storygan_tf.data.training_input import training_dataset
from storygan_tf.training.distribution import make_strategy, precision
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


class _InputEndedError(Exception):
    """Ends `fit` when there is no further request."""


class StepOnRequest(keras.callbacks.Callback):
    """Makes `fit` follow the protocol.

    Args:
        requests: lines, each of which requests a step.
    """

    def __init__(self, requests: Iterable[str]) -> None:
        super().__init__()
        self._requests = iter(requests)
        self._began = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Waits for a request, except before the steps that warm up."""
        if batch == WARM_UP:
            print("READY", flush=True)
        if batch >= WARM_UP and next(self._requests, None) is None:
            raise _InputEndedError
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Prints the duration of a requested step."""
        self.model.generator.trainable_variables[-1].numpy()  # waits for a GPU
        if batch >= WARM_UP:
            print(f"step {time.perf_counter() - self._began:.6f}", flush=True)


def serve(settings: Settings, number: int, requests: Iterable[str]) -> None:
    """Trains by a phase, one step for each request, until there is no further request.

    Args:
        settings: `model` and `training` are used.
        number: index of the phase.
        requests: lines, each of which requests a step.
    """
    training, phase = settings.training, settings.training.phases[number]
    stories = random_stories(settings.model)
    strategy = make_strategy(training.strategy)
    with strategy.scope(), precision(strategy, mixed=training.mixed_precision):
        keras.utils.set_random_seed(training.seed)
        gan = StoryGAN(settings.model)
        gan.compile(phase, steps=ENDLESS, background=stories.images[0, 0], jit_compile=training.xla)
    replicas = strategy.num_replicas_in_sync
    data = training_dataset(stories, phase, (training.seed, number), 0, DRAWN, replicas=replicas).repeat()
    distributed = strategy.distribute_datasets_from_function(lambda _: data)
    with contextlib.suppress(_InputEndedError):
        gan.fit(distributed, steps_per_epoch=ENDLESS, verbose=0, callbacks=[StepOnRequest(requests)])


if __name__ == "__main__":
    serve(Settings.from_json(sys.argv[1]), int(sys.argv[2]), sys.stdin)
