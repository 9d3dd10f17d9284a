"""Batch inference: draws any number of stories with Beam, each exactly once.

A shard of rows is the unit of work. A worker draws the stories of a shard in batches and writes the pictures to files
whose names depend only on the stories' positions in the input. It writes the shard's part of the manifest last: a shard
with a manifest is complete. So a job that was killed resumes with the shards without a manifest, and a runner that
executes a shard twice writes the same bytes twice. Only shard numbers pass between workers, no stories or pictures.
(Beam's RunInference would pass the pictures to a writing step, and could not skip those that are written already.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from components.beam_options import beam_options
from components.record_files import list_files, read_file, remove_folder, write_file, write_lines
from serving.batch_generators import DrawnStory, GeneratorSource, close_generators, draw_all, open_generator
from serving.batch_input import SHARD_ROWS, DrawTask, InputFiles, RowChecker, from_line, to_line
from serving.batch_output import LAYOUTS, ShardFiles, order_of
from storygan_tf.common.errors import ConfigError, DataError, StoryGANError, nearest
from storygan_tf.common.progress import Advance, progress
from storygan_tf.data.datasets.story import SPLITS, Reject

JOB_FILE = "job.json"
"""File in the output folder with the identity of the job (`BatchJob.identity`); written first."""

COUNTS_FILE = "counts.json"
"""File in the output folder with {given, written, rejected: {reason: n}}; written last."""

REJECTS_FILE = "rejects.jsonl"
"""File in the output folder with a JSON object {story_id, file, reason} per line."""

BATCH = 32
"""Default number of stories in a batch."""

_WORK = "unfinished"
"""Folder in the output while the job is unfinished: the rows and outcome of each shard, and incomplete files."""

_TEMPORARY = f"{_WORK}/aside"
_FAILED = f"{_WORK}/failed"
_PLAN = f"{_WORK}/plan.json"

_PROGRESS_SECONDS = 1.0


class BatchFailedError(StoryGANError):
    """Raised if a batch job fails. Complete shards stay, and the same call resumes the job."""


@dataclasses.dataclass(frozen=True)
class BatchJob:
    """Input, output and settings of a batch job.

    Attributes:
        input_pattern: a file or a pattern of files with stories.
        out: output folder, which all workers can reach.
        source: the model or server that draws.
        seed: base of the seeds of stories without a seed of their own, together with their ids.
        layout: layout of the pictures, one of `LAYOUTS`.
        split: the split to draw; None for all rows.
        batch_size: number of stories drawn at once. Pictures may depend on it by one grey level.
        shard_rows: number of rows in a shard.
        beam_args: Beam's command-line options.

    Raises:
        ConfigError: if a setting cannot be used.
    """

    input_pattern: str
    out: str
    source: GeneratorSource
    seed: int = 0
    layout: str = LAYOUTS[0]
    split: str | None = None
    batch_size: int = BATCH
    shard_rows: int = SHARD_ROWS
    beam_args: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            known = f"{', '.join(LAYOUTS)}{nearest(self.layout, LAYOUTS)}"
            raise ConfigError(f"--layout {self.layout}: expected one of {known}.")
        if self.split is not None and self.split not in SPLITS:
            raise ConfigError(f"--split {self.split}: expected one of {', '.join(SPLITS)}.")
        if self.batch_size < 1:
            raise ConfigError(f"--batch-size {self.batch_size}: expected at least 1.")

    def identity(self, files: InputFiles) -> dict[str, Any]:
        """Returns JSON values that are equal only for jobs with the same output."""
        return {
            "input_sha256": files.sha256(),
            **self.source.identity(),
            **{name: getattr(self, name) for name in ("seed", "layout", "split", "batch_size", "shard_rows")},
        }


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Size of a job, as stored in `plan.json`.

    Attributes:
        given: number of rows.
        shards: number of shards.
    """

    given: int
    shards: int


def run_batch(batch: BatchJob) -> dict[str, Any]:
    """Draws the stories of a job that are not drawn yet.

    Returns:
        The counts of all stories of the job, as in `counts.json`: {given, written, rejected: {reason: n}}.

    Raises:
        ConfigError: if the output folder holds something else, or a job with another input or other settings.
        DataError: if an input file cannot be read, or there is no story.
        BatchFailedError: if drawing fails, for instance because the model cannot be loaded.
    """
    files = InputFiles(batch.input_pattern)
    _claim_output(batch, batch.identity(files))
    if not FileSystems.exists(f"{batch.out}/{COUNTS_FILE}"):
        plan = _make_plan(batch, files)
        missing = _missing_shards(batch, plan)
        if missing:
            _draw(batch, plan, missing)
        _finish(batch, plan)
    remove_folder(f"{batch.out}/{_WORK}")
    return dict(json.loads(read_file(f"{batch.out}/{COUNTS_FILE}")))


