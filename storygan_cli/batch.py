"""`storygan batch`: any number of stories to pictures, each exactly once, on any of Beam's runners."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storygan_cli.remote_folders import local_model, require_local_workers
from storygan_cli.runner_options import BeamOptions, BeamRunner, BeamWorkers, beam_arguments
from storygan_tf.common.errors import ConfigError, DataError

if TYPE_CHECKING:
    from serving.batch_generators import GeneratorSource

EPILOG = "Example: storygan batch --model blocks --input stories.jsonl --output runs/batch --beam-workers 2"

_REASONS = 10
"""Reasons told; the others are in the files."""


class Layout(str, enum.Enum):
    """How pictures are laid out."""

    files = "files"
    tfrecord = "tfrecord"
    storyviz = "storyviz"
    arldm = "arldm"
    cpcsv = "cpcsv"


def batch(
    given: Annotated[
        str,
        typer.Option(
            "--input", help="Stories: a file that ends in .jsonl, .parquet, .tfrecord or .gz (TFRecords), or a pattern."
        ),
    ],
    output: Annotated[
        str, typer.Option(help="Folder for pictures, manifest and rejects; a killed call goes on in it.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="A pretrained name, a run directory, a model base directory or a version directory."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Instead of --model: host:port of a server's gRPC.")] = None,
    seed: Annotated[
        int, typer.Option(help="Stories without a seed of their own get one of this and their story_id.")
    ] = 0,
    layout: Annotated[
        Layout, typer.Option(help="Of the pictures: files, records, or what storygan evaluate --images reads.")
    ] = Layout.files,
    split: Annotated[str | None, typer.Option(help="Draw the stories of one split: train, val or test.")] = None,
    batch_size: Annotated[int, typer.Option(help="Stories that are drawn at a time.")] = 32,
    concurrency: Annotated[int, typer.Option(help="With --target: requests under way at a time, for a worker.")] = 4,
    served_name: Annotated[str, typer.Option(help="With --target: the model's name there.")] = "storygan",
    label: Annotated[str | None, typer.Option(help="With --target: a version label, such as canary.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="With --target: use TLS, and trust the certificates in this PEM file.")
    ] = None,
    beam_runner: BeamRunner = None,
    beam_workers: BeamWorkers = None,
    beam: BeamOptions = None,
) -> None:
    """Draw every story of some files, once; the same call again draws what is missing."""
    if (model is None) == (target is None):
        raise ConfigError(
            f"--model and --target: found {'neither' if model is None else 'both'}, expected one of them."
        )
    if concurrency < 1:
        raise ConfigError(f"--concurrency {concurrency}: expected at least 1.")
    beam_args = beam_arguments(beam_runner, beam_workers, beam)
    out = output.rstrip("/")
    # Workers may have another working directory.
    place = out if "://" in out else str(Path(out).absolute())
    require_local_workers(beam_args, model or "")
    with local_model(model) as saved:
        source = _saved(saved) if saved else _served(target or "", served_name, label, concurrency, tls_ca)
        from components.buckets import check_access
        from serving.batch_inference import BatchJob, run_batch

        check_access(given)
        check_access(out)
        counts = run_batch(BatchJob(given, place, source, seed, layout.value, split, batch_size, beam_args=beam_args))
    _tell(out, layout, counts)
    if not counts["written"]:
        raise DataError(
            f"--input {given}: none of {counts['given']} stories could be drawn; {out}/rejects.jsonl says why."
        )


def _saved(model: str) -> GeneratorSource:
    from storygan_tf.common.model_paths import find_model

    path = str(find_model(model))
    from serving.batch_generators import SavedSource

    return SavedSource(path)


def _served(target: str, name: str, label: str | None, concurrency: int, tls_ca: Path | None) -> GeneratorSource:
    from serving.batch_generators import ServedSource

    trusted = str(tls_ca) if tls_ca else None
    return ServedSource(target, name, label, concurrency=concurrency, tls_ca=trusted).pinned()


def _tell(out: str, layout: Layout, counts: dict[str, Any]) -> None:
    """Says what became of the stories."""
    print(f"drawn      {counts['written']} of {counts['given']}: {out}/manifest")
    aside = counts["given"] - counts["written"]
    if aside:
        print(f"set aside  {aside}: {out}/rejects.jsonl")
        for reason, count in list(counts["rejected"].items())[:_REASONS]:
            print(f"           {count} x {reason}")
    print(f"pictures   {out}/{'records' if layout is Layout.tfrecord else 'images'}")
