"""Batch inference: any number of stories to pictures, on Beam, each exactly once.

A shard of rows is the unit of work. A worker draws its stories a batch at a time and writes their pictures to names
that follow from their places alone; the shard's part of the manifest is written last, and where it stands the shard is
whole. So a job that was killed goes on with the shards that have none, and a runner that does a shard twice writes the
same bytes twice. Neither pictures nor stories pass between workers: what does are numbers of shards. (Beam's
RunInference would pass pictures on to a step that writes them, and know nothing of what is written already.)
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
"""In the output: what it is made of; written first."""

COUNTS_FILE = "counts.json"
"""In the output: {given, written, rejected: {reason: n}}; written last."""

REJECTS_FILE = "rejects.jsonl"
"""In the output: a JSON object {story_id, file, reason} a line."""

BATCH = 32
"""Stories that are drawn at a time."""

_WORK = "unfinished"
"""In the output, while there is work: the shards to draw, what became of each, and what is not whole yet."""

_ASIDE = f"{_WORK}/aside"
_FAILED = f"{_WORK}/failed"
_PLAN = f"{_WORK}/plan.json"

_LOOK_SECONDS = 1.0


class BatchFailedError(StoryGANError):
    """A batch could not be finished; what is written stays, and the same call goes on."""


@dataclasses.dataclass(frozen=True)
class BatchJob:
    """What is to be drawn, and how.

    Attributes:
        given: a file or a pattern of files with stories.
        out: folder for everything that comes of it, which all workers share.
        source: who draws.
        seed: stories without one get a seed of this and their id.
        layout: how pictures are laid out, one of `LAYOUTS`.
        split: whose stories are drawn; None for all rows.
        batch_size: stories that are drawn at a time. Pictures may depend on it by a grey level.
        shard_rows: rows that a worker draws and writes as a whole.
        beam_args: Beam's options.
    """

    given: str
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
        """Returns what must be the same for the output to be the same: JSON values."""
        return {
            "input_sha256": files.sha256(),
            **self.source.identity(),
            **{name: getattr(self, name) for name in ("seed", "layout", "split", "batch_size", "shard_rows")},
        }


@dataclasses.dataclass(frozen=True)
class _Plan:
    """How much there is to do.

    Attributes:
        given: rows.
        shards: that they are cut into.
    """

    given: int
    shards: int


def run_batch(batch: BatchJob) -> dict[str, Any]:
    """Draws every story that is not drawn yet, and returns what became of all: `counts.json`.

    Raises:
        ConfigError: for an output folder of something else, or of a batch with other inputs or settings.
        DataError: for files that cannot be read, or that hold no story.
        BatchFailedError: where drawing failed, as where a model or a server does not do what it should.
    """
    files = InputFiles(batch.given)
    _begin(batch, batch.identity(files))
    if not FileSystems.exists(f"{batch.out}/{COUNTS_FILE}"):
        plan = _planned(batch, files)
        missing = _missing(batch, plan)
        if missing:
            _draw(batch, plan, missing)
        _finish(batch, plan)
    remove_folder(f"{batch.out}/{_WORK}")
    return dict(json.loads(read_file(f"{batch.out}/{COUNTS_FILE}")))


def _begin(batch: BatchJob, told: dict[str, Any]) -> None:
    """Notes what the output is made of, or compares it with what is noted there."""
    path = f"{batch.out}/{JOB_FILE}"
    if not FileSystems.exists(path):
        if any(found.rpartition("/")[2] != _WORK for found in list_files(f"{batch.out}/*")):
            raise ConfigError(f"--output {batch.out}: holds something that no batch left; give a folder of its own.")
        write_file(path, json.dumps(told, indent=1).encode(), f"{batch.out}/{_ASIDE}")
        return
    before = json.loads(read_file(path))
    for name in told | before:
        if before.get(name) != told.get(name):
            raise ConfigError(
                f"--output {batch.out}: was begun with another {name} (found {told.get(name)!r}, expected "
                f"{before.get(name)!r}, as in {JOB_FILE}); go on with that one, or give another folder."
            )


def _planned(batch: BatchJob, files: InputFiles) -> _Plan:
    """Cuts the input into shards, unless that is done."""
    path, aside = f"{batch.out}/{_PLAN}", f"{batch.out}/{_ASIDE}"
    if FileSystems.exists(path):
        return _Plan(**json.loads(read_file(path)))
    entries = RowChecker(batch.seed, batch.split, order_of(batch.layout)).checked(files.rows())
    given = shards = 0
    while rows := list(itertools.islice(entries, batch.shard_rows)):
        write_lines(_rows_file(batch.out, shards), map(to_line, rows), aside)
        given, shards = given + len(rows), shards + 1
    if not given:
        raise DataError(f"--input {batch.given}: found no story{f' of split {batch.split}' if batch.split else ''}.")
    plan = _Plan(given, shards)
    write_file(path, json.dumps(dataclasses.asdict(plan)).encode(), aside)
    return plan


def _rows_file(out: str, shard: int) -> str:
    return f"{out}/{_WORK}/rows-{shard:05d}.jsonl"


def _outcome_file(out: str, shard: int) -> str:
    return f"{out}/{_WORK}/outcome-{shard:05d}.jsonl"


def _missing(batch: BatchJob, plan: _Plan) -> list[int]:
    """Returns the numbers of the shards that are not whole."""
    there = set(list_files(f"{batch.out}/manifest/*.jsonl"))
    files = (ShardFiles(number, plan.shards, batch.layout) for number in range(plan.shards))
    return [shard.number for shard in files if f"{batch.out}/{shard.manifest}" not in there]


def _draw(batch: BatchJob, plan: _Plan, missing: Sequence[int]) -> None:
    """Draws shards on Beam."""
    remove_folder(f"{batch.out}/{_FAILED}")
    try:
        with _progress(batch, plan, len(missing)):
            _run_pipeline(batch, plan, missing)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or ["no message"]
        raise BatchFailedError(f"{type(error).__name__}: {lines[-1]}. {_stays(batch, plan)}") from error
    finally:
        close_generators()
    for path in list_files(f"{batch.out}/{_FAILED}/*"):
        raise BatchFailedError(f"{read_file(path).decode()} {_stays(batch, plan)}")


def _run_pipeline(batch: BatchJob, plan: _Plan, missing: Sequence[int]) -> None:
    with beam.Pipeline(options=PipelineOptions(beam_options(batch.beam_args))) as pipeline:
        # What a user can mend is told by files: it then has its own words on every runner.
        _ = (
            pipeline
            | "Shards" >> beam.Create(missing, reshuffle=True)
            | "Draw" >> beam.ParDo(_DrawShard(batch, plan.shards))
        )


def _stays(batch: BatchJob, plan: _Plan) -> str:
    whole = plan.shards - len(_missing(batch, plan))
    return f"{whole} of {plan.shards} parts are written and stay: the same command goes on with the others."


class _DrawShard(beam.DoFn):
    """Draws a shard and writes what becomes of it.

    Args:
        batch: what is to be drawn.
        shards: how many there are.
    """

    def __init__(self, batch: BatchJob, shards: int) -> None:
        super().__init__()
        self._batch = batch
        self._shards = shards
        self._failed = False

    def process(self, number: int) -> None:
        # One failure fails the batch: this worker need not go on.
        if self._failed:
            return
        try:
            _draw_shard(self._batch, ShardFiles(number, self._shards, self._batch.layout))
        except StoryGANError as error:
            self._failed = True
            out = self._batch.out
            write_file(f"{out}/{_FAILED}/{number:05d}", str(error).encode(), f"{out}/{_ASIDE}")


def _draw_shard(batch: BatchJob, shard: ShardFiles) -> None:
    """Writes a shard's pictures, then what was rejected, then its part of the manifest."""
    out, aside = batch.out, f"{batch.out}/{_ASIDE}"
    rows = [from_line(line) for line in read_file(_rows_file(out, shard.number)).splitlines()]
    rejects = [row for row in rows if isinstance(row, Reject)]
    batches = _batched([row for row in rows if isinstance(row, DrawTask)], batch.batch_size)
    drawn = _without_refused(draw_all(open_generator(batch.source), batches), rejects)
    entries = shard.write(out, aside, drawn, batch.source.version)
    places = [row.file if isinstance(row, Reject) else row.place for row in rows]
    rejects.sort(key=lambda reject: places.index(reject.file))
    write_lines(_outcome_file(out, shard.number), [_json_line(len(entries)), *map(to_line, rejects)], aside)
    write_lines(f"{out}/{shard.manifest}", map(_json_line, entries), aside)


