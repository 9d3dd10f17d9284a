"""What a training may start from: an exported model's weights, its sentence encoder and PCA, and its discriminators.

An export holds the generator and the vectorizer. Discriminators are in the checkpoints of the run that trained it: its
last one, where that one's generator is the exported one.
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

from storygan_tf.common.errors import ConfigError, DataError, ModelError
from storygan_tf.common.model_paths import ASSETS_EXTRA, WORK_DIRECTORY, find_model, run_directory_of
from storygan_tf.config.parsing import from_dict
from storygan_tf.config.schema import Settings, StoryGANConfig
from storygan_tf.data.training_input import Stories
from storygan_tf.export.lineage import model_fingerprint
from storygan_tf.export.signatures import INFO_FILE
from storygan_tf.export.weight_io import assign_weights, read_weights
from storygan_tf.text.exported_vectorizer import INIT_FROM, load_vectorizer
from storygan_tf.text.sentence_encoder import SentenceEncoder
from storygan_tf.training.checkpoints import CheckpointStore
from storygan_tf.training.storygan import StoryGAN
from storygan_tf.training.trainer import CHECKPOINTS

OF_DISCRIMINATORS = ("discriminator_width", "spectral_norm", "labels")
"""Fields of `StoryGANConfig` that say nothing of the generator."""

_COMPARED_STORIES = 8
_TOLERANCE = 1e-3
"""Of components of sentence vectors, whose mean square is 1."""


@dataclasses.dataclass(frozen=True)
class InitialModel:
    """A model to start from; see `load_initial_model`.

    Attributes:
        where: as it was named.
        path: version directory.
        model: its configuration.
        preset: it was trained by.
        encoder: its sentence encoder, as `DataConfig.encoder` names it.
        labels: names of the labels of its training stories; empty where they had none.
        checkpoint: of the run that trained it; None where there is none.
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
        """Whether discriminators come with it, or begin anew."""
        return self.checkpoint is not None

    @property
    def description(self) -> str:
        """What comes from where, in a line for people."""
        discriminators = "its discriminators" if self.has_discriminators else "new discriminators"
        return f"goes on from {self.where}: its weights, sentence encoder and PCA, {discriminators}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that is taken from it, wherever it lies."""
        digest = hashlib.sha256(model_fingerprint(self.path).encode())
        digest.update((self.path / ASSETS_EXTRA / INFO_FILE).read_bytes())
        for file in sorted(self.checkpoint.iterdir()) if self.checkpoint else ():
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()

    def lineage_entry(self) -> dict[str, str]:
        """Returns what a lineage names it by: `model`, as it was named, and `sha256`, its fingerprint."""
        return {"model": self.where, "sha256": self.fingerprint}

    def check(self, settings: Settings, labels: Sequence[str] = ()) -> None:
        """Checks that a training by these settings can start from it.

        Args:
            settings: `model`, `data.encoder` and the first phase are looked at.
            labels: names of the labels of the stories to train on; empty where they have none or it is not known yet.

        Raises:
            ConfigError: for another number of frames, width, encoder or label set, with all that differs; and where the
                first phase needs discriminators that are not there.
        """
        different = list(self._differences(settings, labels))
        if different:
            raise ConfigError(
                f"{INIT_FROM} {self.where}: the initial model is another than these settings and stories ask for: "
                f"{'; '.join(different)}. Take its values, or train a model of its own without {INIT_FROM}."
            )
        first = settings.training.active_phases[0]
        if first.schedule != "pixel" and not self.has_discriminators:
            raise ConfigError(
                f"{INIT_FROM} {self.where}: brings no discriminators (an export has none, and it does not lie in its "
                f"run directory with that run's checkpoints), but the first phase, {first.name!r}, needs them; "
                "expected a phase of schedule 'pixel' before it, so that new discriminators meet a generator that fits "
                "the data."
            )

    def _differences(self, settings: Settings, labels: Sequence[str]) -> Iterator[str]:
        for field in dataclasses.fields(StoryGANConfig):
            ours, theirs = getattr(settings.model, field.name), getattr(self.model, field.name)
            if ours != theirs and (self.has_discriminators or field.name not in OF_DISCRIMINATORS):
                yield f"model.{field.name} is {ours!r}, the initial model's {theirs!r}"
        if settings.data.encoder != self.encoder:
            yield f"data.encoder is {settings.data.encoder!r}, the initial model's {self.encoder!r}"
        if labels and self.labels and not self._same_labels(labels):
            yield f"the stories' labels are {', '.join(labels)}, the initial model's {', '.join(self.labels)}"

    def _same_labels(self, labels: Sequence[str]) -> bool:
        """Whether these are its labels; their order matters to a discriminator that tells them."""
        ordered = self.has_discriminators and self.model.labels
        return tuple(labels) == self.labels if ordered else set(labels) == set(self.labels)

    def check_vectors(self, stories: Stories) -> None:
        """Checks that stories were prepared with its sentence encoder and PCA.

        Raises:
            DataError: where their vectors are others.
        """
        first = stories.first(_COMPARED_STORIES)
        sentences = [sentence for story in first.sentences for sentence in story]
        vectors = self.load_vectorizer()(tf.constant(sentences)).numpy().reshape(first.vectors.shape)
        difference = float(np.abs(vectors - first.vectors).max())
        if difference > _TOLERANCE:
            raise DataError(
                f"{INIT_FROM} {self.where}: the sentence vectors of the training stories are not those of its encoder "
                f"and PCA (they differ by up to {difference:.3g}); prepare the stories with the same {INIT_FROM}."
            )

    def load_vectorizer(self) -> SentenceEncoder:
        """Loads its sentence encoder and PCA: strings [n] -> float32 [n, sentence_size]."""
        return load_vectorizer(self.path)

    def apply(self, gan: StoryGAN) -> None:
        """Gives a model its weights, and the discriminators where it has them; optimizers stay as they are.

        Args:
            gan: of the same configuration; see `check`.

        Raises:
            ModelError: where weights cannot be read or are of another model.
        """
        weights = read_weights(self.path)
        with gan.distribute_strategy.scope():
            assign_weights(gan.generator, weights, f"{INIT_FROM} {self.where}")
            if self.checkpoint:
                _restore_discriminators(gan, self.checkpoint)


