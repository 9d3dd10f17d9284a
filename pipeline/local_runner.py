"""Runs the pipeline on this machine, with TFX's LocalDagRunner and ML Metadata in sqlite, in one run directory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.utils import path_utils

from components.beam_options import beam_options
from pipeline import compat
from pipeline.code_fingerprint import code_fingerprint
from pipeline.evaluation_inputs import EvaluationInputs, judge_fingerprint, networks_fingerprint
from pipeline.log_file import log_to_file
from pipeline.pipeline import PIPELINE_NAME, STEP_MODULES, RunInfo, create_pipeline
from pipeline.push_destination import PushDestination
from pipeline.run_directory import RunDirectory
from storygan_tf.common.errors import StoryGANError
from storygan_tf.config import presets
from storygan_tf.data.datasets import open_configured
from storygan_tf.data.datasets.data_fingerprint import data_fingerprint
from storygan_tf.export.lineage import lock_fingerprint, packages_fingerprint
from storygan_tf.reporting.evaluation_files import KEPT_FILES
from storygan_tf.training.callbacks.interruption import TrainingInterruptedError
from storygan_tf.training.trainer import HISTORY, TENSORBOARD
from storygan_tf.training.warm_start import InitialModel, configured_initial_model


class StepFailedError(StoryGANError):
    """A step of the pipeline failed. The message ends with the step's name and the reason."""


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        run_dir: the run directory.
        pushed: directory of the pushed version, or None if the model was not pushed.
        verdicts: the reasons of StoryEvaluator and ServingCheck for their decisions, including thresholds.
    """

    run_dir: Path
    pushed: Path | None
    verdicts: tuple[str, ...]


def run_pipeline(
    run: RunDirectory, *, beam_args: Sequence[str] = (), report: Callable[[str], None] = print
) -> RunResult:
    """Runs the whole pipeline; steps whose inputs are unchanged since an earlier run come from the cache.

    Args:
        run: the run directory, with the data and the settings of the run.
        beam_args: options for Beam; the runner is FnApiRunner unless they contain another.
        report: called with a line of text when a step starts and when it ends.

    Raises:
        ConfigError: if the training cannot start from the model in `training.init_from`.
        DataError: if the data folder does not contain stories.
        ModelError: if the model in `training.init_from`, a judge or a network cannot be loaded.
        StepFailedError: if a step fails.
        TrainingInterruptedError: after SIGTERM or SIGINT during training, when the training has been saved.
    """
    data = data_fingerprint(run.data, run.data_digests)
    labels = open_configured(run.data, run.settings.data).label_names or ()
    initial = configured_initial_model(run.settings, labels)
    if initial:
        report(initial.description)
    destination = PushDestination.from_run(run, _run_fingerprint(run, data, initial))
    pipeline = create_pipeline(
        settings=run.settings,
        data_dir=str(run.data),
        pipeline_root=str(run.pipeline_root),
        serving_dir=str(run.serving),
        work_dir=str(run.work),
        metadata_path=str(run.metadata),
        data_fingerprint=data,
        label_names=labels,
        initial_fingerprint=initial.fingerprint if initial else "",
        judge_fingerprint=judge_fingerprint(run.settings.evaluation),
        inputs_fingerprint=f"{destination.key} {networks_fingerprint(run.settings.evaluation)}".strip(),
        rejects_path=str(run.rejects),
        run_info=_run_info(run, initial),
        beam_pipeline_args=beam_options(beam_args),
    )
    steps = _StepReporter([component.id for component in pipeline.components], report)
    with log_to_file(run.log, steps):
        try:
            LocalDagRunner().run(pipeline)
        except TrainingInterruptedError:
            raise
        except Exception as error:
            logging.getLogger(__name__).exception("step %s failed", steps.current)
            reason = error if isinstance(error, StoryGANError) else f"{type(error).__name__}: {error}"
            raise StepFailedError(
                f"step {steps.current} failed (details in {run.log}). {steps.current}: {reason}"
            ) from error
    compat.remove_beam_leftovers(run.pipeline_root)
    outputs = RunOutputs(run.metadata)
    pushed = _pushed(outputs)
    destination.save(run, pushed)
    _copy_results(run, outputs)
    return RunResult(run.path, pushed, tuple(_verdicts(outputs)))


def _run_fingerprint(run: RunDirectory, data: str, initial: InitialModel | None) -> str:
    """Returns a fingerprint of everything that the model of a run depends on."""
    parts = [run.settings.to_json(), data, code_fingerprint(*STEP_MODULES.values())]
    parts += [initial.fingerprint] if initial else []
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _run_info(run: RunDirectory, initial: InitialModel | None) -> RunInfo:
    """Returns the commands that repeat and use the run, and its environment, for the report."""
    preset = run.settings.preset
    changed = " ".join(f"--set {shlex.quote(change)}" for change in run.settings.changes(presets.load(preset)))
    return RunInfo(
        commands={
            "repeat": f"storygan run --data {run.data} --out {run.path} --preset {preset} {changed}".strip(),
            "draw a story": f"storygan generate --model {run.path} --out board.png",
            "judge a model again": f"storygan evaluate --model {run.path} --data {run.data} --out DIR",
            "watch the training": f"tensorboard --logdir {run.path}",
        },
        environment={"lock": lock_fingerprint(), "packages": packages_fingerprint()},
        initial=initial.lineage_entry() if initial else {},
    )


class _StepReporter(logging.Handler):
    """Log handler that reports each step of a run when it starts and when it ends.

    Attributes:
        names: names of all steps, in their order.
        current: name of the step that started last.
    """

    def __init__(self, names: Sequence[str], report: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self.names = list(names)
        self.current = "preparation"
        self._report = report
        self._began = 0.0
        self._cached = False

    def emit(self, record: logging.LogRecord) -> None:
        """Reports the step that a log record is about; ignores all other records."""
        state, step = compat.read_step_state(record) or (None, "")
        if state is compat.StepState.STARTED:
            self.current = step
            self._began, self._cached = time.monotonic(), False
            self._report(f"{self._count()} {self.current}")
        elif state is compat.StepState.CACHED:
            self._cached = True
        elif state is compat.StepState.FINISHED:
            how = "unchanged, from the cache" if self._cached else f"done in {time.monotonic() - self._began:.0f} s"
            self._report(f"{self._count()} {self.current}: {how}")

    def _count(self) -> str:
        """Returns the number of the current step of all steps, such as `[3/10]`."""
        return f"[{self.names.index(self.current) + 1}/{len(self.names)}]"


def _copy_results(run: RunDirectory, outputs: RunOutputs) -> None:
    """Copies the results for people from the newest artifacts to fixed paths in the run directory."""
    evaluation = Path(outputs.newest("StoryEvaluator", "evaluation").uri)
    model_run = Path(outputs.newest("Trainer", "model_run").uri)
    for name in KEPT_FILES:
        shutil.copyfile(evaluation / name, run.path / name)
    shutil.copyfile(model_run / HISTORY, run.path / HISTORY)
    shutil.rmtree(run.path / TENSORBOARD, ignore_errors=True)
    shutil.copytree(model_run / TENSORBOARD, run.path / TENSORBOARD)
    _evaluation_inputs(run, outputs).save(run.evaluation_inputs)


def _pushed(outputs: RunOutputs) -> Path | None:
    """Returns the directory of the pushed version, or None if the model was not pushed."""
    pushed = outputs.newest("Pusher", "pushed_model").custom_properties
    return Path(pushed["pushed_destination"].string_value) if pushed["pushed"].int_value else None


def _evaluation_inputs(run: RunDirectory, outputs: RunOutputs) -> EvaluationInputs:
    """Returns the inputs by which a comparison of runs can repeat the evaluation."""
    return EvaluationInputs(
        examples=outputs.newest("StoryExampleGen", "examples").uri,
        judge=outputs.newest("JudgeTrainer", "judge").uri,
        model=path_utils.serving_model_path(outputs.newest("Trainer", "model").uri),
        settings=json.loads(run.settings.to_json()),
    )


def _verdicts(outputs: RunOutputs) -> Iterator[str]:
    for step in ("StoryEvaluator", "ServingCheck"):
        properties = outputs.newest(step, "blessing").custom_properties
        if "reason" in properties and properties["reason"].string_value:
            yield f"{step}: {properties['reason'].string_value}"


class RunOutputs:
    """Reads executions and artifacts of a run directory from ML Metadata.

    Args:
        path: the sqlite file of the run directory.
    """

    def __init__(self, path: Path) -> None:
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(path)
        config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
        self._store = metadata_store.MetadataStore(config)

    def newest(self, step: str, key: str) -> metadata_store_pb2.Artifact:
        """Returns output `key` of the newest complete or cached execution of a step.

        Raises:
            KeyError: if the step has no such output.
        """
        artifact = compat.output_artifact(self._store, self.executions(step)[-1].id, key)
        if artifact is None:
            raise KeyError(f"step {step} has no output {key!r}.")
        return artifact

    def runs(self, step: str) -> list[str]:
        """Returns the ids of the pipeline runs of a step's complete and cached executions, oldest first."""
        return [
            name for execution in self.executions(step) for name in compat.pipeline_run_ids(self._store, execution.id)
        ]

    def executions(self, step: str) -> list[metadata_store_pb2.Execution]:
        """Returns the complete and cached executions of a step, oldest first."""
        return compat.step_executions(self._store, PIPELINE_NAME, step)
