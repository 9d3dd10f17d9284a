"""`storygan data`: renders, checks, shows and converts folders of stories."""

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

_PROGRESS_DELAY = 2.0
"""Seconds of work after which progress is shown."""

app = typer.Typer(
    help="Render, check, show and convert folders of stories.",
    epilog="Example: storygan data check runs/data/quick",
    no_args_is_help=True,
)

FolderArgument = Annotated[Path, typer.Argument(help="Folder of stories.", metavar="DIR")]
Layout = Annotated[
    str,
    typer.Option(
        "--format", help="Layout of the folder: auto, story-folder, clevr-sv, pororo-sv, flintstones-sv or parquet."
    ),
]
FrameSeed = Annotated[
    int, typer.Option(min=0, help="Seed that chooses one frame from each clip of Pororo-SV and FlintstonesSV.")
]
PororoSplit = Annotated[str, typer.Option(help="Split of Pororo-SV: seen-unseen, or the older train-test.")]
DropLeaks = Annotated[
    bool, typer.Option("--drop-leaks", help="Leave out the test stories of FlintstonesSV that contain training clips.")
]


@app.command(
    epilog="Example: storygan data render --stories 240 --test-stories 48 --val-stories 24 --out runs/data/quick"
)
def render(
    stories: Annotated[int, typer.Option(help="Number of training stories, up to 10,000.")],
    test_stories: Annotated[int, typer.Option(help="Number of test stories.")],
    out: Annotated[Path, typer.Option(help="Folder to create. Repeat the call to finish an interrupted one.")],
    val_stories: Annotated[
        int, typer.Option(help="Number of stories that a training is measured on after each epoch.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the stories; the same seed gives the same files.")] = 1,
    workers: Annotated[int | None, typer.Option(help="Number of processes; by default one per core.")] = None,
) -> None:
    """Render the stories of `blocks`: four objects on a table, in the style of CLEVR-SV."""
    from storygan_tf.data.blocks.render import render_blocks

    with _progress_display("rendering stories") as progress:
        render_blocks(
            out, stories, test_stories, val_stories=val_stories, seed=seed, workers=workers, progress=progress
        )
    validation = f", {val_stories} for validation" if val_stories else ""
    print(f"{stories} stories for training{validation} and {test_stories} for testing are in {out}")


@app.command(epilog="Example: storygan data check my_stories --frames 5")
def check(
    folder: FolderArgument,
    layout: Layout = "auto",
    frames: Annotated[
        int | None, typer.Option(help="Number of frames that a story must have; by default the most frequent one.")
    ] = None,
    frame_seed: FrameSeed = 0,
    pororo_split: PororoSplit = "seen-unseen",
    drop_leaks: DropLeaks = False,
) -> None:
    """Read every story and picture, and print which can be used and which cannot."""
    from storygan_tf.common.errors import DataError
    from storygan_tf.data.datasets.dataset_report import examine_dataset

    dataset = _open(folder, layout, frame_seed, pororo_split, drop_leaks)
    with _progress_display("checking stories") as progress:
        report = examine_dataset(dataset, frames, progress)
    for line in _report_lines(dataset, report):
        print(line)
    if not report.accepted:
        raise DataError(f"data folder {folder}: no story can be used; the reasons are above.")


@app.command(epilog="Example: storygan data show runs/data/quick --out board.png --stories 8")
def show(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    layout: Layout = "auto",
    stories: Annotated[int, typer.Option(min=1, help="Number of stories to show, spread evenly over the folder.")] = 6,
    frame_seed: FrameSeed = 0,
    pororo_split: PororoSplit = "seen-unseen",
    drop_leaks: DropLeaks = False,
) -> None:
    """Draw a contact sheet of stories, with the sentences under the frames."""
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
    rows, rejects = _readable_rows(usable, min(stories, len(usable)), dataset.folder)
    for line in describe_rejects(rejects):
        print(f"set aside  {line}")
    if not rows:
        raise DataError(f"data folder {folder}: no picture of the chosen stories can be read; the reasons are above.")
    storyboard(rows, out)
    print(f"{len(rows)} of {len(usable)} stories are in {out}")


@app.command(epilog="Example: storygan data convert pororo_png --out pororo_stories --format pororo-sv")
def convert(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option(help="Folder to create. It appears only when it is complete.")],
    to: Annotated[str, typer.Option(help="Layout to write: story-folder or parquet.")] = "story-folder",
    layout: Layout = "auto",
    frame_seed: FrameSeed = 0,
    pororo_split: PororoSplit = "seen-unseen",
    drop_leaks: DropLeaks = False,
) -> None:
    """Convert stories of any layout to a story folder or a Parquet table, which records the source of each frame."""
    from storygan_tf.data.datasets.convert import convert as convert_dataset
    from storygan_tf.data.datasets.reject_summary import describe_rejects

    dataset = _open(folder, layout, frame_seed, pororo_split, drop_leaks)
    with _progress_display("converting stories") as progress:
        converted = convert_dataset(dataset, out, to, progress)
    for note in dataset.notes:
        print(f"note       {note}")
    for line in describe_rejects(converted.rejects):
        print(f"set aside  {line}")
    print(f"{converted.stories} stories are in {out}, {len(converted.rejects)} were set aside")


