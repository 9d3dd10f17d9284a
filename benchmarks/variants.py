"""Trains variants of a preset with the same budget and evaluates each, for the tables of ablations and recipes.

    python benchmarks/variants.py --run RUN --data DIR --out OUT --preset blocks --table ablation [--set key=value ...]

`RUN` is a finished run of `storygan run` on the stories of `DIR`; all variants are trained on its records. Each variant
is trained by `storygan train` and evaluated by `storygan evaluate`, in a folder below `OUT`, one after the other.
Finished work is not repeated, and an interrupted training resumes. `--set` changes a setting of all variants.
`--init-from` starts all variants from one model, such as one after the warm-up phase.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from storygan_tf.reporting.evaluation_files import METRICS_FILE
from storygan_tf.training.training_state import read_history

METRICS = (
    "ssim",
    "label_f1",
    "frame_accuracy",
    "placed_accuracy",
    "object_error",
    "sharpness",
    "fid_domain",
    "diversity",
)

TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "ablation": {
        "all parts": (),
        "no image discriminator": (
            "adversarial.image_weight=0",
            "adversarial.feature_matching_weight=0",
            "adversarial.generator_label_weight=0",
        ),
        "no story discriminator": ("adversarial.story_weight=0",),
        "plain product for the dynamic filter": ("model.gist=product",),
        "no story noise": ("model.story_noise=false", "adversarial.kl_weight=0"),
    },
    "recipe": {
        "warm-up alone": ("adversarial.epochs=0",),
        "all parts": (),
        "no mismatched pairs": ("adversarial.mismatched=false",),
        "no label classifier": ("adversarial.label_weight=0", "adversarial.generator_label_weight=0"),
        "no feature matching": ("adversarial.feature_matching_weight=0",),
        "no spectral normalisation": ("model.spectral_norm=false",),
        "no moving average": ("adversarial.average=0",),
        "two generator updates": ("adversarial.generator_steps=2",),
        "learning rates that stay": ("adversarial.decay=constant",),
        "no pixel loss": ("adversarial.l1_weight=0",),
        "adversarial terms ten times as strong": ("adversarial.image_weight=0.4", "adversarial.story_weight=0.4"),
        "feature matching a tenth as strong": ("adversarial.feature_matching_weight=20",),
    },
}
"""The settings that each variant changes, by table; `adversarial.` is short for `training.phases.adversarial.`."""


def assignments(changes: Sequence[str]) -> list[str]:
    """Returns the changes of a variant as full settings, `key=value`."""
    return [f"training.phases.{change}" if change.startswith("adversarial.") else change for change in changes]


def _storygan(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "storygan_cli", *arguments], check=True, stdout=sys.stderr)


def measure(arguments: argparse.Namespace, name: str, changes: Sequence[str]) -> list[float | None]:
    """Trains and evaluates one variant; returns its `METRICS`, None if absent, and the minutes of its epochs."""
    out = Path(arguments.out) / name.replace(" ", "_")
    judged = out / "judged" / METRICS_FILE
    start = ["--init-from", arguments.init_from] if arguments.init_from else []
    sets = [part for change in [*arguments.set, *assignments(changes)] for part in ("--set", change)]
    _storygan("train", "--data", arguments.run, "--out", str(out), "--preset", arguments.preset, *start, *sets)
    if not judged.is_file():
        _storygan("evaluate", "--model", str(out), "--data", arguments.data, "--out", str(judged.parent))
    metrics = next(row["figures"] for row in json.loads(judged.read_text())["rows"] if row["name"] == "model")
    minutes = sum(entry["seconds"] for entry in read_history(out)) / 60
    return [metrics[name]["value"] if name in metrics else None for name in METRICS] + [minutes]


def main() -> None:
    """Trains and evaluates the variants, and prints a table with a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "data", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--preset", default="blocks")
    parser.add_argument("--table", choices=TABLES, default="ablation")
    parser.add_argument("--only", nargs="+", default=[], metavar="VARIANT", help="some of the table's variants")
    parser.add_argument("--init-from", default="")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    table = TABLES[arguments.table]
    if unknown := set(arguments.only) - set(table):
        parser.error(f"--only {', '.join(sorted(unknown))}: expected some of {', '.join(table)}.")
    print(f"{' '.join(sys.argv)}\n{platform.platform()}, {time.strftime('%Y-%m-%d')}\n")
    print(f"| variant | {' | '.join(METRICS)} | minutes |\n|{' --- |' * (len(METRICS) + 2)}")
    for name in arguments.only or table:
        values = measure(arguments, name, table[name])
        cells = ["absent" if value is None else f"{value:.3f}" for value in values]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