def _batched(tasks: Sequence[DrawTask], size: int) -> Iterator[Sequence[DrawTask]]:
    return (tasks[start : start + size] for start in range(0, len(tasks), size))


def _without_refused(
    drawn: Iterable[tuple[DrawTask, DrawnStory]], rejects: list[Reject]
) -> Iterator[tuple[DrawTask, DrawnStory]]:
    """Yields the stories that were drawn; adds the others to `rejects`."""
    for task, outcome in drawn:
        if outcome.error:
            rejects.append(Reject(task.story_id, task.place, outcome.error))
        else:
            yield task, outcome


def _json_line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _finish(batch: BatchJob, plan: _Plan) -> None:
    """Puts together what was rejected, and counts."""
    aside = f"{batch.out}/{_ASIDE}"
    outcome = _Outcome(batch.out, plan.shards)
    write_lines(f"{batch.out}/{REJECTS_FILE}", outcome.rejects(), aside)
    rejected = sum(outcome.reasons.values())
    if outcome.written + rejected != plan.given:
        raise RuntimeError(f"{outcome.written} stories written and {rejected} set aside of {plan.given} given.")
    reasons = dict(sorted(outcome.reasons.items(), key=lambda item: (-item[1], item[0])))
    counts = {"given": plan.given, "written": outcome.written, "rejected": reasons}
    write_file(f"{batch.out}/{COUNTS_FILE}", json.dumps(counts, indent=1).encode(), aside)


