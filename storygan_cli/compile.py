"""`storygan compile`: writes the pipeline, or a training job, as a file for a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storygan_cli.settings_options import (
    Assignments,
    Encoder,
    MaxRejectFraction,
    Preset,
    start_settings,
    story_settings,
)
from storygan_tf.common.errors import ConfigError, nearest

if TYPE_CHECKING:
    from pipeline.cluster.k8s_job import KubernetesJob
    from storygan_tf.config.schema import TrainConfig

EPILOG = (
    "Example: storygan compile --target kubeflow --image registry.example/storygan:1 --data s3://bucket/stories "
    "--root s3://bucket/storygan --out pipeline.yaml --set cluster.steps.Trainer.accelerators=1"
)

TRAINING_TARGET = "k8s-job"
"""The target that compiles only a training, of prepared stories."""

TARGETS = {
    "kubeflow": "pipeline.cluster.kubeflow",
    "vertex": "pipeline.cluster.vertex",
    TRAINING_TARGET: "pipeline.cluster.k8s_job",
}
"""The module of each target; its `compile(request, out)` writes the file and returns lines of text for the user."""


def compile_pipeline(
    target: Annotated[str, typer.Option(help=f"The system that runs the file: {', '.join(TARGETS)}.")],
    image: Annotated[str, typer.Option(help="Container image that contains the project (see the Dockerfile).")],
    data: Annotated[
        str, typer.Option(help="Folder of stories (k8s-job: of prepared stories): a URI, or a path in the containers.")
    ],
    root: Annotated[
        str, typer.Option(help="Root folder of artifacts and pushed models: a URI, or a path in the containers.")
    ],
    out: Annotated[Path, typer.Option(help="File to write.")],
    preset: Preset = None,
    init_from: Annotated[
        str | None,
        typer.Option(help="Model to start from: a pretrained name, or a path, also in the containers."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="k8s-job: number of workers.")] = None,
    assignments: Assignments = None,
    encoder: Encoder = None,
    max_reject_fraction: MaxRejectFraction = None,
) -> None:
    """Compile the pipeline, or a training by several workers, for a cluster. Nothing is submitted.

    `--set cluster.KEY=VALUE` sets what the cluster provides (`docs/kubeflow.md`): cpu, memory, accelerators, retries,
    node_selector, tolerations, volumes, secrets, beam; for one step use `--set cluster.steps.Trainer.memory=32Gi`.
    """
    if target not in TARGETS:
        raise ConfigError(f"--target {target}: expected one of {', '.join(TARGETS)}{nearest(target, TARGETS)}.")
    if (target == TRAINING_TARGET) != (workers is not None):
        raise ConfigError(f"--workers: expected with --target {TRAINING_TARGET}, and with no other target.")
    if target == TRAINING_TARGET and (encoder or max_reject_fraction is not None):
        raise ConfigError(
            f"--encoder, --max-reject-fraction: `storygan prepare` takes them, not --target {TRAINING_TARGET}."
        )
    from pipeline.cluster.cluster_settings import CompileRequest, split_assignments

    cluster, others = split_assignments(assignments or [])
    request: CompileRequest | KubernetesJob
    if workers is not None:
        options, training = _training(preset, init_from, others)
        from pipeline.cluster.k8s_job import KubernetesJob

        request = KubernetesJob(image, data, root, workers, options, training, cluster)
    else:
        settings, _ = story_settings(preset, init_from, others, encoder, max_reject_fraction)
        request = CompileRequest(image, data, root, settings, cluster)
    # The options are checked before TFX is loaded, which takes seconds.
    from importlib import import_module

    for line in import_module(TARGETS[target]).compile(request, out):
        print(line)
    print(f"compiled   {out}")


def _training(preset: str | None, init_from: str | None, assignments: list[str]) -> tuple[tuple[str, ...], TrainConfig]:
    """Returns the options for `storygan train`, and the training settings that result from them."""
    settings, initial = start_settings(preset, init_from, assignments)
    given = [("--preset", preset), ("--init-from", initial and initial.where), *(("--set", one) for one in assignments)]
    return tuple(str(part) for option in given if option[1] for part in option), settings.training
