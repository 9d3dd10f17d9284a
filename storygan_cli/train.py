"""`storygan train`: trains and exports a StoryGAN from prepared stories, without TFX, in one or several workers."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from storygan_cli.remote_folders import LocalFolder, in_bucket, read_folder, require_local, synced_folder
from storygan_cli.settings_options import Assignments, InitFrom, Preset, start_settings

if TYPE_CHECKING:
    import tensorflow as tf

    from storygan_tf.training.training_job import TrainingJob

WORKER_LOST = 75
"""Exit code after the loss of another worker: a temporary failure (EX_TEMPFAIL) that restarting all workers mends."""

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of a training that was saved and stopped by SIGINT or SIGTERM, received by this worker or another."""

EPILOG = "Example: storygan train --data runs/quick --out runs/trained --preset quick --set training.seed=2"


def train(
    data: Annotated[
        str,
        typer.Option(
            help="Prepared stories: a folder with Split-train, Split-test and vectorizer, or a run directory. It may "
            "be in a bucket (s3:// or gs://)."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            help="Folder for the model, which all workers share. Repeat the command to continue there. A folder in a "
            "bucket works with a single worker only, and is stored every minute."
        ),
    ],
    preset: Preset = None,
    assignments: Assignments = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="Devices to train on: auto, one-device, mirrored, multi-worker (TF_CONFIG or a Kubernetes Job names "
            "the workers) or tpu."
        ),
    ] = None,
    init_from: InitFrom = None,
    xla: Annotated[bool, typer.Option("--xla", help="Compile training steps with XLA.")] = False,
    mixed_precision: Annotated[
        bool, typer.Option("--mixed-precision", help="Compute in 16 bits and keep weights in 32 bits.")
    ] = False,
    reconfigure: Annotated[
        bool, typer.Option("--reconfigure", help="Use a folder that was created with other settings or data.")
    ] = False,
) -> None:
    """Train and export a StoryGAN from prepared stories, without TFX, on one device or many."""
    from storygan_tf.data.prepared_data import PreparedData

    if in_bucket(out):
        _require_single_worker(out)
    with read_folder(data) as stories, synced_folder(out, periodically=True) as folder:
        prepared = PreparedData.find(stories.path)
        shorthands = _training_assignments(strategy=strategy, xla=xla or None, mixed_precision=mixed_precision or None)
        settings, initial = start_settings(preset, init_from, [*prepared.settings, *(assignments or []), *shorthands])
        if initial:
            initial.check(settings, prepared.labels)
        from storygan_tf.training.training_job import TrainingJob

        job = TrainingJob(folder.path.absolute(), settings, prepared, initial)
        if not job.ended:
            with _exit_codes():
                _run(job, stories, reconfigure)
        exported = job.model
    _print_summary(job, exported, folder)


def _require_single_worker(out: str) -> None:
    """Checks that a training whose output is in a bucket has one worker, because workers cannot share a local copy.

    Raises:
        ConfigError: if there are several workers.
    """
    from storygan_tf.training.distribution import find_worker

    _find_workers()
    worker = find_worker()
    if worker and worker.count > 1:
        require_local(
            "--out", out, f"its {worker.count} workers share it, and each would have a copy of its own of the bucket"
        )


def _training_assignments(**values: object) -> list[str]:
    """Returns assignments such as `training.xla=true` for the values that are not None."""
    return [f"training.{name}={json.dumps(value)}" for name, value in values.items() if value is not None]


def _run(job: TrainingJob, data: LocalFolder, reconfigure: bool) -> None:
    """Runs the training; the chief also claims the run directory and loads the vectorizer."""
    # Must come first: TensorFlow can be connected to other workers only before it computes anything.
    strategy = _make_strategy(job.settings.training.strategy)
    from pipeline.run_directory import RunDirectory
    from storygan_tf.training.distribution import is_chief

    vectorizer = None
    if is_chief(strategy):
        RunDirectory.open(job.out, job.settings, data.path, reconfigure, data.name if data.remote else "")
        vectorizer = _vectorizer_loader(job)
    job.run(strategy, vectorizer)


def _make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy; with several workers it waits until all of them have started."""
    from storygan_tf.training.distribution import find_worker, is_multi_worker, make_strategy

    worker = None
    if name in ("auto", "multi-worker"):
        _find_workers()
        worker = find_worker()
    if worker and worker.count > 1:
        print(f"worker {worker.number + 1} of {worker.count}: joining the chief at {worker.chief}", flush=True)
    strategy = make_strategy(name)
    if is_multi_worker(strategy):
        print(f"joined: {strategy.num_replicas_in_sync} replicas share a batch", flush=True)
    return strategy


def _find_workers() -> None:
    """Sets the environment variable `TF_CONFIG` in a pod of an Indexed Job, unless it is set already."""
    from storygan_tf.training.distribution import TF_CONFIG
    from storygan_tf.training.indexed_job import tf_config

    derived = None if os.environ.get(TF_CONFIG) else tf_config(os.environ)
    if derived:
        os.environ[TF_CONFIG] = derived


def _vectorizer_loader(job: TrainingJob) -> Callable[[], tf.Module] | None:
    """Returns a function that loads the vectorizer, or prints a warning and returns None if there is none."""
    import tensorflow as tf

    from storygan_tf.data.prepared_data import VECTORIZER

    graph, saved = job.prepared.transform_graph, job.prepared.vectorizer
    if saved is None and graph is None:
        print("storygan: warning: the stories have no vectorizer, so that no model will be exported.", file=sys.stderr)
        return None
    if graph is None:
        return lambda: tf.saved_model.load(str(saved))
    from pipeline.vectorizer_export import export_vectorizer

    def export_and_load() -> tf.Module:
        export_vectorizer(graph, job.work_dir / VECTORIZER, job.settings)
        return tf.saved_model.load(str(job.work_dir / VECTORIZER))

    return export_and_load


def _print_summary(job: TrainingJob, exported: Path | None, out: LocalFolder) -> None:
    """Prints where the history, the curves and the model are."""
    print(f"history    {out.display_path(job.out / 'history.json')}")
    print(f"curves     tensorboard --logdir {out.display_path(job.out)}")
    if exported is None:
        print("model      none was exported, as the stories have no vectorizer")
    else:
        print(f"model      {out.display_path(exported)}")
        print(f"draw more  storygan generate --model {out.display_path(job.out)} --out board.png")


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    """Ends the process with exit codes that let a supervisor recognise a lost worker and an interruption."""
    from storygan_tf.training.callbacks.interruption import TrainingInterruptedError
    from storygan_tf.training.distribution import WorkerLostError

    try:
        yield
    except WorkerLostError as error:
        _end(error, WORKER_LOST)
    except TrainingInterruptedError as error:
        _end(error, INTERRUPTED if error.signal == "SIGINT" else TERMINATED)


def _end(error: Exception, code: int) -> NoReturn:
    """Prints the error and ends the process."""
    print(f"storygan: {error}", file=sys.stderr)
    raise SystemExit(code) from error
