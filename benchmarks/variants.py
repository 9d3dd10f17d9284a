"""Trains variants of a preset on one budget and judges each: the evidence behind a recipe, and ablations.

    python benchmarks/variants.py --run RUN --data DIR --out OUT --preset blocks --table ablation [--set key=value ...]

`RUN` is a finished run of `storygan run` on the stories of `DIR`; all variants train on its records. Each is a
`storygan train` and a `storygan evaluate` in processes of their own, one after the other, in a folder below `OUT`; what
is done already is not done again, and an interrupted training goes on. `--set` applies to every variant: the budget.
`--init-from` starts all of them from one model, such as a warmed-up generator.
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

FIGURES = (
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
        "no image discriminator": ("adversarial.image_weight=0", "adversarial.feature_matching_weight=0"),
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
        "R1": ("adversarial.r1_weight=1",),
        "label smoothing": ("adversarial.real_label=0.9",),
        "augmentation": ("adversarial.augment=true",),
        "no pixel loss": ("adversarial.l1_weight=0",),
        "adversarial terms ten times as strong": ("adversarial.image_weight=1", "adversarial.story_weight=1"),
        "feature matching a tenth as strong": ("adversarial.feature_matching_weight=15",),
    },
}
"""Variants by table: what each changes; `adversarial.` stands for `training.phases.adversarial.`."""


def _assignments(changes: Sequence[str]) -> list[str]:
    full = [f"training.phases.{change}" if change.startswith("adversarial.") else change for change in changes]
    return [part for change in full for part in ("--set", change)]


def _storygan(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "storygan_cli", *arguments], check=True)


def measure(arguments: argparse.Namespace, name: str, changes: Sequence[str]) -> dict[str, float]:
    """Trains and judges one variant and returns its figures, and the minutes that the training took here."""
    out = Path(arguments.out) / name.replace(" ", "_")
    judged = out / "judged"
    began = time.monotonic()
    start = ["--init-from", arguments.init_from] if arguments.init_from else []
    sets = _assignments([*arguments.set, *changes])
    _storygan("train", "--data", arguments.run, "--out", str(out), "--preset", arguments.preset, *start, *sets)
    minutes = (time.monotonic() - began) / 60
    if not (judged / "metrics.json").is_file():
        _storygan("evaluate", "--model", str(out), "--data", arguments.data, "--out", str(judged))
    rows = json.loads((judged / "metrics.json").read_text())["rows"]
    figures = next(row["figures"] for row in rows if row["name"] == "model")
    return {figure: figures[figure]["value"] for figure in FIGURES if figure in figures} | {"minutes": minutes}


def main() -> None:
    """Prints a table, a variant a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "data", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--preset", default="blocks")
    parser.add_argument("--table", choices=TABLES, default="ablation")
    parser.add_argument("--init-from", default="")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    print(f"{' '.join(sys.argv)}\n{platform.platform()}, {time.strftime('%Y-%m-%d')}\n")
    print(f"| variant | {' | '.join(FIGURES)} | minutes |\n|{' --- |' * (len(FIGURES) + 2)}")
    for name, changes in TABLES[arguments.table].items():
        values = measure(arguments, name, changes)
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in values.values())} |", flush=True)


if __name__ == "__main__":
    main()