def _claim_output(batch: BatchJob, identity: dict[str, Any]) -> None:
    """Writes the job's identity to the output folder, or compares it with the identity that is there."""
    path = f"{batch.out}/{JOB_FILE}"
    if not FileSystems.exists(path):
        if any(file.rpartition("/")[2] != _WORK for file in list_files(f"{batch.out}/*")):
            raise ConfigError(f"--output {batch.out}: holds files that no batch job wrote; give an empty folder.")
        write_file(path, json.dumps(identity, indent=1).encode(), f"{batch.out}/{_TEMPORARY}")
        return
    expected = json.loads(read_file(path))
    for name in identity | expected:
        if expected.get(name) != identity.get(name):
            raise ConfigError(
                f"--output {batch.out}: was begun with another {name} (found {identity.get(name)!r}, expected "
                f"{expected.get(name)!r}, as in {JOB_FILE}); use that one, or give another folder."
            )


def _make_plan(batch: BatchJob, files: InputFiles) -> _Plan:
    """Checks the input and writes it as shards, unless an earlier call has done so."""
    path, temporary = f"{batch.out}/{_PLAN}", f"{batch.out}/{_TEMPORARY}"
    if FileSystems.exists(path):
        return _Plan(**json.loads(read_file(path)))
    entries = RowChecker(batch.seed, batch.split, order_of(batch.layout)).check(files.rows())
    given = shards = 0
    while rows := list(itertools.islice(entries, batch.shard_rows)):
        write_lines(_rows_file(batch.out, shards), map(to_line, rows), temporary)
        given, shards = given + len(rows), shards + 1
    if not given:
        raise DataError(
            f"--input {batch.input_pattern}: found no story{f' of split {batch.split}' if batch.split else ''}."
        )
    plan = _Plan(given, shards)
    write_file(path, json.dumps(dataclasses.asdict(plan)).encode(), temporary)
    return plan


def _rows_file(out: str, shard: int) -> str:
    return f"{out}/{_WORK}/rows-{shard:05d}.jsonl"


def _outcome_file(out: str, shard: int) -> str:
    return f"{out}/{_WORK}/outcome-{shard:05d}.jsonl"


def _missing_shards(batch: BatchJob, plan: _Plan) -> list[int]:
    """Returns the numbers of the shards without a manifest."""
    written = set(list_files(f"{batch.out}/manifest/*.jsonl"))
    files = (ShardFiles(number, plan.shards, batch.layout) for number in range(plan.shards))
    return [shard.number for shard in files if f"{batch.out}/{shard.manifest}" not in written]


def _draw(batch: BatchJob, plan: _Plan, missing: Sequence[int]) -> None:
    """Draws shards with Beam, and raises BatchFailedError if one fails."""
    remove_folder(f"{batch.out}/{_FAILED}")
    try:
        with _show_progress(batch, plan, len(missing)):
            _run_pipeline(batch, plan, missing)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or ["no message"]
        raise BatchFailedError(f"{type(error).__name__}: {lines[-1]}. {_resume_hint(batch, plan)}") from error
    finally:
        close_generators()
    for path in list_files(f"{batch.out}/{_FAILED}/*"):
        raise BatchFailedError(f"{read_file(path).decode()} {_resume_hint(batch, plan)}")


def _run_pipeline(batch: BatchJob, plan: _Plan, missing: Sequence[int]) -> None:
    with beam.Pipeline(options=PipelineOptions(beam_options(batch.beam_args))) as pipeline:
        # Workers write a StoryGANError to a file, because runners change the messages of exceptions.
        _ = (
            pipeline
            | "Shards" >> beam.Create(missing, reshuffle=True)
            | "Draw" >> beam.ParDo(_DrawShard(batch, plan.shards))
        )


def _resume_hint(batch: BatchJob, plan: _Plan) -> str:
    complete = plan.shards - len(_missing_shards(batch, plan))
    return f"{complete} of {plan.shards} parts are written and stay: the same command draws the others."


class _DrawShard(beam.DoFn):
    """Draws the shards whose numbers it receives.

    Args:
        batch: the job.
        shards: number of shards in the job.
    """

    def __init__(self, batch: BatchJob, shards: int) -> None:
        super().__init__()
        self._batch = batch
        self._shards = shards
        self._failed = False

    def process(self, number: int) -> None:
        # One failure fails the job, so this worker skips its other shards.
        if self._failed:
            return
        try:
            _draw_shard(self._batch, ShardFiles(number, self._shards, self._batch.layout))
        except StoryGANError as error:
            self._failed = True
            out = self._batch.out
            write_file(f"{out}/{_FAILED}/{number:05d}", str(error).encode(), f"{out}/{_TEMPORARY}")


