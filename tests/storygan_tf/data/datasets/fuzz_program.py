"""Damages data sets, reads them, and prints what became of their stories: `fuzz_program.py DATA_SETS FIRST END`.

Prints two lines of JSON for each mutation from FIRST to END - 1: `{"begun": NUMBER}` before it starts, so that the
watching process can tell which mutation hangs or ends this process, and then its outcome. Mutation n is the same in
every process: `python fuzz_program.py DATA_SETS n n+1` repeats it.

The expected number of stories is read from the damaged index by code that shares nothing with the readers: lines of
`stories.jsonl`, rows in a table's footer, positions in Pororo-SV's split file, clips of FlintstonesSV's splits that
four others follow, and numbers in the names of CLEVR-SV's entries and pictures.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import itertools
import json
import os
import re
import resource
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from mutations import Runs, mutate

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets import Reject, Story, StoryDataset, open_dataset
from storygan_tf.data.datasets.convert import TARGETS, convert
from storygan_tf.data.datasets.data_fingerprint import data_fingerprint
from storygan_tf.data.datasets.dataset_report import examine_dataset
from storygan_tf.data.datasets.image_sources import picture_file
from storygan_tf.data.datasets.reject_summary import describe_rejects
from storygan_tf.data.datasets.restricted_unpickler import load_dict, load_npy
from storygan_tf.data.datasets.story import BadFrameError, load_frames

MAX_MEMORY = 4 << 30
"""Bytes of address space. A reader that allocates what a damaged header claims exceeds it."""

CONVERTED = TARGETS if importlib.util.find_spec("pyarrow") else TARGETS[:1]


class BrokenPromiseError(Exception):
    """The readers, the report or the conversion do not agree on a data set."""


def promise(condition: bool, message: str) -> None:
    """Raises BrokenPromiseError if a condition is false."""
    if not condition:
        raise BrokenPromiseError(message)


# The expected number of stories


def _lines(folder: Path) -> int:
    return sum(bool(line.strip()) for line in (folder / "stories.jsonl").read_bytes().split(b"\n"))


def _rows(folder: Path) -> int:
    from pyarrow import parquet

    return sum(parquet.read_metadata(path).num_rows for path in folder.glob("*.parquet") if path.is_file())


def _positions(folder: Path) -> int:
    return sum(len(part) for part in load_npy(folder / "train_seen_unseen_ids.npy"))


def _starts(folder: Path) -> int:
    splits = json.loads((folder / "train-val-test_split.json").read_text())
    clips = [clip for split in ("train", "val", "test") for clip in splits[split]]
    file = folder / "following_cache4.pkl"
    if file.is_file():
        following = {str(clip): len(values) for clip, values in load_dict(file).items() if hasattr(values, "__len__")}
        return sum(following.get(clip) == 4 for clip in clips)
    ordered = sorted(set(clips))
    fives = (ordered[place : place + 5] for place in range(len(ordered) - 4))
    firsts = {five[0] for five in fives if len({tuple((*clip.split("_"), clip)[1:4:2]) for clip in five}) == 1}
    return sum(clip in firsts for clip in clips)


def _numbers(folder: Path) -> int:
    keys = (
        key.decode("latin1") if isinstance(key, bytes) else str(key) for key in load_dict(folder / "CLEVR_dict.npy")
    )
    names = itertools.chain(keys, (path.name for path in (folder / "images").glob("*")))
    matches = (re.search(r"(?:^|/)CLEVR_new_(\d{6})_[1-4]\.png$", name) for name in names)
    return len({match[1] for match in matches if match})


COUNTS: dict[str, Callable[[Path], int]] = {
    "story-folder": _lines,
    "parquet": _rows,
    "clevr-sv": _numbers,
    "pororo-sv": _positions,
    "flintstones-sv": _starts,
}


# The outcome


@dataclasses.dataclass
class Outcome:
    """The outcome of reading a data set.

    Attributes:
        accepted: digest of the content of each accepted story, by its name.
        files: names of the files of each accepted story's pictures, by its name.
        rejects: the rejected stories.
    """

    accepted: dict[str, str]
    files: dict[str, set[str]]
    rejects: list[Reject]


def outcome_of(dataset: StoryDataset) -> Outcome:
    """Reads every story and frame of a data set, as a run of the pipeline does."""
    outcome = Outcome({}, {}, [])
    for entry in dataset.stories():
        try:
            if isinstance(entry, Story):
                frames = load_frames(entry)
                content = repr((entry.split, entry.sentences, entry.labels, entry.objects)).encode("utf-8")
                promise(entry.story_id not in outcome.accepted, f"two stories are called {entry.story_id!r}")
                outcome.accepted[entry.story_id] = hashlib.sha256(content + b"".join(frames)).hexdigest()
                outcome.files[entry.story_id] = {picture_file(picture).name for picture in entry.images}
            else:
                outcome.rejects.append(entry)
        except BadFrameError as error:
            outcome.rejects.append(error.as_reject(entry.story_id, dataset.folder))
    return outcome


def check_rejects(rejects: list[Reject]) -> None:
    """Checks that every reject has a name, a reason and a file, and that all can be printed and written as JSON."""
    for reject in rejects:
        promise(bool(reject.story_id.strip()), f"no name: {reject}")
        promise(bool(reject.reason.strip()), f"no reason: {reject}")
        promise(bool(reject.file.strip()), f"no file: {reject}")
        promise(not Path(reject.file).is_absolute() or "outside" in reject.file, f"a path of this machine: {reject}")
        json.dumps(dataclasses.asdict(reject)).encode()
    "\n".join(describe_rejects(rejects)).encode()


def check_converted(dataset: StoryDataset, accepted: dict[str, str], total: int, out: Path, to: str) -> None:
    """Checks that a conversion keeps every accepted story unchanged."""
    shutil.rmtree(out, ignore_errors=True)
    converted = convert(dataset, out, to)
    promise(converted.stories + len(converted.rejects) == total, f"{converted} converted of {total}")
    again = outcome_of(open_dataset(out))
    promise(again.rejects == [], f"rejected after the conversion: {again.rejects[:2]}")
    promise(again.accepted == accepted, "stories changed by the conversion")


def judge(folder: Path, layout: str, before: Outcome, touched: set[str] | None, to: str) -> dict[str, int]:
    """Reads, examines, fingerprints and converts a damaged data set.

    Args:
        folder: the damaged data set.
        layout: the layout it had before it was damaged.
        before: the outcome of reading it before it was damaged.
        touched: names of the changed files if only pictures were changed; else None.
        to: the format to convert it to.

    Returns:
        The numbers of stories: in total, accepted and rejected.

    Raises:
        BrokenPromiseError: if the results contradict each other.
        DataError: if the data set as a whole is refused.
    """
    dataset = open_dataset(folder)
    report = examine_dataset(dataset)
    promise(report.accepted + len(report.rejects) == report.total, f"counts of the check: {report}")
    check_rejects(report.rejects)
    outcome = outcome_of(open_dataset(folder))
    check_rejects(outcome.rejects)
    counted = len(outcome.accepted) + len(outcome.rejects)
    promise(counted == report.total, f"the check counts {report.total}, a run {counted}")
    if dataset.format == layout:
        expected = COUNTS[layout](folder)
        promise(expected == report.total, f"the index lists {expected} stories, the reader {report.total}")
    if touched is not None and dataset.format == layout:
        for story_id, digest in before.accepted.items():
            if not before.files[story_id] & touched:
                promise(outcome.accepted.get(story_id) == digest, f"{story_id} changed, but none of its files did")
    promise(data_fingerprint(folder) == data_fingerprint(folder), "two fingerprints of the same data differ")
    if outcome.accepted:
        check_converted(dataset, outcome.accepted, report.total, folder.with_name("converted"), to)
    return {"total": report.total, "accepted": len(outcome.accepted), "rejected": len(outcome.rejects)}


def touched_files(folder: Path, whole: Path) -> set[str] | None:
    """Returns the names of the files that were changed, added or removed; None if tables are among them."""
    names = {path.relative_to(root) for root in (folder, whole) for path in root.rglob("*") if not path.is_dir()}
    changed = {name for name in names if not _same(folder / name, whole / name)}
    tables = any(len(name.parts) == 1 for name in changed)
    return None if tables else {name.name for name in changed}


def _same(one: Path, other: Path) -> bool:
    regular = all(path.is_file() and not path.is_symlink() for path in (one, other))
    return regular and one.read_bytes() == other.read_bytes()


def run_one(number: int, sources: list[Path], befores: dict[str, Outcome], work: Path) -> dict:
    """Makes mutation `number` and returns its outcome as printed; it has a `failure` if anything is wrong."""
    source = sources[number % len(sources)]
    layout = open_dataset(source).format
    folder = work / "outside" / "data"
    shutil.rmtree(work / "outside", ignore_errors=True)
    shutil.copytree(source, folder)
    done = mutate(folder, layout, number)
    result = {"number": number, "layout": layout, "done": done}
    touched = touched_files(folder, source)
    try:
        to = CONVERTED[number // len(sources) % len(CONVERTED)]
        result |= judge(folder, layout, befores[source.name], touched, to)
    except DataError as error:
        result["refused"] = str(error)
        if touched is not None or str(folder) not in str(error):
            result["failure"] = f"refused as a whole: {error}"
    except BaseException:
        result["failure"] = traceback.format_exc()
    if (work / Runs.marker).exists():
        result["failure"] = "code of a pickle ran"
        (work / Runs.marker).rmdir()
    return result


def main(root: Path, first: int, end: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    work = Path.cwd()
    sources = sorted(root.iterdir())
    befores = {source.name: outcome_of(open_dataset(source)) for source in sources}
    for number in range(first, end):
        print(json.dumps({"begun": number}), flush=True)
        print(json.dumps(run_one(number, sources, befores, work)), flush=True)


if __name__ == "__main__":
    os.umask(0o022)
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
