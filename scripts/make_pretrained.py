"""Makes one of the models that ship in the package from a trained one: weights as float16, 12 MB at the most.

    .venv/bin/python scripts/make_pretrained.py runs/blocks [--name blocks] [--out DIR]

The model is a run directory or an export that `storygan run` pushed, with its model card and lineage. It is refused
where these do not tell its figures, where it was not blessed, and where its pictures would differ by more than a grey
level for the rounding. The same model gives the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from storygan_tf.common.atomic_files import atomic_folder
from storygan_tf.common.errors import ModelError, StoryGANError
from storygan_tf.common.file_names import MODEL_CARD
from storygan_tf.common.model_paths import ASSETS_EXTRA, PRETRAINED, find_model
from storygan_tf.evaluation.metric_names import FIGURES
from storygan_tf.export.lineage import LINEAGE_FILE, Lineage, lineage_of, model_fingerprint
from storygan_tf.training.reexport import Rounding, reexport

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

GREY_LEVELS = 1
"""By which a pixel may differ from the trained model's."""


@dataclasses.dataclass(frozen=True)
class Papers:
    """What is told of a model: its card and its lineage."""

    card: str
    lineage: Lineage


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
    read_papers(find_model(source))
    with atomic_folder(out) as aside:
        rounding = reexport(source, aside, half=True, most=GREY_LEVELS)
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
