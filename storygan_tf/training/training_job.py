"""A training that was asked for by `storygan train`, and where it stands.

OUT/
    serving_model/storygan/<version>/   the exported model
    history.json                        an entry an epoch
    settings.json                       what it was made with
    work/<key>/                         checkpoints, TensorBoard's curves: what a training goes on from
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from storygan_tf.common.model_paths import BASE_DIRECTORY, WORK_DIRECTORY, newest_version
from storygan_tf.config.schema import Settings
from storygan_tf.data.prepared_data import PreparedData
from storygan_tf.training.distribution import is_chief
from storygan_tf.training.train_and_export import read_completion, train_and_export
from storygan_tf.training.training_state import HISTORY
from storygan_tf.training.warm_start import InitialModel

_SETTINGS = ("preset", "model", "training", "data.encoder", "data.max_sentence_length")
"""Those that the result depends on."""


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """A training on prepared stories, into a folder.

    Attributes:
        out: the folder, shared between workers.
        settings: everything that was configured.
        prepared: the stories.
        initial: the model to start from; None for a fresh start.
    """

    out: Path
    settings: Settings
    prepared: PreparedData
    initial: InitialModel | None = None

    @functools.cached_property
    def work_dir(self) -> Path:
        """Named after everything that the result depends on; on which devices it is computed does not count."""
        training = dataclasses.replace(self.settings.training, strategy="auto")
        settings = dataclasses.replace(self.settings, training=training).to_json(*_SETTINGS)
        parts = [settings, self.prepared.fingerprint(), self.initial.fingerprint if self.initial else ""]
        return self.out / WORK_DIRECTORY / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @property
    def model(self) -> Path | None:
        """The version directory that it was exported to, None where it was not, or not yet."""
        name = read_completion(self.work_dir)
        version = self.out / BASE_DIRECTORY / name if name else None
        return version if version and (version / "saved_model.pb").is_file() else None

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.model is not None or (read_completion(self.work_dir) == "" and not self.prepared.can_export)

    def run(self, strategy: tf.distribute.Strategy, vectorizer: Callable[[], tf.Module] | None) -> None:
        """Trains, or goes on, and exports; see `train_and_export`."""
        train_and_export(
            self.settings,
            train_files=self.prepared.train,
            test_files=self.prepared.test,
            vectorizer=vectorizer,
            work_dir=self.work_dir,
            serving_dir=_new_version(self.out / BASE_DIRECTORY),
            label_names=self.prepared.labels,
            initial=self.initial,
            strategy=strategy,
        )
        if is_chief(strategy):
            shutil.copyfile(self.work_dir / HISTORY, self.out / HISTORY)


def _new_version(base: Path) -> Path:
    """Returns the place of a new version: named by the time, as those that the pipeline pushes, and always newer."""
    return base / str(max(int(time.time()), int(newest_version(str(base)) or 0) + 1))
