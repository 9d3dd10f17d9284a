"""Prepares a folder of stories for training without TFX's orchestration, on any runner of Beam.

It runs two Beam pipelines: that of StoryExampleGen, and `pipeline.beam_preparation`, which computes the same vectors as
the pipeline's Transform step. The first one fails if too many stories are rejected. Its output is kept and used again
by later calls as long as its inputs do not change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions

from components.beam_options import FN_API_RUNNER, beam_options
from pipeline.beam_preparation import GRAPH, SCHEMA_FILE, STATISTICS, add_vectors
from pipeline.code_fingerprint import code_fingerprint
from pipeline.examples import example_dependencies, make_examples
from pipeline.log_file import log_to_file, stderr_to_file
from pipeline.step_inputs import TRANSFORM_SETTINGS
from storygan_tf.common.atomic_files import write_atomically
from storygan_tf.common.cache import STAMP, build_once, is_up_to_date, write_stamp
from storygan_tf.common.errors import ConfigError, StoryGANError
from storygan_tf.config.schema import Settings
from storygan_tf.data.example_schema import COUNTS_FILE, LABELS_FILE, REJECTS_FILE
from storygan_tf.data.prepared_data import SETTINGS, TRAIN, VECTORIZER
from storygan_tf.training.warm_start import InitialModel

EXAMPLES = "examples"
"""Folder below `Preparation.out` of the stories as records without vectors."""

LOG = "prepare.log"

CLUSTER_ATTEMPTS = 2
"""Number of times that the second job is submitted to a cluster before the preparation fails."""

_TEMP_DIR = "unfinished"


class PreparationFailedError(StoryGANError):
    """Beam failed. The message ends with the reason."""


@dataclasses.dataclass(frozen=True)
class Preparation:
    """The arguments of a preparation.

    Attributes:
        data: folder of stories.
        out: folder for prepared stories, which all workers of Beam share.
        settings: `model`, `data` and `training.init_from` are used.
        initial: the model in `training.init_from`, or None if that is empty.
        beam_args: options for Beam.
    """

    data: Path
    out: Path
    settings: Settings
    initial: InitialModel | None = None
    beam_args: Sequence[str] = ()

    @property
    def log(self) -> Path:
        """Log file of TFX and Beam."""
        return self.out / LOG


def prepare(preparation: Preparation, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Prepares stories for training.

    Writes the files that `storygan_tf.data.prepared_data` describes into `preparation.out`, and `examples/`,
    `transform_graph/`, `statistics/`, `schema.pbtxt`, `counts.json` and `rejects.jsonl`.

    Args:
        preparation: the stories, the output folder and the settings.
        report: called with a line of text for each of the two parts.

    Returns:
        The content of `counts.json`: the numbers of stories that StoryExampleGen accepted and rejected.

    Raises:
        ConfigError: if the output folder has other content, or if the settings do not fit the stories or the encoder.
        DataError: if the data folder does not contain stories, or if too many of them are rejected.
        ModelError: if the encoder cannot be loaded.
        PreparationFailedError: if Beam fails for another reason.
    """
    out = preparation.out.absolute()
    preparation = dataclasses.replace(preparation, data=preparation.data.absolute(), out=out)
    _check_out(out)
    out.mkdir(parents=True, exist_ok=True)
    examples, parts = out / EXAMPLES, example_dependencies(preparation.data, preparation.settings)
    with log_to_file(preparation.log), stderr_to_file(preparation.log), _beam_failures(preparation.log):
        report("[1/2] examples: unchanged" if is_up_to_date(examples, parts) else "[1/2] examples")
        build_once(examples, parts, lambda path: _make_examples(preparation, path))
        parts = _vector_dependencies(preparation, parts)
        report("[2/2] vectors: unchanged" if is_up_to_date(out, parts) else "[2/2] vectors")
        if not is_up_to_date(out, parts):
            _write_prepared(preparation, report)
            write_stamp(out, parts)
    return dict(json.loads((out / COUNTS_FILE).read_text()))


def remove_unfinished(out: Path) -> None:
    """Removes the training stories of an incomplete copy of prepared stories, which has no stamp."""
    if not (out / STAMP).is_file():
        shutil.rmtree(out / TRAIN, ignore_errors=True)


