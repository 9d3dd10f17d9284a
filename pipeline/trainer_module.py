"""The module file of the Trainer step: trains a StoryGAN on transformed records and exports it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from pipeline.step_inputs import StepArguments
from pipeline.vectorizer_export import export_vectorizer
from storygan_tf.data.prepared_data import VAL, VECTORIZER
from storygan_tf.training.train_and_export import train_and_export
from storygan_tf.training.trainer import HISTORY, TENSORBOARD
from storygan_tf.training.warm_start import load_initial_model


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports a StoryGAN. TFX calls this function.

    Checkpoints are kept in a folder of the working directory, whose name is a fingerprint of the data, the settings and
    the code. A step that was killed resumes from them; a step with other data, settings or code starts from the
    beginning.

    Args:
        fn_args: arguments of TFX's Trainer; `custom_config` is `StepArguments` as a dictionary.

    Raises:
        ConfigError: if `custom_config` has an unknown key.
        StoryGANError: as `storygan_tf.training.train_and_export.train_and_export`.
    """
    arguments, settings = StepArguments.from_custom_config(fn_args.custom_config)
    train_files = _files(fn_args.train_files)
    # TFX gives the files of two splits only.
    val_files = _files([str(Path(pattern).parents[1] / VAL / "*") for pattern in fn_args.train_files])
    work_dir = Path(arguments.work_dir or fn_args.model_run_dir) / _key(arguments, [*train_files, *val_files])

    def vectorizer() -> tf.Module:
        export_vectorizer(fn_args.transform_output, work_dir / VECTORIZER, settings)
        return tf.saved_model.load(str(work_dir / VECTORIZER))

    train_and_export(
        settings,
        train_files=train_files,
        val_files=val_files,
        test_files=_files(fn_args.eval_files),
        vectorizer=vectorizer,
        work_dir=work_dir,
        serving_dir=fn_args.serving_model_dir,
        label_names=arguments.label_names,
        initial=load_initial_model(settings.training.init_from) if settings.training.init_from else None,
    )
    _keep_logs(work_dir, Path(fn_args.model_run_dir))


def _files(patterns: Sequence[str]) -> list[str]:
    # If a worker is killed within Transform, Beam leaves a temporary folder among the files.
    return sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern) if not tf.io.gfile.isdir(path))


def _key(arguments: StepArguments, files: Sequence[str]) -> str:
    """Returns 16 hexadecimal digits that depend on everything that the trained weights depend on."""
    digest = hashlib.sha256(f"{arguments.settings}\n{arguments.code}\n{arguments.initial}\n".encode())
    for path in files:
        with tf.io.gfile.GFile(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()[:16]


def _keep_logs(work_dir: Path, model_run_dir: Path) -> None:
    """Copies the training history and TensorBoard's logs into the `model_run` artifact."""
    shutil.copytree(work_dir / TENSORBOARD, model_run_dir / TENSORBOARD, dirs_exist_ok=True)
    shutil.copyfile(work_dir / HISTORY, model_run_dir / HISTORY)
