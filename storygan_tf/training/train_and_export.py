"""The whole training from records to export, as the pipeline and `storygan train` run it, on one worker or several."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.errors import StoryGANError, TrainingError
from storygan_tf.config.schema import Settings, StoryGANConfig
from storygan_tf.data.indexed_stories import IndexedStories, index_records
from storygan_tf.data.stories import Stories, read_stories
from storygan_tf.export.signatures import export_storygan, model_info
from storygan_tf.export.weight_io import assign_weights, weights_of
from storygan_tf.models.story_generator import StoryGenerator
from storygan_tf.text.tokenization import words
from storygan_tf.training.distribution import any_worker, is_chief, make_strategy, raise_worker_lost
from storygan_tf.training.trainer import Trainer
from storygan_tf.training.warm_start import InitialModel

EXAMPLE_STORIES = 3
"""Number of test stories whose sentences an export contains as examples."""

RECORDS = "records"
"""Name of the folder in a working directory that holds the training stories while the training runs."""

ENDED = "ended.json"
"""Name of the file in a working directory that marks a completed training and names its export."""


def train_and_export(
    settings: Settings,
    *,
    train_files: Sequence[str | Path],
    val_files: Sequence[str | Path],
    test_files: Sequence[str | Path],
    vectorizer: Callable[[], tf.Module] | None,
    work_dir: Path,
    serving_dir: str | Path,
    label_names: Sequence[str] = (),
    initial: InitialModel | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> None:
    """Trains a StoryGAN on records, or resumes its training, and exports its generator.

    With several workers, all of them call this with the same arguments. Only the chief writes; the others return after
    it has written. See `Trainer.run` for the handling of signals.

    Args:
        settings: `preset`, `model`, `training`, `data.encoder` and `data.max_sentence_length` are used.
        train_files: gzipped TFRecords of the training stories, as Transform writes them.
        val_files: gzipped TFRecords of the stories that the model is measured on after each epoch; may be empty.
        test_files: gzipped TFRecords of the test stories, some of which are drawn after each epoch.
        vectorizer: function that loads the vectorizer to include in the export: a SavedModel, strings [n] -> float32
            [n, sentence_size]. The chief calls it after the training. None for no export.
        work_dir: working directory for checkpoints, history and logs, shared by all workers. It must belong to these
            settings and records alone.
        serving_dir: the version directory to export to.
        label_names: names of the stories' labels, which the export reports.
        initial: the model to start from; None to start with random weights.
        strategy: by default the one that `training.strategy` names.

    Raises:
        ConfigError: if the settings contradict each other, the devices or the initial model.
        DataError: if the records cannot be used.
        ModelError: if the initial model cannot be used, or the export cannot be written.
        TrainingInterruptedError: after SIGTERM or SIGINT, once the training is saved.
        WorkerLostError: if another worker ended or does not answer.
        TrainingError: if `Trainer.run` raises it, or workers were given different settings or stories.
    """
    strategy = strategy or make_strategy(settings.training.strategy)
    ended = work_dir / ENDED
    with raise_worker_lost(strategy):
        indexed = _index(strategy, train_files, settings.model, work_dir / RECORDS)
        train = indexed.cached
        board_count = settings.training.storyboard_stories
        tests = read_stories(test_files, settings.model, limit=max(EXAMPLE_STORIES, board_count))
        _check_same(strategy, settings, indexed)
        if initial:
            initial.check(settings, label_names)
            initial.check_vectors(train)
        set_weights = initial.apply if initial else None
        boards = tests.first(board_count)
        validation = _read_validation(val_files, settings)
        trainer = Trainer(
            settings, train, boards, work_dir, initial=set_weights, validation=validation, strategy=strategy
        )
        gan = trainer.run()
        generator = undistributed(gan.drawn_generator)
        if is_chief(strategy):
            ended.unlink(missing_ok=True)
            if vectorizer:
                entry = initial.lineage_entry() if initial else None
                info = model_info(settings, tests.sentences[:EXAMPLE_STORIES], indexed.words, label_names, entry)
                export_storygan(generator, vectorizer(), info, serving_dir, settings.data.max_sentence_length)
            name = Path(serving_dir).name if vectorizer else ""
            write_atomically(ended, json.dumps({"export": name}).encode())
            shutil.rmtree(work_dir / RECORDS, ignore_errors=True)
        _wait_for_chief(strategy, ended)


def read_completion(work_dir: Path) -> str | None:
    """Returns the name of the version directory that a completed training was exported to.

    Args:
        work_dir: the working directory.

    Returns:
        The name; empty for a training without export, None for a training that is not completed.
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        return str(json.loads((work_dir / ENDED).read_text())["export"])
    return None


def undistributed(generator: StoryGenerator) -> StoryGenerator:
    """Returns a copy of a generator that computes in float32 and does not belong to a strategy.

    All workers must call it at the same point, because reading moving statistics takes all of them.
    """
    weights = weights_of(generator)
    copy = StoryGenerator(generator.config, name=generator.name)
    copy(tf.zeros([1, generator.config.frames, generator.config.sentence_size]))
    assign_weights(copy, weights, "the trained generator")
    return copy


def _read_validation(files: Sequence[str | Path], settings: Settings) -> Stories | None:
    """Returns the stories to measure the model on after each epoch; None if there are none."""
    limit = settings.training.validation_stories
    return read_stories(files, settings.model, limit=limit) if files and limit else None


def _index(
    strategy: tf.distribute.Strategy, files: Sequence[str | Path], config: StoryGANConfig, folder: Path
) -> IndexedStories:
    """Copies the training stories into a folder that all workers read. The chief copies, the others wait for it.

    Raises:
        DataError: if the records cannot be used, or the disk is full or not writable.
        TrainingError: on a worker, if the chief raised an error.
    """
    failure: StoryGANError | None = None
    if is_chief(strategy):
        try:
            index_records(files, config, folder, words)
        except StoryGANError as error:
            failure = error
    if any_worker(strategy, [failure is not None])[0]:
        raise failure or TrainingError("the first worker cannot read the training stories; see its error.")
    return IndexedStories.open(folder, config)


def _check_same(strategy: tf.distribute.Strategy, settings: Settings, stories: IndexedStories) -> None:
    """Waits for all workers and checks that they train on the same: otherwise they would wait for each other forever.

    Raises:
        TrainingError: if workers have different settings or stories.
    """
    digest = hashlib.sha256(settings.to_json("model", "training").encode())
    digest.update(stories.sha256.encode())
    bits = np.unpackbits(np.frombuffer(digest.digest()[:8], np.uint8)).astype(bool)
    set_anywhere, unset_anywhere = np.array(any_worker(strategy, [*bits, *~bits])).reshape(2, -1)
    if (set_anywhere & unset_anywhere).any():
        raise TrainingError(
            "workers were given different settings or stories, expected the same. Start all of them with the same "
            "command, on the same files."
        )


def _wait_for_chief(strategy: tf.distribute.Strategy, ended: Path) -> None:
    """Waits until the chief has written `ended`. An error of a worker that has ended already is ignored.

    Raises:
        tf.errors.OpError: on a worker, if the chief ended before it has written `ended`.
    """
    try:
        any_worker(strategy, [False])
    except tf.errors.OpError:
        if not is_chief(strategy) and not ended.exists():
            raise
