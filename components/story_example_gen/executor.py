"""Executor of StoryExampleGen: reads and resizes stories on Beam, splits and writes them, and counts rejects."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from absl import logging
from tfx.components.example_gen import write_split
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components.compat import make_beam_pipeline
from components.executor_arguments import Artifacts, ExecutorArguments
from components.record_files import read_file, remove_folder, write_file, write_records
from components.spec_names import DATA_DIR, EXAMPLES, REJECTS_PATH
from storygan_tf.common.errors import DataError
from storygan_tf.config.schema import Settings
from storygan_tf.data import example_schema
from storygan_tf.data.datasets import (
    Reject,
    Story,
    StoryDataset,
    chosen_frame_numbers,
    load_frames,
    open_configured,
    set_aside,
    source_name,
    split_of,
)
from storygan_tf.data.datasets.reject_summary import advise_frames, count_reasons, describe_rejects
from storygan_tf.data.datasets.story import SPLITS, BadFrameError
from storygan_tf.data.datasets.story_length import fit_length

SHARD_STORIES = 256
"""Stories in one file. One worker reads and writes a file, with the pictures of one story in memory at a time."""

_SCRATCH = "writing"
"""Folder in the artifact for incomplete files; it is removed at the end."""

_OUTCOME = "outcome.json"
"""File in the scratch folder with the outputs of the Beam pipeline."""

_REJECTED = "rejected"
"""Tag of the rejects among the outputs of `_WriteShard`."""


@dataclasses.dataclass(frozen=True)
class _Shard:
    """One file of records.

    Attributes:
        name: path of the file in the artifact.
        stories: the stories to write into it, in this order.
    """

    name: str
    stories: tuple[Story, ...]


class _Plan(NamedTuple):
    """What to write.

    Attributes:
        shards: the files of records.
        rejects: the rejects so far.
        val_from_train: whether the validation stories are a part of the data's training stories.
        longer: number of stories that were cut because they have more frames than `model.frames`.
        extra_parts: number of stories that became of these in addition to the first of each.
    """

    shards: list[_Shard]
    rejects: list[Reject]
    val_from_train: bool
    longer: int
    extra_parts: int


class Executor(base_beam_executor.BaseBeamExecutor):
    """Converts a folder of stories to tf.Examples."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:  # noqa: N802
        """Reads, checks, resizes, splits and writes stories.

        Args:
            input_dict: empty.
            output_dict:
                - `examples`: single `Examples` artifact with a folder of tf.Examples for each split, and with
                  `labels.json`, `rejects.jsonl` and `counts.json`.
            exec_properties:
                - `data_dir`: folder of stories.
                - `settings`: JSON of `storygan_tf.config.schema.Settings`.
                - `rejects_path`: file for a copy of `rejects.jsonl`, which is also written if the step fails; optional.
                - `data_fingerprint`, `code_fingerprint`: part of the cache key, otherwise unused.

        Raises:
            ConfigError: if the settings are not valid.
            DataError: if the folder holds no stories, more stories are rejected than the settings allow, or there is
                no story for training or none for testing.
        """
        arguments = ExecutorArguments(input_dict, output_dict, exec_properties)
        settings = arguments.settings()
        dataset = open_configured(exec_properties[DATA_DIR], settings.data)
        examples = arguments.output(EXAMPLES)
        entries = list(dataset.stories())
        plan = _plan(entries, settings)
        written, unreadable = self._write(plan.shards, dataset, examples.uri)
        rejects = sorted([*plan.rejects, *unreadable])
        result = _ImportResult(dataset, entries, written, rejects, plan)
        result.save(examples.uri, arguments.text(REJECTS_PATH))
        result.check(settings)
        examples.split_names = artifact_utils.encode_split_names(list(result.splits))
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(
            examples, write_split.to_file_format_str(example_gen_pb2.FileFormat.FORMAT_TFRECORDS_GZIP)
        )
        logging.info("StoryExampleGen: %s", json.dumps(result.counts))

    def _write(self, shards: Sequence[_Shard], dataset: StoryDataset, uri: str) -> tuple[dict[str, int], list[Reject]]:
        """Writes the shards on Beam.

        Returns:
            The number of stories written to each file, and the stories whose pictures could not be read.
        """
        scratch = f"{uri}/{_SCRATCH}"
        write = _WriteShard(uri, scratch, str(dataset.folder), dataset.label_names or ())
        with make_beam_pipeline(self) as pipeline:
            # Pictures never leave a worker: shards and rejects contain only file names and texts.
            results = (
                pipeline
                | "Shards" >> beam.Create(shards, reshuffle=True)
                | "Write" >> beam.ParDo(write).with_outputs(_REJECTED, main="written")
            )
            _ = (
                pipeline
                | "Once" >> beam.Create([f"{scratch}/{_OUTCOME}"])
                | "Outcome"
                >> beam.Map(_write_outcome, beam.pvalue.AsList(results.written), beam.pvalue.AsList(results[_REJECTED]))
            )
        outcome = json.loads(read_file(f"{scratch}/{_OUTCOME}"))
        remove_folder(scratch)
        return dict(outcome["written"]), [Reject(*reject) for reject in outcome["rejected"]]


