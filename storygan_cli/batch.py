"""`storygan batch`: draws any number of stories, each exactly once, on any of Beam's runners."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storygan_cli.model_options import Model, ServedName, Target, TlsCa, VersionLabel, require_model_or_target
from storygan_cli.remote_folders import local_model, require_local_workers
from storygan_cli.runner_options import BeamOptions, BeamRunner, BeamWorkers, beam_arguments
from storygan_tf.common.errors import ConfigError, DataError

if TYPE_CHECKING:
    from serving.batch_generators import GeneratorSource

EPILOG = "Example: storygan batch --model blocks --input stories.jsonl --output runs/batch --beam-workers 2"

_REASONS = 10
"""Number of rejection reasons that are printed; the reject files hold all of them."""


class Layout(str, enum.Enum):
    """Layout of the folder of pictures."""

    files = "files"
    tfrecord = "tfrecord"
    storyviz = "storyviz"
    arldm = "arldm"
    cpcsv = "cpcsv"


def batch(
    stories: Annotated[
        str,
        typer.Option(
            "--input",
            help="File of stories that ends in .jsonl, .parquet, .tfrecord or .gz (TFRecords), or a pattern of such "
            "files.",
        ),
    ],
    output: Annotated[
        str, typer.Option(help="Folder for pictures, manifest and rejects. A repeated call draws only what is missing.")
    ],
    model: Model = None,
    target: Target = None,
    seed: Annotated[
        int, typer.Option(help="A story without a seed gets one that is computed from this number and its story_id.")
    ] = 0,
    layout: Annotated[
        Layout,
        typer.Option(help="Layout of the pictures: files, TFRecords, or one that `storygan evaluate --images` reads."),
    ] = Layout.files,
    split: Annotated[str | None, typer.Option(help="Draw only the stories of this split: train, val or test.")] = None,
    batch_size: Annotated[int, typer.Option(help="Number of stories drawn at the same time.")] = 32,
    concurrency: Annotated[int, typer.Option(help="With --target: number of concurrent requests of each worker.")] = 4,
    served_name: ServedName = "storygan",
    label: VersionLabel = None,
    tls_ca: TlsCa = None,
    beam_runner: BeamRunner = None,
    beam_workers: BeamWorkers = None,
    beam: BeamOptions = None,
) -> None:
    """Draw every story of one or more files exactly once; repeat the call to finish an interrupted one."""
    require_model_or_target(model, target, ConfigError)
    if concurrency < 1:
        raise ConfigError(f"--concurrency {concurrency}: expected at least 1.")
    beam_args = beam_arguments(beam_runner, beam_workers, beam)
    out = output.rstrip("/")
    # Workers may have another working directory.
    absolute_out = out if "://" in out else str(Path(out).absolute())
    require_local_workers(beam_args, model or "")
    with local_model(model) as local:
        source = (
            _local_source(local) if local else _server_source(target or "", served_name, label, concurrency, tls_ca)
        )
        from components.buckets import check_access
        from serving.batch_inference import BatchJob, run_batch

        check_access(stories)
        check_access(out)
        job = BatchJob(stories, absolute_out, source, seed, layout.value, split, batch_size, beam_args=beam_args)
        counts = run_batch(job)
    _print_summary(out, layout, counts)
    if not counts["written"]:
        raise DataError(
            f"--input {stories}: none of {counts['given']} stories could be drawn; {out}/rejects.jsonl says why."
        )


def _local_source(model: str) -> GeneratorSource:
    """Returns a source that loads the SavedModel in each worker."""
    from storygan_tf.common.model_paths import find_model

    path = str(find_model(model))
    from serving.batch_generators import SavedSource

    return SavedSource(path)


def _server_source(target: str, name: str, label: str | None, concurrency: int, tls_ca: Path | None) -> GeneratorSource:
    """Returns a source that sends requests to the version that the server serves now."""
    from serving.batch_generators import ServedSource

    trusted = str(tls_ca) if tls_ca else None
    return ServedSource(target, name, label, concurrency=concurrency, tls_ca=trusted).pinned()


def _print_summary(out: str, layout: Layout, counts: dict[str, Any]) -> None:
    """Prints how many stories were drawn and rejected, and where the results are."""
    print(f"drawn      {counts['written']} of {counts['given']}: {out}/manifest")
    rejected = counts["given"] - counts["written"]
    if rejected:
        print(f"set aside  {rejected}: {out}/rejects.jsonl")
        for reason, count in list(counts["rejected"].items())[:_REASONS]:
            print(f"           {count} x {reason}")
    print(f"pictures   {out}/{'records' if layout is Layout.tfrecord else 'images'}")
