"""The Trainer's code: transformed records in, a trained StoryGAN and its export out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from pipeline.settings import StepArguments
from pipeline.vectorizer import export_vectorizer
from storygan_tf.config import IMAGE_SIZE, Settings
from storygan_tf.export import export_storygan
from storygan_tf.stories import Stories, read_stories
from storygan_tf.training import HISTORY, TENSORBOARD, Trainer

EXAMPLE_STORIES = 3
"""Test stories that the export offers to draw."""


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports; called by TFX.

    Checkpoints stay in a folder of the working directory that is named after everything the result depends on: a step
    that was killed goes on there, and one that has other data, settings or code starts anew.

    Raises:
        ConfigError: for an unknown key in `custom_config`.
        TrainingError: see `storygan_tf.training.Trainer.run`.
    """
    arguments, settings = StepArguments.from_custom_config(fn_args.custom_config)
    train_files, test_files = _files(fn_args.train_files), _files(fn_args.eval_files)
    train = read_stories(train_files, settings.model)
    boards = read_stories(test_files, settings.model, limit=max(EXAMPLE_STORIES, settings.training.storyboard_stories))
    root = Path(arguments.work_dir or fn_args.model_run_dir)
    work_dir = root / _key(arguments, train_files)
    gan = Trainer(settings, train, boards.first(settings.training.storyboard_stories), work_dir).run()
    export_vectorizer(fn_args.transform_output, work_dir / "vectorizer", settings)
    export_storygan(
        gan.generator,
        tf.saved_model.load(str(work_dir / "vectorizer")),
        describe(settings, boards, tft.TFTransformOutput(fn_args.transform_output)),
        fn_args.serving_model_dir,
        settings.data.max_sentence_length,
    )
    _keep_logs(work_dir, Path(fn_args.model_run_dir))


def describe(settings: Settings, boards: Stories, transform_output: tft.TFTransformOutput) -> dict[str, Any]:
    """Returns what the export says of itself through signature `info`."""
    words = [word.decode() for word in transform_output.vocabulary_by_name("words")]
    return {
        "frames": settings.model.frames,
        "image_size": IMAGE_SIZE,
        "preset": settings.preset,
        "encoder": settings.data.encoder,
        "training_seed": settings.training.seed,
        "examples": boards.sentences[:EXAMPLE_STORIES],
        "words": sorted(words),
    }


def _files(patterns: Sequence[str]) -> list[str]:
    return sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern))


def _key(arguments: StepArguments, files: Sequence[str]) -> str:
    """Returns a name made of everything that the trained weights depend on."""
    digest = hashlib.sha256(f"{arguments.settings}\n{arguments.code}\n".encode())
    for path in files:
        with tf.io.gfile.GFile(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()[:16]


def _keep_logs(work_dir: Path, model_run_dir: Path) -> None:
    """Copies what people look at into the `model_run` artifact."""
    shutil.copytree(work_dir / TENSORBOARD, model_run_dir / TENSORBOARD, dirs_exist_ok=True)
    shutil.copyfile(work_dir / HISTORY, model_run_dir / HISTORY)