def _draw_shard(batch: BatchJob, shard: ShardFiles) -> None:
    """Writes a shard's pictures, then its outcome (count and rejects), then its part of the manifest."""
    out, temporary = batch.out, f"{batch.out}/{_TEMPORARY}"
    rows = [from_line(line) for line in read_file(_rows_file(out, shard.number)).splitlines()]
    rejects = [row for row in rows if isinstance(row, Reject)]
    batches = _batched([row for row in rows if isinstance(row, DrawTask)], batch.batch_size)
    drawn = _split_off_refused(draw_all(open_generator(batch.source), batches), rejects)
    entries = shard.write(out, temporary, drawn, batch.source.version)
    locations = [row.file if isinstance(row, Reject) else row.location for row in rows]
    rejects.sort(key=lambda reject: locations.index(reject.file))
    write_lines(_outcome_file(out, shard.number), [_json_line(len(entries)), *map(to_line, rejects)], temporary)
    write_lines(f"{out}/{shard.manifest}", map(_json_line, entries), temporary)


def _batched(tasks: Sequence[DrawTask], size: int) -> Iterator[Sequence[DrawTask]]:
    return (tasks[start : start + size] for start in range(0, len(tasks), size))


def _split_off_refused(
    drawn: Iterable[tuple[DrawTask, DrawnStory]], rejects: list[Reject]
) -> Iterator[tuple[DrawTask, DrawnStory]]:
    """Yields the stories that were drawn, and adds the refused ones to `rejects`."""
    for task, outcome in drawn:
        if outcome.error:
            rejects.append(Reject(task.story_id, task.location, outcome.error))
        else:
            yield task, outcome


def _json_line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _finish(batch: BatchJob, plan: _Plan) -> None:
    """Writes the rejects of all shards to one file, then the counts."""
    temporary = f"{batch.out}/{_TEMPORARY}"
    outcome = _Outcome(batch.out, plan.shards)
    write_lines(f"{batch.out}/{REJECTS_FILE}", outcome.rejects(), temporary)
    rejected = sum(outcome.reasons.values())
    if outcome.written + rejected != plan.given:
        raise RuntimeError(f"found {outcome.written} stories written and {rejected} rejected, expected {plan.given}.")
    reasons = dict(sorted(outcome.reasons.items(), key=lambda item: (-item[1], item[0])))
    counts = {"given": plan.given, "written": outcome.written, "rejected": reasons}
    write_file(f"{batch.out}/{COUNTS_FILE}", json.dumps(counts, indent=1).encode(), temporary)


class _Outcome:
    """The outcome of all shards.

    Args:
        out: output folder of the job.
        shards: number of shards.

    Attributes:
        written: number of stories drawn; counted while `rejects` is read.
        reasons: number of rejects by reason; counted while `rejects` is read.
    """

    def __init__(self, out: str, shards: int) -> None:
        self._out = out
        self._shards = shards
        self.written = 0
        self.reasons: Counter[str] = Counter()

    def rejects(self) -> Iterator[bytes]:
        """Yields the rejects as lines of JSON, shard by shard, and counts them."""
        for shard in range(self._shards):
            written, *lines = read_file(_outcome_file(self._out, shard)).splitlines(keepends=True)
            self.written += json.loads(written)
            self.reasons.update(Reject(**json.loads(line)).reason for line in lines)
            yield from lines


@contextlib.contextmanager
def _show_progress(batch: BatchJob, plan: _Plan, missing: int) -> Iterator[None]:
    """Shows the number of complete shards while the block runs, counted by their manifests on any runner."""
    ended = threading.Event()
    with progress("drawing", plan.shards, "part", plan.shards - missing) as advance:
        watcher = threading.Thread(target=_report_progress, args=(batch, plan, missing, advance, ended), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _report_progress(batch: BatchJob, plan: _Plan, missing: int, advance: Advance, ended: threading.Event) -> None:
    """Counts the complete shards every `_PROGRESS_SECONDS` until all are, or the job has ended."""
    while missing:
        last = ended.wait(_PROGRESS_SECONDS)
        still_missing = len(_missing_shards(batch, plan))
        if still_missing < missing:
            advance(missing - still_missing)
            missing = still_missing
        if last:
            return