def _open(folder: Path, layout: str, frame_seed: int, pororo_split: str, drop_leaks: bool) -> StoryDataset:
    """Opens a folder of stories in the layout that the options describe."""
    from storygan_tf.config.parsing import from_dict
    from storygan_tf.config.schema import DataConfig
    from storygan_tf.data.datasets import open_configured

    values = {"format": layout, "frame_seed": frame_seed, "pororo_split": pororo_split, "drop_leaks": drop_leaks}
    return open_configured(folder, from_dict(DataConfig, values, "data"))


@contextlib.contextmanager
def _progress_display(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function that shows progress; nothing is shown if the work takes less than `_PROGRESS_DELAY`.

    Args:
        description: the work, such as `rendering stories`.

    Yields:
        A function that takes the number of finished stories and the number of all stories.
    """
    from storygan_tf.common.progress import Advance, progress

    with contextlib.ExitStack() as stack:
        advances: list[Advance] = []
        shown, start = 0, time.monotonic()

        def update(done: int, total: int) -> None:
            nonlocal shown
            if not advances and time.monotonic() - start < _PROGRESS_DELAY:
                return
            if not advances:
                # With `done`, the estimate of the remaining time leaves out the stories that are already finished.
                advances.append(stack.enter_context(progress(description, total, done=done)))
            else:
                advances[0](done - shown)
            shown = done

        yield update


def _report_lines(dataset: StoryDataset, report: DatasetReport) -> Iterator[str]:
    """Yields the lines that `storygan data check` prints."""
    from storygan_tf.data.datasets.reject_summary import describe_rejects

    yield f"layout     {dataset.format}"
    yield f"stories    {report.total} given, {report.accepted} usable, {len(report.rejects)} set aside"
    yield f"splits     {_counts(report.splits)}"
    yield f"frames     {report.frames} a story (stories by number of frames: {_counts(report.lengths)})"
    yield f"pictures   {_counts(report.sizes)}"
    yield f"labels     {_counts(report.labels)}"
    yield from (f"published  {line}" for line in _published_lines(dataset, report))
    yield from (f"overlap    {_overlap_line(overlap)}" for overlap in report.overlaps)
    yield from (f"note       {note}" for note in dataset.notes)
    if report.unused:
        yield f"not used   {_counts(report.unused)}"
    yield from (f"set aside  {line}" for line in describe_rejects(report.rejects))


def _published_lines(dataset: StoryDataset, report: DatasetReport) -> Iterator[str]:
    """Yields, for each split of a published data set, how many of its stories are usable and how many are missing."""
    for split, count in (dataset.published or {}).items():
        missing = count - report.splits[split]
        rest = f"{missing:,} are missing" if missing > 0 else "none is missing"
        yield f"{split}: {report.splits[split]:,} of {count:,} usable, {rest}"


def _overlap_line(overlap: Overlap) -> str:
    """Returns a sentence about the stories that two splits have in common."""
    return (
        f"of {overlap.stories} {overlap.split} stories {overlap.same_pictures} have all pictures of a {overlap.other} "
        f"story, {overlap.same_sentences} all its sentences, {overlap.shared_picture} at least one picture"
    )


def _counts(counts: Mapping[Any, int]) -> str:
    """Returns counts by name as text, such as `test: 2, train: 6`."""
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())) or "none"


def _readable_rows(stories: Sequence[Story], count: int, folder: Path) -> tuple[list[StoryRow], list[Reject]]:
    """Returns `count` rows of stories, spread evenly over all stories, and the stories whose pictures cannot be read.

    Divides the stories into `count` ranges and takes the first readable story of each, so that an unreadable picture
    costs a row only if its whole range is unreadable.
    """
    from storygan_tf.data.datasets.story import BadFrameError

    rows, rejects = [], []
    bounds = [index * len(stories) // count for index in range(count + 1)]
    for first, end in itertools.pairwise(bounds):
        for story in stories[first:end]:
            try:
                rows.append(_row(story))
                break
            except BadFrameError as error:
                rejects.append(error.as_reject(story.story_id, folder))
    return rows, rejects


def _row(story: Story) -> StoryRow:
    """Reads the pictures of a story and returns its row of the contact sheet."""
    import numpy as np

    from storygan_tf.data.datasets.story import load_frame
    from storygan_tf.data.storyboard import StoryRow

    frames = np.stack([load_frame(picture) for picture in story.images])
    return StoryRow(story.story_id, story.sentences, {story.split or "frames": frames})
