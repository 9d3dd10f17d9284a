"""`storygan data`: make, examine, look at and convert folders of stories."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from storygan_tf.data.datasets.dataset_report import DatasetReport
    from storygan_tf.data.datasets.split_overlap import Overlap
    from storygan_tf.data.datasets.story import Reject, Story, StoryDataset
    from storygan_tf.data.storyboard import StoryRow

_MOMENT = 2.0
"""Seconds of work before progress is shown."""

app = typer.Typer(
    help="Make, examine, look at and convert folders of stories.",
    epilog="Example: storygan data check runs/data/quick",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(help="Folder of stories.", metavar="DIR")]
Layout = Annotated[
    str,
    typer.Option(
        "--format", help="Layout of the folder: auto, story-folder, clevr-sv, pororo-sv, flintstones-sv or parquet."
    ),
]
FrameSeed = Annotated[int, typer.Option(min=0, help="Of the frame drawn from each of Pororo's and Flintstones' clips.")]
PororoSplit = Annotated[str, typer.Option(help="Pororo-SV's split: seen-unseen, or the older train-test.")]
DropLeaks = Annotated[
    bool, typer.Option("--drop-leaks", help="Leave out FlintstonesSV's test stories that hold clips for training.")
]


@app.command(epilog="Example: storygan data render --stories 240 --test-stories 48 --out runs/data/quick --seed 1")
def render(
    stories: Annotated[int, typer.Option(help="Stories for training, up to 10,000.")],
    test_stories: Annotated[int, typer.Option(help="Stories for testing.")],
    out: Annotated[Path, typer.Option(help="Folder to make, or to go on with after an interruption.")],
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 1,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one for each core.")] = None,
) -> None:
    """Render `blocks`: stories in CLEVR-SV's style, four objects on a table."""
    from storygan_tf.data.blocks.render import render_blocks

    with _shown("rendering stories") as progress:
        render_blocks(out, stories, test_stories, seed=seed, workers=workers, progress=progress)
    print(f"{stories} stories for training and {test_stories} for testing are in {out}")


@app.command(epilog="Example: storygan data check my_stories --frames 5")
def check(
    folder: Folder,
    layout: Layout = "auto",
    frames: Annotated[
        int | None, typer.Option(help="Frames a story must have; by default the most frequent number.")
    ] = None,
    frame_seed: FrameSeed = 0,
    pororo_split: PororoSplit = "seen-unseen",
    drop_leaks: DropLeaks = False,
) -> None:
    """Read every story and picture, and tell what can be used and what cannot."""
    from storygan_tf.common.errors import DataError
    from storygan_tf.data.datasets.dataset_report import examine_dataset

    dataset = _open(folder, layout, frame_seed, pororo_split, drop_leaks)
    with _shown("checking stories") as progress:
        findings = examine_dataset(dataset, frames, progress)
    for line in _report(dataset, findings):
        print(line)
    if not findings.accepted:
        raise DataError(f"data folder {folder}: no story can be used; the reasons are above.")


@app.command(epilog="Example: storygan data show runs/data/quick --out board.png --stories 8")
def show(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    layout: Layout = "auto",
    stories: Annotated[int, typer.Option(min=1, help="Stories to show, spread evenly over the folder.")] = 6,
    frame_seed: FrameSeed = 0,
    pororo_split: PororoSplit = "seen-unseen",
    drop_leaks: DropLeaks = False,
) -> None:
    """Draw a contact sheet: stories with their sentences under the frames."""
    from storygan_tf.common.errors import DataError
    from storygan_tf.data.datasets import Story
    from storygan_tf.data.datasets.reject_summary import describe_rejects
    from storygan_tf.data.storyboard import storyboard

    if out.suffix.lower() != ".png":
        raise DataError(f"--out {out}: found {out.suffix or 'no ending'!r}, expected .png.")
    dataset = _open(folder, layout, frame_seed, pororo_split, drop_leaks)
    usable = [story for story in dataset.stories() if isinstance(story, Story)]
    if not usable:
        raise DataError(f"data folder {folder}: no story can be used; `storygan data check {folder}` says why.")
    rows, rejects = _readable(usable, min(stories, len(usable)), dataset.folder)
    for line in describe_rejects(rejects):
        print(f"set aside  {line}")
    if not rows:
        raise DataError(f"data folder {folder}: no picture of the chosen stories can be read; the reasons are above.")
    storyboard(rows, out)
    print(f"{len(rows)} of {len(usable)} stories are in {out}")


