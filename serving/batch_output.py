"""Writes the pictures of a batch job: as files, records, or in the layouts that `storygan evaluate --images` reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from components.record_files import write_files, write_records
from serving.batch_generators import DrawnStory
from serving.batch_input import DrawTask
from storygan_tf.data import example_schema
from storygan_tf.evaluation import external_frames

FILES, RECORDS = "files", "tfrecord"

LAYOUTS = (FILES, RECORDS, *(layout for layout in external_frames.LAYOUTS if layout != "auto"))
"""Values of `storygan batch --layout`."""

IMAGES_FOLDER = "images"
RECORDS_FOLDER = "records"


def order_of(layout: str) -> Callable[[str], Any] | None:
    """Returns the sort key by which a layout's story ids must be in order; None for any order."""
    return None if layout in (FILES, RECORDS) else external_frames.order_of(layout)


@dataclasses.dataclass(frozen=True)
class ShardFiles:
    """Names and contents of the files of a shard.

    Attributes:
        number: number of the shard, from 0.
        count: number of shards.
        layout: one of `LAYOUTS`.
    """

    number: int
    count: int
    layout: str

    @property
    def manifest(self) -> str:
        """File name of the shard's part of the manifest, which is written last."""
        return f"manifest/manifest-{self._part}.jsonl"

    @property
    def records(self) -> str:
        """File name of the shard's records in the layout `tfrecord`."""
        return f"{RECORDS_FOLDER}/stories-{self._part}.gz"

    @property
    def _part(self) -> str:
        return f"{self.number:05d}-of-{self.count:05d}"

    def picture(self, position: int, frame: int, frames: int) -> str:
        """Returns the file name of a frame. Positions and frames are counted from 0."""
        if self.layout == FILES:
            return f"{IMAGES_FOLDER}/{self.number:05d}/{position:07d}_{frame + 1}.png"
        return f"{IMAGES_FOLDER}/{external_frames.frame_path(self.layout, position, frame, frames)}"

    def write(
        self, out: str, temporary: str, drawn: Iterable[tuple[DrawTask, DrawnStory]], version: str
    ) -> list[dict[str, Any]]:
        """Writes the pictures of stories, one story after the other.

        Args:
            out: output folder of the job.
            temporary: folder for incomplete files.
            drawn: tasks with their pictures.
            version: version of the model.

        Returns:
            The stories' entries of the manifest.
        """
        entries: list[dict[str, Any]] = []
        if self.layout == RECORDS:
            write_records(f"{out}/{self.records}", self._examples(drawn, version, entries), temporary)
        else:
            pictures = self._pictures(drawn, version, entries)
            write_files(((f"{out}/{name}", content) for name, content in pictures), temporary)
        return entries

    def _pictures(
        self, drawn: Iterable[tuple[DrawTask, DrawnStory]], version: str, entries: list[dict[str, Any]]
    ) -> Iterator[tuple[str, bytes]]:
        for task, outcome in drawn:
            count = len(outcome.frames)
            names = [self.picture(task.position, frame, count) for frame in range(count)]
            entries.append(_entry(task, version) | {"images": names})
            yield from zip(names, outcome.frames, strict=True)

    def _examples(
        self, drawn: Iterable[tuple[DrawTask, DrawnStory]], version: str, entries: list[dict[str, Any]]
    ) -> Iterator[bytes]:
        for task, outcome in drawn:
            entries.append(_entry(task, version) | {"record": self.records, "number": len(entries)})
            example = example_schema.story_example(task.story_id, task.sentences, outcome.frames)
            example.features.feature[example_schema.SEED].int64_list.value.append(task.seed)
            yield example.SerializeToString(deterministic=True)


def _entry(task: DrawTask, version: str) -> dict[str, Any]:
    return {"story_id": task.story_id, "sentences": list(task.sentences), "seed": task.seed, "version": version}
