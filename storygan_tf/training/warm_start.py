"""Starts a training from an exported model: its weights, its sentence encoder and PCA, and its discriminators.

An export holds the generator and the vectorizer. Discriminators are only in the checkpoints of the run that trained the
model. The run's newest checkpoint is used if it holds the weights of the exported generator.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from storygan_tf.common.compat import checkpoint_values
from storygan_tf.common.errors import ConfigError, DataError, ModelError
from storygan_tf.common.model_paths import ASSETS_EXTRA, WORK_DIRECTORY, find_model, run_directory_of
from storygan_tf.config.parsing import from_dict
from storygan_tf.config.schema import Settings, StoryGANConfig
from storygan_tf.data.stories import StorySource
from storygan_tf.export.lineage import model_fingerprint
from storygan_tf.export.signatures import INFO_FILE
from storygan_tf.export.weight_io import assign_weights, read_weights
from storygan_tf.text.exported_vectorizer import INIT_FROM, load_vectorizer
from storygan_tf.text.sentence_encoder import SentenceEncoder
from storygan_tf.training.checkpoints import CheckpointStore
from storygan_tf.training.storygan import StoryGAN
from storygan_tf.training.trainer import CHECKPOINTS

DISCRIMINATOR_FIELDS = ("discriminator_width", "spectral_norm", "labels")
"""Fields of `StoryGANConfig` that do not affect the generator."""

_COMPARED_STORIES = 8
_TOLERANCE = 1e-3
"""Allowed difference of a component of sentence vectors, whose mean square is 1."""


@dataclasses.dataclass(frozen=True)
class InitialModel:
    """A model that a training starts from; `load_initial_model` returns it.

    Attributes:
        where: the name or path by which the user chose it.
        path: its version directory.
        model: its configuration.
        preset: the preset that it was trained with.
        encoder: its sentence encoder, as in `DataConfig.encoder`.
        labels: names of the labels of its training stories; empty if they had none.
        checkpoint: the checkpoint that holds its discriminators; None if there is none.
    """

    where: str
    path: Path
    model: StoryGANConfig
    preset: str
    encoder: str
    labels: tuple[str, ...]
    checkpoint: Path | None

    @property
    def has_discriminators(self) -> bool:
        """Whether the model has discriminators; otherwise a training starts with new ones."""
        return self.checkpoint is not None

    @property
    def description(self) -> str:
        """What a training takes from the model, in one line."""
        discriminators = "its discriminators" if self.has_discriminators else "new discriminators"
        return f"goes on from {self.where}: its weights, sentence encoder and PCA, {discriminators}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that a training takes from the model; does not depend on its path."""
        digest = hashlib.sha256(model_fingerprint(self.path).encode())
        digest.update((self.path / ASSETS_EXTRA / INFO_FILE).read_bytes())
        for file in sorted(self.checkpoint.iterdir()) if self.checkpoint else ():
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    def lineage_entry(self) -> dict[str, str]:
        """Returns the entry of a lineage: `model`, the name or path the user chose, and `sha256`, the fingerprint."""
        return {"model": self.where, "sha256": self.fingerprint}

    def check(self, settings: Settings, labels: Sequence[str] = ()) -> None:
        """Checks that a training with these settings can start from the model.

        Args:
            settings: `model`, `data.encoder` and the first phase are checked.
            labels: names of the labels of the stories to train on; empty if they have none or are not known yet.

        Raises:
            ConfigError: if the configuration, the encoder or the labels differ, with a list of all differences; or if
                the first phase needs discriminators and the model has none.
        """
        differences = list(self._differences(settings, labels))
        if differences:
            raise ConfigError(
                f"{INIT_FROM} {self.where}: the initial model does not fit these settings and stories: "
                f"{'; '.join(differences)}. Use its values, or train a new model without {INIT_FROM}."
            )
        first = settings.training.active_phases[0]
        if first.schedule != "pixel" and not self.has_discriminators:
            raise ConfigError(
                f"{INIT_FROM} {self.where}: brings no discriminators (an export has none, and it is not in its run "
                f"directory with that run's checkpoints), but the first phase, {first.name!r}, needs them; expected a "
                "phase of schedule 'pixel' before it, so that new discriminators start against a generator that fits "
                "the data."
            )

    def _differences(self, settings: Settings, labels: Sequence[str]) -> Iterator[str]:
        """Yields a description of each value that differs from the model's."""
        for field in dataclasses.fields(StoryGANConfig):
            ours, theirs = getattr(settings.model, field.name), getattr(self.model, field.name)
            if ours != theirs and (self.has_discriminators or field.name not in DISCRIMINATOR_FIELDS):
                yield f"model.{field.name} is {ours!r}, the initial model's {theirs!r}"
        if settings.data.encoder != self.encoder:
            yield f"data.encoder is {settings.data.encoder!r}, the initial model's {self.encoder!r}"
        if labels and self.labels and not self._same_labels(labels):
            yield f"the stories' labels are {', '.join(labels)}, the initial model's {', '.join(self.labels)}"

    def _same_labels(self, labels: Sequence[str]) -> bool:
        """Returns whether these are the model's labels. Their order matters for a discriminator with a classifier."""
        ordered = self.has_discriminators and self.model.labels
        return tuple(labels) == self.labels if ordered else set(labels) == set(self.labels)

    def check_vectors(self, stories: StorySource) -> None:
        """Checks that stories were prepared with the model's sentence encoder and PCA, by a few of their vectors.

        Raises:
            DataError: if their vectors differ.
        """
        first = stories.read(range(min(len(stories), _COMPARED_STORIES)))
        sentences = [sentence for story in first.sentences for sentence in story]
        vectors = self.load_vectorizer()(tf.constant(sentences)).numpy().reshape(first.vectors.shape)
        difference = float(np.abs(vectors - first.vectors).max())
        if difference > _TOLERANCE:
            raise DataError(
                f"{INIT_FROM} {self.where}: the sentence vectors of the training stories are not those of its encoder "
                f"and PCA (they differ by up to {difference:.3g}); prepare the stories with the same {INIT_FROM}."
            )

    def load_vectorizer(self) -> SentenceEncoder:
        """Returns the model's sentence encoder and PCA: strings [n] -> float32 [n, sentence_size]."""
        return load_vectorizer(self.path)

    def apply(self, gan: StoryGAN) -> None:
        """Copies the generator's weights, and the discriminators' if there are any, into a model.

        Optimizers are not changed.

        Args:
            gan: a model of the same configuration; see `check`.

        Raises:
            ModelError: if the weights cannot be read or belong to another configuration.
        """
        weights = read_weights(self.path)
        with gan.distribute_strategy.scope():
            assign_weights(gan.generator, weights, f"{INIT_FROM} {self.where}")
            if self.checkpoint:
                _restore_discriminators(gan, self.checkpoint)


