"""`storygan compile`: the pipeline as a file that a cluster takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from storygan_cli.settings import Assignments, Encoder, MaxRejectFraction, Preset, story_settings
from storygan_tf.errors import ConfigError, nearest

EPILOG = (
    "Example: storygan compile --target kubeflow --image registry.example/storygan:1 --data s3://bucket/stories "
    "--root s3://bucket/storygan --out pipeline.yaml --set cluster.steps.Trainer.accelerators=1"
)

TARGETS = {
    "kubeflow": "pipeline.cluster.kubeflow",
    "vertex": "pipeline.cluster.vertex",
}
"""A module for each target, whose `compile(request, out)` writes the file and returns what to say of it."""


def compile_pipeline(
    target: Annotated[str, typer.Option(help=f"What runs it: {', '.join(TARGETS)}.")],
    image: Annotated[str, typer.Option(help="Container image with the project in it (see the Dockerfile).")],
    data: Annotated[str, typer.Option(help="URI or path, in the containers, of the folder of stories.")],
    root: Annotated[
        str, typer.Option(help="URI or path, in the containers, that artifacts and pushed models go below.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    preset: Preset = None,
    init_from: Annotated[
        str | None, typer.Option(help="Model to go on from: a pretrained name, or a path that the containers have too.")
    ] = None,
    assignments: Assignments = None,
    encoder: Encoder = None,
    max_reject_fraction: MaxRejectFraction = None,
) -> None:
    """Compile the pipeline for a cluster. Nothing is submitted.

    `--set cluster.KEY=VALUE` is what the cluster is asked for (`docs/kubeflow.md`): cpu, memory, accelerators, retries,
    node_selector, tolerations, volumes, secrets, beam; for one step `--set cluster.steps.Trainer.memory=32Gi`.
    """
    if target not in TARGETS:
        raise ConfigError(f"--target {target}: expected one of {', '.join(TARGETS)}{nearest(target, TARGETS)}.")
    from pipeline.cluster.settings import Request, split_assignments

    cluster, others = split_assignments(assignments or [])
    settings, _ = story_settings(preset, init_from, others, encoder, max_reject_fraction)
    request = Request(image, data, root, settings, cluster)
    # After what can be wrong with the options: loading TFX takes seconds.
    from importlib import import_module

    for line in import_module(TARGETS[target]).compile(request, out):
        print(line)
    print(f"compiled   {out}")
