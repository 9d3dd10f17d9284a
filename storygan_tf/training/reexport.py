"""Exports a trained model again: with the signatures of this version of storygan, weights in float32 or float16.

The weights, the sentence encoder with its PCA and the info file are taken from the existing export; nothing is trained.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from storygan_tf.common.atomic_files import atomic_folder
from storygan_tf.common.errors import ModelError
from storygan_tf.common.file_names import MODEL_CARD
from storygan_tf.common.model_paths import ASSETS_EXTRA
from storygan_tf.config.schema import DataConfig, StoryGANConfig
from storygan_tf.export.lineage import LINEAGE_FILE, lineage_of, model_fingerprint
from storygan_tf.export.signatures import INFO_FILE, export_storygan
from storygan_tf.export.weight_io import assign_weights, read_weights
from storygan_tf.models.story_generator import StoryGenerator
from storygan_tf.training.warm_start import load_initial_model

SEEDS = 16
"""Number of samples of each example story whose pictures are compared."""

GREY_LEVELS = 2
"""Grey levels of 255 by which a pixel may differ from the trained model's."""

_NOTE = "## As it ships"


@dataclasses.dataclass(frozen=True)
class Rounding:
    """Differences between the pictures of rounded and of original weights, in grey levels of 255.

    Attributes:
        most: the greatest difference of a pixel.
        mean: the mean absolute difference.
    """

    most: int
    mean: float


def reexport(source: str, out: Path, *, half: bool, most: int = GREY_LEVELS) -> Rounding:
    """Exports a model again, with its model card and lineage if it has them.

    Args:
        source: a pretrained name, a run directory, a model base directory or a version directory.
        out: the version directory to write; an existing export is replaced.
        half: whether weights are stored as float16 (`storygan_tf.export.signatures.half_precision_copy`).
        most: grey levels by which a pixel may differ from the trained model's.

    Returns:
        The differences of its pictures from the trained model's.

    Raises:
        ModelError: if there is no model, `out` exists and is not an export, or a pixel differs by more than `most`.
    """
    initial = load_initial_model(source)
    _check_output(out)
    trained = tf.saved_model.load(str(initial.path))
    info = json.loads((initial.path / ASSETS_EXTRA / INFO_FILE).read_text(encoding="utf-8"))
    generator = _generator(initial.path, initial.model)
    with atomic_folder(out) as folder:
        export_storygan(generator, trained.vectorizer, info, folder, _longest_sentence(initial.path, info), half=half)
        rounding = compare(trained, tf.saved_model.load(str(folder)), most)
        _copy_documents(initial.path, folder, rounding if half else None)
    return rounding


def compare(trained: tf.Module, exported: tf.Module, most: int = GREY_LEVELS) -> Rounding:
    """Compares the pictures of two loaded exports of a model on its example stories.

    Args:
        trained: the existing export.
        exported: the new export.
        most: grey levels by which a pixel may differ.

    Raises:
        ModelError: if a pixel differs by more than `most` grey levels.
    """
    info = json.loads(trained.signatures["info"](query=tf.constant([""]))["info"].numpy()[0])
    stories = info["examples"] or [["A sentence."] * info["frames"]]
    sentences = tf.constant([story for story in stories for _ in range(SEEDS)])
    seeds = tf.range(len(sentences), dtype=tf.int64)
    before, after = (
        model.signatures["generate_raw"](sentences=sentences, seed=seeds)["images"].numpy().astype(int)
        for model in (trained, exported)
    )
    difference = np.abs(before - after)
    if difference.max() > most:
        raise ModelError(
            f"float16 weights change a picture by {difference.max()} grey levels, expected {most} at the most; keep "
            "them as float32."
        )
    return Rounding(int(difference.max()), float(difference.mean()))


def _check_output(out: Path) -> None:
    """Raises ModelError if `out` exists and is neither an export nor an empty directory."""
    if out.exists() and not (out / "saved_model.pb").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(
            f"{out}: is there and is no export, expected a new folder or a version directory to replace. Choose "
            "another folder."
        )


def _generator(version: Path, config: StoryGANConfig) -> StoryGenerator:
    """Returns a generator with the weights of an export."""
    generator = StoryGenerator(config, name="generator")
    generator(tf.zeros([1, config.frames, config.sentence_size]))
    assign_weights(generator, read_weights(version), str(version))
    return generator


def _longest_sentence(version: Path, info: dict[str, Any]) -> int:
    """Returns the greatest length of a sentence. Older exports have it in their lineage, or not at all."""
    lineage = lineage_of(version)
    data = lineage.settings.get("data", {}) if lineage else {}
    name = "max_sentence_length"
    return int(info.get(name) or data.get(name) or getattr(DataConfig(), name))


def _copy_documents(version: Path, folder: Path, rounding: Rounding | None) -> None:
    """Copies the lineage, with the new export's fingerprint, and the model card, with a note on rounded weights.

    Args:
        version: version directory of the existing export.
        folder: directory of the new export.
        rounding: what rounding changed; None if weights are not rounded.
    """
    lineage, card = lineage_of(version), version / ASSETS_EXTRA / MODEL_CARD
    if lineage:
        new_lineage = dataclasses.replace(lineage, model_sha256=model_fingerprint(folder))
        (folder / ASSETS_EXTRA / LINEAGE_FILE).write_text(new_lineage.to_json(), encoding="utf-8")
    if card.is_file():
        text = card.read_text(encoding="utf-8").partition(_NOTE)[0].rstrip("\n")
        note = f"\n\n{_note(rounding, lineage.model_sha256 if lineage else '')}" if rounding else ""
        (folder / ASSETS_EXTRA / MODEL_CARD).write_text(f"{text}{note}\n", encoding="utf-8")


def _note(rounding: Rounding, trained: str) -> str:
    """Returns the note on rounded weights for a model card; `trained` is the SHA-256 of the trained model or empty."""
    return (
        f"{_NOTE}\n\nThe generator's weights are kept as float16 (batch normalisation as float32) and computed "
        f"with as float32. Over {SEEDS} samples of each suggested story a pixel differs from the trained model's by "
        f"{rounding.most} grey level at the most, {rounding.mean:.4f} on average. The figures above are the trained "
        f"model's{f', SHA-256 `{trained}`' if trained else ''}."
    )