@app.command(epilog="Example: storygan data convert pororo_png --out pororo_stories --format pororo-sv")
def convert(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder to make; all of it is there at the end, or nothing.")],
    to: Annotated[str, typer.Option(help="What to make: story-folder or parquet.")] = "story-folder",
    layout: Layout = "auto",
    frame_seed: FrameSeed = 0,
    pororo_split: PororoSplit = "seen-unseen",
    drop_leaks: DropLeaks = False,
) -> None:
    """Turn stories of any layout into a story folder or a Parquet table, with a note of the frames that were drawn."""
    from storygan_tf.data.datasets.convert import convert as convert_dataset
    from storygan_tf.data.datasets.reject_summary import describe_rejects

    dataset = _open(folder, layout, frame_seed, pororo_split, drop_leaks)
    with _shown("converting stories") as progress:
        converted = convert_dataset(dataset, out, to, progress)
    for note in dataset.notes:
        print(f"note       {note}")
    for line in describe_rejects(converted.rejects):
        print(f"set aside  {line}")
    print(f"{converted.stories} stories are in {out}, {len(converted.rejects)} were set aside")


def _open(folder: Path, layout: str, frame_seed: int, pororo_split: str, drop_leaks: bool) -> StoryDataset:
    from storygan_tf.config.parsing import from_dict
    from storygan_tf.config.schema import DataConfig
    from storygan_tf.data.datasets import open_configured

    values = {"format": layout, "frame_seed": frame_seed, "pororo_split": pororo_split, "drop_leaks": drop_leaks}
    return open_configured(folder, from_dict(DataConfig, values, "data"))


@contextlib.contextmanager
def _shown(what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function that shows how many stories of how many are done, unless all is done in a moment."""
    from storygan_tf.common.progress import Advance, progress

    with contextlib.ExitStack() as stack:
        advances: list[Advance] = []
        counted, began = 0, time.monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal counted
            if not advances and time.monotonic() - began < _MOMENT:
                return
            if not advances:
                # What was done before it is shown is not taken for free by the estimate.
                advances.append(stack.enter_context(progress(what, total, done=done)))
            else:
                advances[0](done - counted)
            counted = done

        yield tell


def _report(dataset: StoryDataset, findings: DatasetReport) -> Iterator[str]:
    """Yields the lines of `storygan data check`."""
    from storygan_tf.data.datasets.reject_summary import describe_rejects

    yield f"layout     {dataset.format}"
    yield f"stories    {findings.total} given, {findings.accepted} usable, {len(findings.rejects)} set aside"
    yield f"splits     {_counts(findings.splits)}"
    yield f"frames     {findings.frames} a story (stories by number of frames: {_counts(findings.lengths)})"
    yield f"pictures   {_counts(findings.sizes)}"
    yield f"labels     {_counts(findings.labels)}"
    yield from (f"published  {line}" for line in _compared(dataset, findings))
    yield from (f"overlap    {_shared(overlap)}" for overlap in findings.overlaps)
    yield from (f"note       {note}" for note in dataset.notes)
    if findings.unused:
        yield f"not used   {_counts(findings.unused)}"
    yield from (f"set aside  {line}" for line in describe_rejects(findings.rejects))


def _compared(dataset: StoryDataset, findings: DatasetReport) -> Iterator[str]:
    """Yields what the published set has, and what of it is missing here."""
    for split, count in (dataset.published or {}).items():
        missing = count - findings.splits[split]
        rest = f"{missing:,} are missing" if missing > 0 else "none is missing"
        yield f"{split}: {findings.splits[split]:,} of {count:,} usable, {rest}"


def _shared(overlap: Overlap) -> str:
    return (
        f"of {overlap.stories} {overlap.split} stories {overlap.same_pictures} have all pictures of a {overlap.other} "
        f"story, {overlap.same_sentences} all its sentences, {overlap.shared_picture} at least one picture"
    )


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())) or "none"


def _readable(stories: Sequence[Story], count: int, folder: Path) -> tuple[list[StoryRow], list[Reject]]:
    """Returns rows of stories spread evenly over all of them, and those met on the way whose pictures are bad.

    For a bad one the next good one before the next place counts, so that one bad picture hides no others.
    """
    from storygan_tf.data.datasets.story import BadFrameError

    rows, rejects = [], []
    places = [index * len(stories) // count for index in range(count + 1)]
    for first, end in itertools.pairwise(places):
        for story in stories[first:end]:
            try:
                rows.append(_row(story))
                break
            except BadFrameError as error:
                rejects.append(error.as_reject(story.story_id, folder))
    return rows, rejects


def _row(story: Story) -> StoryRow:
    import numpy as np

    from storygan_tf.data.datasets.story import load_frame
    from storygan_tf.data.storyboard import StoryRow

    frames = np.stack([load_frame(picture) for picture in story.images])
    return StoryRow(story.story_id, story.sentences, {story.split or "frames": frames})