def load_initial_model(where: str) -> InitialModel:
    """Looks at a model to start from.

    Args:
        where: a pretrained name, a run directory, a model base directory or a version directory.

    Raises:
        ModelError: where there is no model, or one that does not tell its configuration.
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


def _read_info(path: Path) -> dict[str, Any]:
    file = path / ASSETS_EXTRA / INFO_FILE
    try:
        info: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); expected what an export says of itself.") from error
    missing = [name for name in ("model", "preset", "encoder", "labels") if name not in info]
    if missing:
        raise ModelError(
            f"{file}: does not tell {', '.join(missing)}; the model was exported by an older version of storygan, and "
            "a training cannot start from it. Train it again."
        )
    return info


def _find_checkpoint(version: Path) -> Path | None:
    """Returns the last checkpoint of the training that this version was exported from, None where it is not there."""
    run = run_directory_of(version)
    folders = sorted(run.glob(f"{WORK_DIRECTORY}/*/{CHECKPOINTS}")) if run else []
    if not folders:
        return None
    weights = {_digest(value) for value in read_weights(version).values()}
    newest = (CheckpointStore(folder).newest() for folder in folders)
    return next((found.path for found in newest if found and weights <= _digests(found.path)), None)


def _digests(checkpoint: Path) -> set[bytes]:
    reader = tf.train.load_checkpoint(str(checkpoint / "weights"))
    names = [name for name in reader.get_variable_to_shape_map() if "/.ATTRIBUTES/VARIABLE_VALUE" in name]
    return {_digest(reader.get_tensor(name)) for name in names}


def _digest(value: np.ndarray) -> bytes:
    return hashlib.sha256(f"{value.dtype} {value.shape}".encode() + value.tobytes()).digest()


def _restore_discriminators(gan: StoryGAN, checkpoint: Path) -> None:
    names = ("image_discriminator", "story_discriminator")
    wanted = tf.train.Checkpoint(**{name: getattr(gan, name) for name in names})
    try:
        restored = tf.train.Checkpoint(trained=wanted).read(str(checkpoint / "weights")).expect_partial()
        restored.assert_existing_objects_matched()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise ModelError(f"{checkpoint}: its discriminators cannot be restored ({error}).") from error
