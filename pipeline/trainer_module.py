"""The Trainer's code: transformed records in, a trained StoryGAN and its export out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from pipeline.step_inputs import StepArguments
from pipeline.vectorizer_export import export_vectorizer
from storygan_tf.training.train_and_export import train_and_export
from storygan_tf.training.trainer import HISTORY, TENSORBOARD
from storygan_tf.training.warm_start import load_initial_model

VECTORIZER = "vectorizer"
"""In the working folder: the sentence vectors of the Transform graph, for the export."""


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports; called by TFX.

    Checkpoints stay in a folder of the working directory that is named after everything the result depends on: a step
    that was killed goes on there, and one that has other data, settings or code starts anew.

    Raises:
        ConfigError: for an unknown key in `custom_config`.
        StoryGANError: see `storygan_tf.training.train_and_export.train_and_export`.
    """
    arguments, settings = StepArguments.from_custom_config(fn_args.custom_config)
    train_files = _files(fn_args.train_files)
    work_dir = Path(arguments.work_dir or fn_args.model_run_dir) / _key(arguments, train_files)

    def vectorizer() -> tf.Module:
        export_vectorizer(fn_args.transform_output, work_dir / VECTORIZER, settings)
        return tf.saved_model.load(str(work_dir / VECTORIZER))

    train_and_export(
        settings,
        train_files=train_files,
        test_files=_files(fn_args.eval_files),
        vectorizer=vectorizer,
        work_dir=work_dir,
        serving_dir=fn_args.serving_model_dir,
        label_names=arguments.label_names,
        initial=load_initial_model(settings.training.init_from) if settings.training.init_from else None,
    )
    _keep_logs(work_dir, Path(fn_args.model_run_dir))


def _files(patterns: Sequence[str]) -> list[str]:
    # A worker that was killed within Transform leaves a folder of Beam's there.
    return sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern) if not tf.io.gfile.isdir(path))


def _key(arguments: StepArguments, files: Sequence[str]) -> str:
    """Returns a name made of everything that the trained weights depend on."""
    digest = hashlib.sha256(f"{arguments.settings}\n{arguments.code}\n{arguments.initial}\n".encode())
    for path in files:
        with tf.io.gfile.GFile(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()[:16]


def _keep_logs(work_dir: Path, model_run_dir: Path) -> None:
    """Copies what people look at into the `model_run` artifact."""
    shutil.copytree(work_dir / TENSORBOARD, model_run_dir / TENSORBOARD, dirs_exist_ok=True)
    shutil.copyfile(work_dir / HISTORY, model_run_dir / HISTORY)