class _Outcome:
    """What became of all shards.

    Args:
        out: folder of all output.
        shards: how many there are.

    Attributes:
        written: stories, once the rejects were read.
        reasons: of rejects -> how many, likewise.
    """

    def __init__(self, out: str, shards: int) -> None:
        self._out = out
        self._shards = shards
        self.written = 0
        self.reasons: Counter[str] = Counter()

    def rejects(self) -> Iterator[bytes]:
        """Yields the lines of what was rejected, shard by shard."""
        for shard in range(self._shards):
            written, *lines = read_file(_outcome_file(self._out, shard)).splitlines(keepends=True)
            self.written += json.loads(written)
            self.reasons.update(Reject(**json.loads(line)).reason for line in lines)
            yield from lines


@contextlib.contextmanager
def _progress(batch: BatchJob, plan: _Plan, missing: int) -> Iterator[None]:
    """Shows how many shards are whole, which every runner's workers tell by their files."""
    ended = threading.Event()
    with progress("drawing", plan.shards, "part", plan.shards - missing) as advance:
        watcher = threading.Thread(target=_watch, args=(batch, plan, missing, advance, ended), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _watch(batch: BatchJob, plan: _Plan, missing: int, advance: Advance, ended: threading.Event) -> None:
    while missing:
        last = ended.wait(_LOOK_SECONDS)
        left = len(_missing(batch, plan))
        if left < missing:
            advance(missing - left)
            missing = left
        if last:
            return
