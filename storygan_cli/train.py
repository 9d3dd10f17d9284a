"""`storygan train`: prepared stories to a trained and exported StoryGAN, without TFX, by one worker or several."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from storygan_cli.remote_folders import Folder, is_bucket_uri, read_folder, require_local, synced_folder
from storygan_cli.settings_options import Assignments, Preset, start_settings

if TYPE_CHECKING:
    import tensorflow as tf

    from storygan_tf.training.training_job import TrainingJob

WORKER_LOST = 75
"""Exit code where another worker is gone: a failure that passes when all are started again (EX_TEMPFAIL)."""

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of a training that was stopped by SIGINT, or by SIGTERM here or elsewhere, and saved."""

EPILOG = "Example: storygan train --data runs/quick --out runs/trained --preset quick --set training.seed=2"


def train(
    data: Annotated[
        str,
        typer.Option(
            help="Prepared stories: Split-train, Split-test and vectorizer, or a run directory; s3:// and gs:// are "
            "fetched."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            help="Folder for the model, shared between workers; the same command goes on there. One in a bucket is for "
            "a single worker, and stored every minute."
        ),
    ],
    preset: Preset = None,
    assignments: Assignments = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="auto, one-device, mirrored, multi-worker (TF_CONFIG or a Job names them) or tpu."),
    ] = None,
    init_from: Annotated[
        str | None, typer.Option(help="Model to go on from: a pretrained name, a run, model base or version directory.")
    ] = None,
    xla: Annotated[bool, typer.Option("--xla", help="Compile steps by XLA.")] = False,
    mixed_precision: Annotated[
        bool, typer.Option("--mixed-precision", help="Compute in 16 bits, keep weights in 32.")
    ] = False,
    reconfigure: Annotated[
        bool, typer.Option("--reconfigure", help="Use a folder that was made with other settings or data.")
    ] = False,
) -> None:
    """Train and export a StoryGAN from prepared stories, without TFX, on one device or many."""
    from storygan_tf.data.prepared_data import PreparedData

    if is_bucket_uri(out):
        _check_alone(out)
    with read_folder(data) as stories, synced_folder(out, meanwhile=True) as place:
        prepared = PreparedData.find(stories.path)
        shorthands = _assignments(strategy=strategy, xla=xla or None, mixed_precision=mixed_precision or None)
        settings, initial = start_settings(preset, init_from, [*prepared.settings, *(assignments or []), *shorthands])
        if initial:
            initial.check(settings, prepared.labels)
        from storygan_tf.training.training_job import TrainingJob

        task = TrainingJob(place.path.absolute(), settings, prepared, initial)
        if not task.ended:
            with _exit_codes():
                _run(task, stories, reconfigure)
        exported = task.model
    _tell(task, exported, place)


def _check_alone(out: str) -> None:
    """Refuses a bucket where workers have to share the folder."""
    from storygan_tf.training.distribution import find_worker

    _find_workers()
    worker = find_worker()
    if worker and worker.count > 1:
        require_local(
            "--out", out, f"its {worker.count} workers share it, and one in a bucket is a copy of each worker's"
        )


def _assignments(**given: object) -> list[str]:
    return [f"training.{name}={json.dumps(value)}" for name, value in given.items() if value is not None]


def _run(task: TrainingJob, data: Folder, reconfigure: bool) -> None:
    # First of all: TensorFlow can be joined to other workers only before it computes anything.
    strategy = _join(task.settings.training.strategy)
    from pipeline.run_directory import RunDirectory
    from storygan_tf.training.distribution import is_chief

    vectorizer = None
    if is_chief(strategy):
        RunDirectory.open(task.out, task.settings, data.path, reconfigure, data.name if data.remote else "")
        vectorizer = _vectorizer(task)
    task.run(strategy, vectorizer)


def _join(name: str) -> tf.distribute.Strategy:
    """Makes the strategy; with several workers that waits for all of them."""
    from storygan_tf.training.distribution import find_worker, is_multi_worker, make_strategy

    together = name in ("auto", "multi-worker")
    if together:
        _find_workers()
    worker = find_worker() if together else None
    if worker and worker.count > 1:
        print(f"worker {worker.number + 1} of {worker.count}: joining the chief at {worker.chief}", flush=True)
    strategy = make_strategy(name)
    if is_multi_worker(strategy):
        print(f"joined: {strategy.num_replicas_in_sync} replicas share a batch", flush=True)
    return strategy


def _find_workers() -> None:
    """Sets `TF_CONFIG`, where TensorFlow looks for it, in a pod of an Indexed Job; one that is set stays."""
    from storygan_tf.training.distribution import TF_CONFIG
    from storygan_tf.training.indexed_job import tf_config

    derived = None if os.environ.get(TF_CONFIG) else tf_config(os.environ)
    if derived:
        os.environ[TF_CONFIG] = derived


def _vectorizer(task: TrainingJob) -> Callable[[], tf.Module] | None:
    """Returns what loads the vectorizer; says so now, and not after hours, where there is none."""
    import tensorflow as tf

    from storygan_tf.data.prepared_data import VECTORIZER

    graph, saved = task.prepared.transform_graph, task.prepared.vectorizer
    if saved is None and graph is None:
        print("storygan: warning: the stories have no vectorizer, so that no model will be exported.", file=sys.stderr)
        return None
    if graph is None:
        return lambda: tf.saved_model.load(str(saved))
    from pipeline.vectorizer_export import export_vectorizer

    def make() -> tf.Module:
        export_vectorizer(graph, task.work_dir / VECTORIZER, task.settings)
        return tf.saved_model.load(str(task.work_dir / VECTORIZER))

    return make


def _tell(task: TrainingJob, exported: Path | None, out: Folder) -> None:
    """Says where everything is."""
    print(f"history    {out.display_path(task.out / 'history.json')}")
    print(f"curves     tensorboard --logdir {out.display_path(task.out)}")
    if exported is None:
        print("model      none was exported, as the stories have no vectorizer")
    else:
        print(f"model      {out.display_path(exported)}")
        print(f"draw more  storygan generate --model {out.display_path(task.out)} --out board.png")


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    """Gives the ends that a supervisor has to tell from failures an exit code of their own."""
    from storygan_tf.training.callbacks.interruption import TrainingInterruptedError
    from storygan_tf.training.distribution import WorkerLostError

    try:
        yield
    except WorkerLostError as error:
        _end(error, WORKER_LOST)
    except TrainingInterruptedError as error:
        _end(error, INTERRUPTED if error.signal == "SIGINT" else TERMINATED)


def _end(error: Exception, code: int) -> NoReturn:
    print(f"storygan: {error}", file=sys.stderr)
    raise SystemExit(code) from error