@contextlib.contextmanager
def _beam_failures(log: Path) -> Iterator[None]:
    """Raises errors within Beam as PreparationFailedError, with a message of one line.

    Errors of the project, which users can correct themselves, are raised unchanged.
    """
    try:
        yield
    except StoryGANError:
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("preparation failed")
        lines = [line for line in str(error).splitlines() if line.strip()] or ["no message"]
        raise PreparationFailedError(
            f"preparation failed (details in {log}). {type(error).__name__}: {lines[-1]}"
        ) from error


def _check_out(out: Path) -> None:
    """Raises ConfigError if `out` contains something other than prepared stories."""
    if (out / TRAIN).exists() and not (out / STAMP).is_file():
        raise ConfigError(
            f"--out {out}: contains {TRAIN}, which `storygan prepare` did not write; choose another folder."
        )
    if (out / "pipeline").exists():
        raise ConfigError(f"--out {out}: is a run directory; choose another folder for the prepared stories.")


def _vector_dependencies(preparation: Preparation, examples: dict[str, Any]) -> dict[str, Any]:
    """Returns what prepared stories depend on, given what their records depend on."""
    return {
        "examples": examples,
        "settings": preparation.settings.to_json(*TRANSFORM_SETTINGS),
        "code": code_fingerprint("pipeline.beam_preparation"),
        "initial": preparation.initial.fingerprint if preparation.initial else "",
    }


def _make_examples(preparation: Preparation, path: Path) -> None:
    rejects = preparation.out / REJECTS_FILE
    make_examples(preparation.data, preparation.settings, path, rejects, preparation.beam_args)


def _add_vectors(preparation: Preparation, temp_dir: Path, report: Callable[[str], None]) -> None:
    """Submits the second job, and on a cluster submits it once more if it fails.

    A cluster restarts the work of a lost machine by itself. But Transform cannot run twice in the same process, as
    happens if the cluster restarts the work there; then only another job helps.
    """
    options = beam_options(preparation.beam_args)
    attempts = 1 if f"--runner={FN_API_RUNNER}" in options else CLUSTER_ATTEMPTS
    initial = preparation.initial.fingerprint if preparation.initial else ""
    for attempt in range(1, attempts + 1):
        shutil.rmtree(temp_dir, ignore_errors=True)
        try:
            add_vectors(
                str(preparation.out / EXAMPLES),
                str(temp_dir),
                preparation.settings,
                initial,
                lambda: Pipeline(options=PipelineOptions(options)),
            )
            return
        except StoryGANError:
            raise
        except Exception:
            if attempt == attempts:
                raise
            logging.getLogger(__name__).exception("job %d of %d failed", attempt, attempts)
            report(f"[2/2] vectors: the job failed (details in {preparation.log}), submitting it once more")


def _write_prepared(preparation: Preparation, report: Callable[[str], None]) -> None:
    """Writes everything into a temporary folder, then moves it into place.

    The training stories are moved last: a folder without them does not count as prepared.
    """
    out, examples = preparation.out, preparation.out / EXAMPLES
    temp_dir = out / _TEMP_DIR
    _add_vectors(preparation, temp_dir, report)
    write_atomically(
        temp_dir / SETTINGS, json.dumps({"settings": json.loads(preparation.settings.to_json())}, indent=1).encode()
    )
    for name in (LABELS_FILE, COUNTS_FILE):
        write_atomically(temp_dir / name, (examples / name).read_bytes())
    (out / STAMP).unlink(missing_ok=True)
    splits = sorted(path.name for path in temp_dir.glob("Split-*"))
    for old in {TRAIN, *(path.name for path in out.glob("Split-*"))}:
        shutil.rmtree(out / old, ignore_errors=True)
    other = (VECTORIZER, GRAPH, STATISTICS, SCHEMA_FILE, SETTINGS, LABELS_FILE, COUNTS_FILE)
    for name in (*other, *sorted(splits, key=lambda split: split == TRAIN)):
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        (temp_dir / name).replace(out / name)
    shutil.rmtree(temp_dir)