def load_initial_model(where: str) -> InitialModel:
    """Returns the description of a model to start from; its weights are not read yet.

    Args:
        where: a pretrained name, a run directory, a model base directory or a version directory.

    Raises:
        ModelError: if there is no model, or the export does not contain its configuration.
    """
    path = find_model(where, INIT_FROM)
    info = _read_info(path)
    return InitialModel(
        where=where,
        path=path,
        model=from_dict(StoryGANConfig, info["model"], "model"),
        preset=info["preset"],
        encoder=info["encoder"],
        labels=tuple(info["labels"]),
        checkpoint=_find_checkpoint(path),
    )


def configured_initial_model(settings: Settings, labels: Sequence[str]) -> InitialModel | None:
    """Returns the model in `training.init_from`, or None if that is empty.

    Args:
        settings: settings of the training.
        labels: names of the data's labels.

    Raises:
        ConfigError: if a training by these settings cannot start from the model.
        ModelError: as `load_initial_model`.
    """
    if not settings.training.init_from:
        return None
    initial = load_initial_model(settings.training.init_from)
    initial.check(settings, labels)
    return initial


def _read_info(path: Path) -> dict[str, Any]:
    """Returns the info file of an export, see `storygan_tf.export.signatures.model_info`."""
    file = path / ASSETS_EXTRA / INFO_FILE
    try:
        info: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); expected the info file of an export, in JSON.") from error
    missing = [name for name in ("model", "preset", "encoder", "labels") if name not in info]
    if missing:
        raise ModelError(
            f"{file}: has no {', '.join(missing)}; the model was exported by an older version of storygan, and a "
            "training cannot start from it. Train it again."
        )
    return info


def _find_checkpoint(version: Path) -> Path | None:
    """Returns the newest checkpoint of the training that this version was exported from, or None."""
    run = run_directory_of(version)
    folders = sorted(run.glob(f"{WORK_DIRECTORY}/*/{CHECKPOINTS}")) if run else []
    if not folders:
        return None
    weights = {_digest(value) for value in read_weights(version).values()}
    checkpoints = (CheckpointStore(folder).newest() for folder in folders)
    return next((each.path for each in checkpoints if each and weights <= _digests(each.path)), None)


def _digests(checkpoint: Path) -> set[bytes]:
    """Returns the digests of all variables of a checkpoint."""
    return {_digest(value) for value in checkpoint_values(checkpoint / "weights")}


def _digest(value: np.ndarray) -> bytes:
    """Returns a hash of the type, the shape and the numbers of an array."""
    return hashlib.sha256(f"{value.dtype} {value.shape}".encode() + value.tobytes()).digest()


def _restore_discriminators(gan: StoryGAN, checkpoint: Path) -> None:
    """Restores both discriminators, and nothing else, from a checkpoint."""
    names = ("image_discriminator", "story_discriminator")
    discriminators = tf.train.Checkpoint(**{name: getattr(gan, name) for name in names})
    try:
        restored = tf.train.Checkpoint(trained=discriminators).read(str(checkpoint / "weights")).expect_partial()
        restored.assert_existing_objects_matched()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise ModelError(f"{checkpoint}: its discriminators cannot be restored ({error}).") from error
