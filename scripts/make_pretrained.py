"""Makes one of the models that ship in the package from a trained one: weights as float16, 12 MB at the most.

    .venv/bin/python scripts/make_pretrained.py runs/blocks [--name blocks] [--out DIR]

The model is a run directory or an export that `storygan run` pushed, with its model card and lineage. It is refused
where these do not tell its figures, where it was not blessed, and where its pictures would differ by more than a grey
level for the rounding. The same model gives the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from storygan_tf.config import Settings, StoryGANConfig
from storygan_tf.datasets.files import whole_folder
from storygan_tf.errors import ModelError, StoryGANError
from storygan_tf.evaluation.figures import FIGURES
from storygan_tf.export import INFO_FILE, export_storygan
from storygan_tf.generator import StoryGenerator
from storygan_tf.initial import load_initial
from storygan_tf.lineage import LINEAGE_FILE, Lineage, lineage_of, model_fingerprint
from storygan_tf.model_card import MODEL_CARD
from storygan_tf.places import ASSETS_EXTRA, PRETRAINED
from storygan_tf.weights import assign_weights, read_weights

LIMIT = 12_000_000
"""Bytes that a model may take in the package."""

REQUIRED = (
    "ssim",
    "object_error",
    "sharpness",
    "diversity",
    "label_f1",
    "frame_accuracy",
    "placed_accuracy",
    "fid_domain",
)
"""Figures that card and lineage must tell."""

SEEDS = 16
"""Samples of each suggested story by which pictures are compared."""


_NOTE = "## As it ships"


@dataclasses.dataclass(frozen=True)
class Papers:
    """What is told of a model: its card and its lineage."""

    card: str
    lineage: Lineage


@dataclasses.dataclass(frozen=True)
class Rounding:
    """How far pictures of rounded weights are from those of the weights as they were, in grey levels."""

    most: int
    mean: float


def make(source: str, out: Path) -> Rounding:
    """Makes the packaged model of a trained one.

    Args:
        source: a run directory, a model base directory or a version directory.
        out: the version directory to write; replaced where it exists.

    Returns:
        What its pictures lost.

    Raises:
        ModelError: for a model that is refused.
    """
    initial = load_initial(source)
    papers = read_papers(initial.path)
    trained = tf.saved_model.load(str(initial.path))
    with whole_folder(out) as aside:
        export_storygan(
            _generator(initial.path, initial.model),
            trained.vectorizer,
            json.loads((initial.path / ASSETS_EXTRA / INFO_FILE).read_text(encoding="utf-8")),
            aside,
            Settings.from_json(json.dumps(papers.lineage.settings)).data.max_sentence_length,
            half=True,
        )
        rounding = compare(trained, tf.saved_model.load(str(aside)))
        _write_papers(aside, papers, rounding)
        _check_size(aside)
    return rounding


def read_papers(version: Path) -> Papers:
    """Reads what is told of a model.

    Raises:
        ModelError: where it is not told, does not tell all figures or was not blessed.
    """
    lineage, file = lineage_of(version), version / ASSETS_EXTRA / MODEL_CARD
    if lineage is None or not file.is_file():
        raise ModelError(f"{version}: has no {MODEL_CARD} and {LINEAGE_FILE}; expected a model that a run pushed.")
    card = file.read_text(encoding="utf-8")
    missing = [
        FIGURES[name].title
        for name in REQUIRED
        if name not in lineage.metrics or f"\n| {FIGURES[name].title}" not in card
    ]
    if missing:
        raise ModelError(f"{version}: its card or lineage does not tell these figures: {', '.join(missing)}.")
    if not lineage.blessed:
        raise ModelError(f"{version}: was not blessed: {lineage.reason}")
    return Papers(card, lineage)


def compare(trained: tf.Module, rounded: tf.Module) -> Rounding:
    """Compares the pictures of two exports on the stories that the model suggests.

    Raises:
        ModelError: where a pixel differs by more than one grey level.
    """
    info = json.loads(trained.signatures["info"](query=tf.constant([""]))["info"].numpy()[0])
    sentences = tf.constant([story for story in info["examples"] for _ in range(SEEDS)])
    seeds = tf.range(len(sentences), dtype=tf.int64)
    before, after = (
        model.signatures["generate_raw"](sentences=sentences, seed=seeds)["images"].numpy().astype(int)
        for model in (trained, rounded)
    )
    difference = np.abs(before - after)
    if difference.max() > 1:
        raise ModelError(f"float16 weights change a picture by {difference.max()} grey levels, expected 1 at the most.")
    return Rounding(int(difference.max()), float(difference.mean()))


def _generator(version: Path, config: StoryGANConfig) -> StoryGenerator:
    generator = StoryGenerator(config, name="generator")
    generator(tf.zeros([1, config.frames, config.sentence_size]))
    assign_weights(generator, read_weights(version), str(version))
    return generator


def _write_papers(aside: Path, papers: Papers, rounding: Rounding) -> None:
    note = (
        f"{_NOTE}\n\nThe generator's weights are kept as float16 (batch normalisation as float32) and computed "
        f"with as float32. Over {SEEDS} samples of each suggested story a pixel differs from the trained model's by "
        f"{rounding.most} grey level at the most, {rounding.mean:.4f} on average. The figures above are the trained "
        f"model's, SHA-256 `{papers.lineage.model_sha256}`.\n"
    )
    lineage = dataclasses.replace(papers.lineage, model_sha256=model_fingerprint(aside))
    card = papers.card.partition(_NOTE)[0].rstrip("\n")
    (aside / ASSETS_EXTRA / MODEL_CARD).write_text(f"{card}\n\n{note}", encoding="utf-8")
    (aside / ASSETS_EXTRA / LINEAGE_FILE).write_text(lineage.to_json(), encoding="utf-8")


def _check_size(folder: Path) -> None:
    size = size_of(folder)
    if size > LIMIT:
        raise ModelError(f"the model takes {size} bytes, expected {LIMIT} at the most; train a narrower one.")


def size_of(folder: Path) -> int:
    """Returns the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Makes the model and prints what it takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run directory, a model base directory or a version directory")
    parser.add_argument("--name", default="blocks")
    parser.add_argument("--out", type=Path, default=PRETRAINED, help="folder of the named models")
    arguments = parser.parse_args()
    out = arguments.out / arguments.name
    try:
        rounding = make(arguments.model, out)
    except StoryGANError as error:
        sys.exit(f"{arguments.model}: {error}")
    print(f"{model_fingerprint(out)}  {out}")
    print(f"{size_of(out)} bytes; pictures differ by {rounding.most} grey level at the most ({rounding.mean:.4f})")


if __name__ == "__main__":
    main()