def _plan(entries: Iterable[Story | Reject], settings: Settings) -> _Plan:
    """Distributes stories over files, before any picture is read.

    Longer stories than `model.frames` are cut or split, shorter ones rejected. If the data has no validation
    stories, a fraction of the training stories becomes such.

    Args:
        entries: stories and rejects of a data set.
        settings: the number of frames, and how stories without a split are divided.
    """
    by_split: dict[str, list[Story]] = {split: [] for split in SPLITS}
    rejects = []
    frames, longer, extra_parts = settings.model.frames, 0, 0
    for entry in entries:
        fitted = entry if isinstance(entry, Reject) else fit_length(entry, frames, settings.data.long_stories)
        if isinstance(fitted, Reject):
            rejects.append(fitted)
        elif isinstance(entry, Story):
            longer += len(entry.images) > frames
            extra_parts += len(fitted) - 1
            by_split[split_of(entry, settings.data.test_fraction)] += fitted
    val_from_train = not by_split["val"]
    if val_from_train:
        by_split["train"], by_split["val"] = set_aside(by_split["train"], settings.data)
    shards = [shard for split, stories in by_split.items() for shard in _shards(split, stories)]
    return _Plan(shards, rejects, val_from_train, longer, extra_parts)


def _shards(split: str, stories: list[Story]) -> Iterator[_Shard]:
    """Yields the files of a split, with its stories sorted by id, whatever the order of `stories` is."""
    ordered = sorted(stories, key=lambda story: story.story_id)
    count = -(-len(stories) // SHARD_STORIES)
    for number in range(count):
        name = f"Split-{split}/data_tfrecord-{number:05d}-of-{count:05d}.gz"
        yield _Shard(name, tuple(ordered[number * SHARD_STORIES : (number + 1) * SHARD_STORIES]))


class _WriteShard(beam.DoFn):
    """Writes one file of stories; its outputs are the file's name with the number of stories, and the rejects.

    Args:
        uri: the artifact's folder.
        scratch: folder for incomplete files.
        folder: the data folder.
        label_names: names of the labels, in the order of their flags.
    """

    def __init__(self, uri: str, scratch: str, folder: str, label_names: tuple[str, ...]) -> None:
        super().__init__()
        self._uri = uri
        self._scratch = scratch
        self._folder = folder
        self._label_names = label_names

    def process(self, shard: _Shard) -> Iterator[Any]:
        rejects: list[Reject] = []
        count = write_records(f"{self._uri}/{shard.name}", self._examples(shard.stories, rejects), self._scratch)
        yield from (beam.pvalue.TaggedOutput(_REJECTED, reject) for reject in rejects)
        yield shard.name, count

    def _examples(self, stories: Iterable[Story], rejects: list[Reject]) -> Iterator[bytes]:
        """Yields the serialized tf.Example of each story whose pictures can be read; adds the others to `rejects`."""
        for story in stories:
            try:
                images, drawn = load_frames(story), chosen_frame_numbers(story)
            except BadFrameError as error:
                rejects.append(error.as_reject(story.story_id, Path(self._folder)))
                continue
            example = example_schema.story_example(
                story.story_id, story.sentences, images, self._flags(story), story.objects, drawn=drawn
            )
            yield example.SerializeToString(deterministic=True)

    def _flags(self, story: Story) -> list[list[int]] | None:
        """Returns the label flags of each frame, 0 or 1, `[frames][labels]`; None if there are no labels."""
        if story.labels is None or not self._label_names:
            return None
        return [[int(name in frame) for name in self._label_names] for frame in story.labels]


def _write_outcome(path: str, written: list[tuple[str, int]], rejected: list[Reject]) -> None:
    """Writes the outputs of the Beam pipeline to one file, as JSON."""
    content = {"written": dict(written), "rejected": [dataclasses.astuple(reject) for reject in rejected]}
    _write_text(path, json.dumps(content))


def _write_text(path: str, text: str) -> None:
    """Writes a file, with its own folder for the incomplete file."""
    folder, _, _ = path.rpartition("/")
    write_file(path, text.encode(), folder)


class _ImportResult:
    """The number of accepted stories in each split, and the rejected stories.

    Args:
        dataset: the data set that was read.
        entries: all stories and rejects that its reader returned.
        written: number of stories written to each file.
        rejects: all rejected stories, sorted.
        plan: what was to be written.

    Attributes:
        dataset: the same.
        rejects: the same.
        total: number of entries.
        accepted: number of stories written.
        splits: number of stories written to each split that is not empty.
        val_from_train: number of validation stories that were training stories in the data.
        longer: see `_Plan`.
        extra_parts: see `_Plan`.
        lengths: number of stories of each length in frames.

    Raises:
        RuntimeError: if the accepted and rejected stories do not add up to the total.
    """

    def __init__(
        self,
        dataset: StoryDataset,
        entries: Sequence[Story | Reject],
        written: dict[str, int],
        rejects: list[Reject],
        plan: _Plan,
    ) -> None:
        self.dataset = dataset
        self.total = len(entries)
        self.rejects = rejects
        self.lengths = Counter(len(entry.images) for entry in entries if isinstance(entry, Story))
        by_split: Counter[str] = Counter()
        for file, count in written.items():
            by_split[file.partition("/")[0].removeprefix("Split-")] += count
        self.splits = {split: by_split[split] for split in SPLITS if by_split[split]}
        self.val_from_train = by_split["val"] if plan.val_from_train else 0
        self.longer, self.extra_parts = plan.longer, plan.extra_parts
        self.accepted = sum(self.splits.values())
        expected = self.total + self.extra_parts
        if self.accepted + len(rejects) != expected:
            raise RuntimeError(
                f"StoryExampleGen: {self.accepted} stories written and {len(rejects)} rejected, expected {expected} "
                "together."
            )

    @property
    def counts(self) -> dict[str, Any]:
        """The content of `counts.json`."""
        return {
            "source": source_name(self.dataset),
            "given": self.total,
            "accepted": self.accepted,
            "rejected": count_reasons(self.rejects),
            "splits": self.splits,
            "val_from_train": self.val_from_train,
            "longer": self.longer,
            "extra_parts": self.extra_parts,
        }

    def save(self, uri: str, rejects_path: str) -> None:
        """Writes the files next to the splits, and a copy of the rejects.

        Args:
            uri: the artifact's folder.
            rejects_path: file for the copy; empty for no copy.
        """
        lines = "".join(json.dumps(dataclasses.asdict(reject)) + "\n" for reject in self.rejects)
        _write_text(f"{uri}/{example_schema.REJECTS_FILE}", lines)
        _write_text(f"{uri}/{example_schema.COUNTS_FILE}", json.dumps(self.counts, indent=1))
        _write_text(f"{uri}/{example_schema.LABELS_FILE}", json.dumps(list(self.dataset.label_names or ())))
        if rejects_path:
            _write_text(rejects_path, lines)

    def check(self, settings: Settings) -> None:
        """Raises DataError if too many stories are rejected, or the split for training or for testing is empty."""
        folder, allowed = self.dataset.folder, settings.data.max_reject_fraction
        if not self.total:
            raise DataError(f"data folder {folder}: found no stories in it, expected at least two.")
        if len(self.rejects) > allowed * self.total:
            raise DataError(self._too_many(settings))
        for split, use in (("train", "training"), ("test", "testing")):
            if split not in self.splits:
                raise DataError(
                    f"data folder {folder}: found no story for {use} among {self.accepted}; give some the split "
                    f"{split!r}, or, where stories name no split, add stories or change data.test_fraction (now "
                    f"{settings.data.test_fraction})."
                )

    def _too_many(self, settings: Settings) -> str:
        """Returns the error message about too many rejects, with their reasons and how to mend them."""
        advice = advise_frames(self.rejects, self.lengths, settings.model.frames)
        reasons = "\n".join(f"  {line}" for line in describe_rejects(self.rejects))
        return (
            f"data folder {self.dataset.folder}: {len(self.rejects)} of {self.total} stories were rejected, more than "
            f"data.max_reject_fraction allows (now {settings.data.max_reject_fraction}):\n{reasons}\n"
            + (advice or "Correct the stories, or allow more rejects with --max-reject-fraction.")
        )
