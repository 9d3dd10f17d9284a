"""Converts a trained model to one that ships with the package, with float16 weights and at most 12 MB.

    .venv/bin/python scripts/make_pretrained.py runs/blocks [--name blocks] [--out DIR]

The argument is a run directory or an export that `storygan run` pushed, with its model card and lineage. A model is
rejected if these lack a metric, if it was not blessed, or if rounding changes its pictures by more than a grey level.
The same model gives the same bytes.
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
from storygan_tf.evaluation.metric_names import METRICS
from storygan_tf.export.lineage import LINEAGE_FILE, Lineage, lineage_of, model_fingerprint
from storygan_tf.training.reexport import Rounding, reexport

MAX_BYTES = 12_000_000
"""Maximum size of a model in the package, in bytes."""

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
"""Metrics that the model card and the lineage must contain."""

MAX_GREY_LEVELS = 1
"""Most grey levels by which a pixel may differ from the trained model's."""


@dataclasses.dataclass(frozen=True)
class Papers:
    """The documents of a model.

    Attributes:
        card: the model card in Markdown.
        lineage: the lineage.
    """

    card: str
    lineage: Lineage


def make(source: str, out: Path) -> Rounding:
    """Writes a trained model with float16 weights.

    Args:
        source: a run directory, a model base directory or a version directory.
        out: the version directory to write; it is replaced if it exists.

    Returns:
        The difference between the pictures of both models.

    Raises:
        ModelError: if the model is rejected.
    """
    read_papers(find_model(source))
    with atomic_folder(out) as partial:
        rounding = reexport(source, partial, half=True, most=MAX_GREY_LEVELS)
        _check_size(partial)
    return rounding


def read_papers(version: Path) -> Papers:
    """Reads the model card and the lineage of a model.

    Args:
        version: version directory of the model.

    Raises:
        ModelError: if one of them is missing or lacks a metric, or the model was not blessed.
    """
    lineage, file = lineage_of(version), version / ASSETS_EXTRA / MODEL_CARD
    if lineage is None or not file.is_file():
        raise ModelError(f"{version}: has no {MODEL_CARD} and {LINEAGE_FILE}; expected a model that a run pushed.")
    card = file.read_text(encoding="utf-8")
    missing = [
        METRICS[name].title
        for name in REQUIRED
        if name not in lineage.metrics or f"\n| {METRICS[name].title}" not in card
    ]
    if missing:
        raise ModelError(f"{version}: its model card or lineage lacks these metrics: {', '.join(missing)}.")
    if not lineage.blessed:
        raise ModelError(f"{version}: was not blessed: {lineage.reason}")
    return Papers(card, lineage)


def _check_size(folder: Path) -> None:
    size = size_of(folder)
    if size > MAX_BYTES:
        raise ModelError(f"the model takes {size} bytes, expected at most {MAX_BYTES}; train a narrower one.")


def size_of(folder: Path) -> int:
    """Returns the total size of all files in a folder in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Writes the model and prints its SHA-256, its size and the effect of rounding."""
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
    print(
        f"{size_of(out)} bytes; pictures differ by at most {rounding.most} grey level ({rounding.mean:.4f} on average)"
    )


if __name__ == "__main__":
    main()
