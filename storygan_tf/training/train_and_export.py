"""A training from records to export: the same in the pipeline and in `storygan train`, on one worker or many."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.errors import TrainingError
from storygan_tf.config.schema import Settings
from storygan_tf.data.training_input import Stories, read_stories
from storygan_tf.export.signatures import export_storygan, model_info
from storygan_tf.export.weight_io import assign_weights, weights_of
from storygan_tf.models.story_generator import StoryGenerator
from storygan_tf.text.tokenization import words
from storygan_tf.training.distribution import any_worker, is_chief, make_strategy, raise_worker_lost
from storygan_tf.training.trainer import Trainer
from storygan_tf.training.warm_start import InitialModel

EXAMPLE_STORIES = 3
"""Test stories that an export offers to draw."""

ENDED = "ended.json"
"""In a working folder: that training and export are done, and the name of the export's folder."""


def train_and_export(
    settings: Settings,
    *,
    train_files: Sequence[str | Path],
    test_files: Sequence[str | Path],
    vectorizer: Callable[[], tf.Module] | None,
    work_dir: Path,
    serving_dir: str | Path,
    label_names: Sequence[str] = (),
    initial: InitialModel | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Trains a StoryGAN on records, or goes on with it, and exports its generator.

    With several workers all of them call this with the same arguments; the chief alone writes, and the others return
    when it has. Signals are handled while it trains: see `Trainer.run`.

    Args:
        settings: `preset`, `model`, `training`, `data.encoder` and `data.max_sentence_length` are used.
        train_files: gzipped TFRecords of the training stories, as Transform writes them.
        test_files: of the test stories, which are drawn now and then.
        vectorizer: called once the training has ended, by the chief alone; gives what the export takes along to make
            vectors of sentences: a loaded SavedModel, strings [n] -> float32 [n, sentence_size]. None exports nothing.
        work_dir: for what the training resumes from, its history and logs; a folder for these settings and records
            alone, shared between workers.
        serving_dir: the version directory to export to.
        label_names: names of the stories' labels, for the export to tell.
        initial: the model to start from; None for a fresh start.
        strategy: by default what `training.strategy` names.

    Raises:
        ConfigError: for settings that do not fit together, the devices or the initial model.
        DataError: for records that cannot be used.
        ModelError: where the initial model cannot be used, or the export cannot be written.
        TrainingInterruptedError: after SIGTERM or SIGINT, once the training is saved.
        WorkerLostError: where another worker is gone.
        TrainingError: see `Trainer.run`; and where workers were not given the same.
    """
    strategy = strategy or make_strategy(settings.training.strategy)
    ended = work_dir / ENDED
    with raise_worker_lost(strategy):
        train = read_stories(train_files, settings.model)
        shown = settings.training.storyboard_stories
        tests = read_stories(test_files, settings.model, limit=max(EXAMPLE_STORIES, shown))
        _check_same(strategy, settings, train)
        if initial:
            initial.check(settings, label_names)
            initial.check_vectors(train)
        first = initial.apply if initial else None
        gan = Trainer(settings, train, tests.first(shown), work_dir, initial=first, strategy=strategy).run()
        generator = undistributed(gan.drawn_generator)
        if is_chief(strategy):
            ended.unlink(missing_ok=True)
            if vectorizer:
                told = initial.lineage_entry() if initial else None
                info = model_info(settings, tests.sentences[:EXAMPLE_STORIES], known_words(train), label_names, told)
                export_storygan(generator, vectorizer(), info, serving_dir, settings.data.max_sentence_length)
            name = Path(serving_dir).name if vectorizer else ""
            write_atomically(ended, json.dumps({"export": name}).encode())
        _wait_for_chief(strategy, ended)


def read_completion(work_dir: Path) -> str | None:
    """Returns the name of the folder that a training was exported to, empty where to none; None before it has ended."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return str(json.loads((work_dir / ENDED).read_text())["export"])
    return None


def known_words(stories: Stories) -> list[str]:
    """Returns the words of the stories' sentences, sorted."""
    return sorted({word for story in stories.sentences for sentence in story for word in words(sentence)})


def undistributed(generator: StoryGenerator) -> StoryGenerator:
    """Returns a generator of the same weights that computes in float32 and belongs to no strategy.

    All workers must call it together: reading statistics takes all of them.
    """
    weights = weights_of(generator)
    copy = StoryGenerator(generator.config, name=generator.name)
    copy(tf.zeros([1, generator.config.frames, generator.config.sentence_size]))
    assign_weights(copy, weights, "the trained generator")
    return copy


def _check_same(strategy: tf.distribute.Strategy, settings: Settings, stories: Stories) -> None:
    """Waits for all workers, and makes sure that they train the same: else they would wait for each other forever."""
    digest = hashlib.sha256(settings.to_json("model", "training").encode())
    digest.update("\n".join(stories.ids).encode())
    digest.update(stories.vectors.tobytes())
    ones = np.unpackbits(np.frombuffer(digest.digest()[:8], np.uint8)).astype(bool)
    seen = np.array(any_worker(strategy, [*ones, *~ones])).reshape(2, -1)
    if seen.all(axis=0).any():
        raise TrainingError(
            "workers were given different settings or stories, expected the same. Start all of them with the same "
            "command, on the same files."
        )


def _wait_for_chief(strategy: tf.distribute.Strategy, ended: Path) -> None:
    """Returns when the chief has exported, whoever ends first; the chief does not depend on the others any more."""
    try:
        any_worker(strategy, [False])
    except tf.errors.OpError:
        if not is_chief(strategy) and not ended.exists():
            raise
