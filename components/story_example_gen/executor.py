"""The StoryExampleGen's work: index, read and resize by Beam, split by story, write, count."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from absl import logging
from tfx import types
from tfx.components.example_gen import write_split
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs

from components.record_files import read_file, remove_folder, write_file, write_records
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
    source_name,
    split_of,
)
from storygan_tf.data.datasets.reject_summary import advise_frames, count_reasons, describe_rejects
from storygan_tf.data.datasets.story import SPLITS, BadFrameError, wrong_length_reject

EXAMPLES = standard_component_specs.EXAMPLES_KEY
DATA_DIR = "data_dir"
SETTINGS = "settings"
DATA_FINGERPRINT = "data_fingerprint"
CODE_FINGERPRINT = "code_fingerprint"
REJECTS_PATH = "rejects_path"

SHARD_STORIES = 256
"""Stories a file, which one worker reads and writes; of it one story's pictures are in memory at a time."""

_ASIDE = "writing"
"""Folder of the artifact for what is not whole yet; gone at the end."""

_OUTCOME = "outcome.json"
_REJECTED = "rejected"


@dataclasses.dataclass(frozen=True)
class _Shard:
    """A file to write, and the stories that go into it, in their order."""

    name: str
    stories: tuple[Story, ...]


class Executor(base_beam_executor.BaseBeamExecutor):
    """Turns a folder of stories into tf.Examples."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads, checks, resizes, splits and writes stories.

        Args:
            input_dict: empty.
            output_dict: Output dict from output key to a list of artifacts:
                - examples: splits of tf.Examples, `labels.json`, `rejects.jsonl`, `counts.json`.
            exec_properties: A dict of execution properties:
                - data_dir: folder of stories.
                - settings: JSON of `storygan_tf.config.schema.Settings`.
                - data_fingerprint, code_fingerprint: part of the cache key; not used.
                - rejects_path: optional; where to leave a copy of `rejects.jsonl`, also on failure.

        Raises:
            ConfigError: for settings that do not parse.
            DataError: where the folder is none of stories, too many stories had to be set aside, or there is none for
                training or none for testing.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = Settings.from_json(exec_properties[SETTINGS])
        dataset = open_configured(exec_properties[DATA_DIR], settings.data)
        examples = artifact_utils.get_single_instance(output_dict[EXAMPLES])
        entries = list(dataset.stories())
        shards, rejects = _plan(entries, settings)
        written, unreadable = self._write(shards, dataset, examples.uri)
        outcome = _Outcome(dataset, entries, written, sorted([*rejects, *unreadable]))
        outcome.save(examples.uri, exec_properties.get(REJECTS_PATH) or "")
        outcome.check(settings)
        examples.split_names = artifact_utils.encode_split_names(list(outcome.splits))
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(
            examples, write_split.to_file_format_str(example_gen_pb2.FileFormat.FORMAT_TFRECORDS_GZIP)
        )
        logging.info("StoryExampleGen: %s", json.dumps(outcome.counts))

    def _write(self, shards: Sequence[_Shard], dataset: StoryDataset, uri: str) -> tuple[dict[str, int], list[Reject]]:
        """Runs the Beam pipeline; returns the stories written by file, and those that could not be read."""
        aside = f"{uri}/{_ASIDE}"
        write = _WriteShard(uri, aside, str(dataset.folder), dataset.label_names or ())
        with self._make_beam_pipeline() as pipeline:
            # Pictures go from file to file within a worker: what passes between workers are names.
            results = (
                pipeline
                | "Shards" >> beam.Create(shards, reshuffle=True)
                | "Write" >> beam.ParDo(write).with_outputs(_REJECTED, main="written")
            )
            _ = (
                pipeline
                | "Once" >> beam.Create([f"{aside}/{_OUTCOME}"])
                | "Outcome"
                >> beam.Map(_write_outcome, beam.pvalue.AsList(results.written), beam.pvalue.AsList(results[_REJECTED]))
            )
        outcome = json.loads(read_file(f"{aside}/{_OUTCOME}"))
        remove_folder(aside)
        return dict(outcome["written"]), [Reject(*reject) for reject in outcome["rejected"]]


def _plan(entries: Iterable[Story | Reject], settings: Settings) -> tuple[list[_Shard], list[Reject]]:
    """Returns which stories go into which file, and those that are set aside before any picture is read."""
    by_split: dict[str, list[Story]] = {split: [] for split in SPLITS}
    rejects = []
    for entry in entries:
        reject = entry if isinstance(entry, Reject) else wrong_length_reject(entry, settings.model.frames)
        if reject:
            rejects.append(reject)
        elif isinstance(entry, Story):
            by_split[split_of(entry, settings.data.test_fraction)].append(entry)
    return [shard for split, stories in by_split.items() for shard in _shards(split, stories)], rejects


def _shards(split: str, stories: list[Story]) -> Iterator[_Shard]:
    """Yields the files of a split: its stories in the order of their names, whatever order they came in."""
    ordered = sorted(stories, key=lambda story: story.story_id)
    count = -(-len(stories) // SHARD_STORIES)
    for number in range(count):
        name = f"Split-{split}/data_tfrecord-{number:05d}-of-{count:05d}.gz"
        yield _Shard(name, tuple(ordered[number * SHARD_STORIES : (number + 1) * SHARD_STORIES]))


class _WriteShard(beam.DoFn):
    """Writes a file of stories; gives its name and their number, and why stories cannot be used.

    Args:
        uri: the artifact.
        aside: folder for what is not whole yet.
        folder: the data folder.
        label_names: names of the labels, in the order of their flags.
    """

    def __init__(self, uri: str, aside: str, folder: str, label_names: tuple[str, ...]) -> None:
        super().__init__()
        self._uri = uri
        self._aside = aside
        self._folder = folder
        self._label_names = label_names

    def process(self, shard: _Shard) -> Iterator[Any]:
        rejects: list[Reject] = []
        count = write_records(f"{self._uri}/{shard.name}", self._examples(shard.stories, rejects), self._aside)
        yield from (beam.pvalue.TaggedOutput(_REJECTED, reject) for reject in rejects)
        yield shard.name, count

    def _examples(self, stories: Iterable[Story], rejects: list[Reject]) -> Iterator[bytes]:
        """Yields the serialized tf.Example of each story that can be used; adds the others to `rejects`."""
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
        if story.labels is None or not self._label_names:
            return None
        return [[int(name in frame) for name in self._label_names] for frame in story.labels]


def _write_outcome(path: str, written: list[tuple[str, int]], rejected: list[Reject]) -> None:
    content = {"written": dict(written), "rejected": [dataclasses.astuple(reject) for reject in rejected]}
    _write_text(path, json.dumps(content))


def _write_text(path: str, text: str) -> None:
    folder, _, _ = path.rpartition("/")
    write_file(path, text.encode(), folder)


class _Outcome:
    """What became of every story.

    Args:
        dataset: where the stories came from.
        entries: everything that the reader gave.
        written: stories written, by file.
        rejects: stories set aside, sorted.
    """

    def __init__(
        self,
        dataset: StoryDataset,
        entries: Sequence[Story | Reject],
        written: dict[str, int],
        rejects: list[Reject],
    ) -> None:
        self.dataset = dataset
        self.given = len(entries)
        self.rejects = rejects
        self.lengths = Counter(len(entry.images) for entry in entries if isinstance(entry, Story))
        by_split: Counter[str] = Counter()
        for file, count in written.items():
            by_split[file.partition("/")[0].removeprefix("Split-")] += count
        self.splits = {split: by_split[split] for split in SPLITS if by_split[split]}
        self.accepted = sum(self.splits.values())
        if self.accepted + len(rejects) != self.given:
            raise RuntimeError(f"{self.accepted} stories written and {len(rejects)} set aside of {self.given} given.")

    @property
    def counts(self) -> dict[str, Any]:
        """What `counts.json` holds."""
        return {
            "source": source_name(self.dataset),
            "given": self.given,
            "accepted": self.accepted,
            "rejected": count_reasons(self.rejects),
            "splits": self.splits,
        }

    def save(self, uri: str, rejects_path: str) -> None:
        """Writes the files beside the splits, and the copy of the rejects."""
        lines = "".join(json.dumps(dataclasses.asdict(reject)) + "\n" for reject in self.rejects)
        _write_text(f"{uri}/{example_schema.REJECTS_FILE}", lines)
        _write_text(f"{uri}/{example_schema.COUNTS_FILE}", json.dumps(self.counts, indent=1))
        _write_text(f"{uri}/{example_schema.LABELS_FILE}", json.dumps(list(self.dataset.label_names or ())))
        if rejects_path:
            _write_text(rejects_path, lines)

    def check(self, settings: Settings) -> None:
        """Raises DataError where the stories that are left must not be trained on."""
        folder, allowed = self.dataset.folder, settings.data.max_reject_fraction
        if not self.given:
            raise DataError(f"data folder {folder}: found no stories in it, expected at least two.")
        if len(self.rejects) > allowed * self.given:
            raise DataError(self._too_many(settings))
        for split, use in (("train", "training"), ("test", "testing")):
            if split not in self.splits:
                raise DataError(
                    f"data folder {folder}: found no story for {use} among {self.accepted}; give some the split "
                    f"{split!r}, or, where stories name no split, add stories or change data.test_fraction (now "
                    f"{settings.data.test_fraction})."
                )

    def _too_many(self, settings: Settings) -> str:
        advice = advise_frames(self.rejects, self.lengths, settings.model.frames)
        reasons = "\n".join(f"  {line}" for line in describe_rejects(self.rejects))
        return (
            f"data folder {self.dataset.folder}: {len(self.rejects)} of {self.given} stories had to be set aside, more "
            f"than data.max_reject_fraction allows (now {settings.data.max_reject_fraction}):\n{reasons}\n"
            + (advice or "Mend them, or allow more with --max-reject-fraction.")
        )
