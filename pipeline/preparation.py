"""Preparation without TFX's orchestration: a folder of stories to prepared ones, on any of Beam's runners.

Two Beam pipelines, of the same code as the pipeline's steps: StoryExampleGen's, and `pipeline.beam_preparation`.
Between them is decided whether too many stories were set aside. What comes of the first is kept, and used again where
nothing changed.
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
from pipeline.examples import example_parts, make_examples
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
"""Below the folder: stories as records, before they have vectors."""

LOG = "prepare.log"

JOBS = 2
"""How often a cluster is given the second job."""

_UNFINISHED = "unfinished"


class PreparationFailedError(StoryGANError):
    """Beam failed; the message ends with the reason."""


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What is to be prepared, and how.

    Attributes:
        data: folder of stories.
        out: folder for prepared stories, which all of Beam's workers share.
        settings: `model`, `data` and `training.init_from` of them are used.
        initial: the model that `training.init_from` names.
        beam_args: Beam's options.
    """

    data: Path
    out: Path
    settings: Settings
    initial: InitialModel | None = None
    beam_args: Sequence[str] = ()

    @property
    def log(self) -> Path:
        """Everything that TFX and Beam logged."""
        return self.out / LOG


def prepare(preparation: Preparation, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Prepares stories, and returns what became of them: `counts.json` of StoryExampleGen.

    `out` then is as `storygan_tf.data.prepared_data` says, with `examples/`, `transform_graph/`, `statistics/`,
    `schema.pbtxt`, `counts.json` and `rejects.jsonl` beside it.

    Args:
        preparation: what, and how.
        report: is given a line for each part.

    Raises:
        ConfigError: for a folder of something else, or settings that do not fit the stories or the encoder.
        DataError: where the data folder is none of stories, or too many of them had to be set aside.
        ModelError: for an encoder that cannot be loaded.
        PreparationFailedError: where Beam failed otherwise.
    """
    out = preparation.out.absolute()
    preparation = dataclasses.replace(preparation, data=preparation.data.absolute(), out=out)
    _check_out(out)
    out.mkdir(parents=True, exist_ok=True)
    examples, parts = out / EXAMPLES, example_parts(preparation.data, preparation.settings)
    with log_to_file(preparation.log), stderr_to_file(preparation.log), _failures(preparation.log):
        report("[1/2] examples: unchanged" if is_up_to_date(examples, parts) else "[1/2] examples")
        build_once(examples, parts, lambda path: _make_examples(preparation, path))
        parts = _parts(preparation, parts)
        report("[2/2] vectors: unchanged" if is_up_to_date(out, parts) else "[2/2] vectors")
        if not is_up_to_date(out, parts):
            _make_prepared(preparation, report)
            write_stamp(out, parts)
    return dict(json.loads((out / COUNTS_FILE).read_text()))


def remove_unfinished(out: Path) -> None:
    """Removes prepared stories that nobody has said to be whole: a copy of which only a part had been stored."""
    if not (out / STAMP).is_file():
        shutil.rmtree(out / TRAIN, ignore_errors=True)


@contextlib.contextmanager
def _failures(log: Path) -> Iterator[None]:
    """Tells what happened within Beam in one line; what a user can mend is told as it is."""
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
    """Keeps a folder of something else from being written into."""
    if (out / TRAIN).exists() and not (out / STAMP).is_file():
        raise ConfigError(f"--out {out}: holds {TRAIN}, which no `storygan prepare` made; give a folder of its own.")
    if (out / "pipeline").exists():
        raise ConfigError(f"--out {out}: is a run directory; give the prepared stories a folder of their own.")


def _parts(preparation: Preparation, examples: dict[str, Any]) -> dict[str, Any]:
    """Returns what prepared stories depend on."""
    return {
        "examples": examples,
        "settings": preparation.settings.to_json(*TRANSFORM_SETTINGS),
        "code": code_fingerprint("pipeline.beam_preparation"),
        "initial": preparation.initial.fingerprint if preparation.initial else "",
    }


def _make_examples(preparation: Preparation, path: Path) -> None:
    rejects = preparation.out / REJECTS_FILE
    make_examples(preparation.data, preparation.settings, path, rejects, preparation.beam_args)


def _add_vectors(preparation: Preparation, aside: Path, report: Callable[[str], None]) -> None:
    """Submits the second job, and on a cluster once more where it failed.

    A cluster starts again what a lost machine ran. But Transform cannot start again in a process that it ran in
    already, as may be where Python runs in this one; then it takes another job.
    """
    options = beam_options(preparation.beam_args)
    attempts = 1 if f"--runner={FN_API_RUNNER}" in options else JOBS
    initial = preparation.initial.fingerprint if preparation.initial else ""
    for attempt in range(1, attempts + 1):
        shutil.rmtree(aside, ignore_errors=True)
        try:
            add_vectors(
                str(preparation.out / EXAMPLES),
                str(aside),
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
            report(f"[2/2] vectors: the job failed (details in {preparation.log}), submitted once more")


def _make_prepared(preparation: Preparation, report: Callable[[str], None]) -> None:
    """Makes everything aside, and gives it its place; the training stories last, without which nobody takes it."""
    out, examples = preparation.out, preparation.out / EXAMPLES
    aside = out / _UNFINISHED
    _add_vectors(preparation, aside, report)
    write_atomically(
        aside / SETTINGS, json.dumps({"settings": json.loads(preparation.settings.to_json())}, indent=1).encode()
    )
    for name in (LABELS_FILE, COUNTS_FILE):
        write_atomically(aside / name, (examples / name).read_bytes())
    (out / STAMP).unlink(missing_ok=True)
    splits = sorted(path.name for path in aside.glob("Split-*"))
    for old in {TRAIN, *(path.name for path in out.glob("Split-*"))}:
        shutil.rmtree(out / old, ignore_errors=True)
    beside = (VECTORIZER, GRAPH, STATISTICS, SCHEMA_FILE, SETTINGS, LABELS_FILE, COUNTS_FILE)
    for name in (*beside, *sorted(splits, key=lambda split: split == TRAIN)):
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        (aside / name).replace(out / name)
    shutil.rmtree(aside)
