"""`render_blocks`: renders the data set `blocks`, in CLEVR-SV's public layout and as a story folder at once.

    images/CLEVR_new_000000_1.png ...  128x96 RGBA, frame k shows objects 1 to k
    CLEVR_dict.npy                     file name -> vector of 75
    stories.jsonl                      sentences, labels, objects
    SOURCE                             the command and the versions that made the folder

Training stories are numbered from 0, test stories from 10,000, validation stories from 900,000. A story depends only on
the seed and its number, so any number of processes can render a folder, an interrupted rendering can be continued, and
a folder can be enlarged.
"""

from __future__ import annotations

import concurrent.futures
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

import storygan_tf
from storygan_tf.common.atomic_files import PARTIAL_SUFFIX, write_atomically
from storygan_tf.common.errors import DataError
from storygan_tf.data.blocks import clevr, scene
from storygan_tf.data.blocks.placement import story_objects
from storygan_tf.data.blocks.sentences import story_sentences
from storygan_tf.data.datasets.clevr_sv import (
    DICT_FILE,
    FIRST_TEST_STORY,
    FIRST_VAL_STORY,
    IMAGES,
    image_name,
    split_name,
    story_name,
)
from storygan_tf.data.datasets.open_dataset import BLOCKS, SOURCE_FILE
from storygan_tf.data.datasets.story_folder import STORIES_FILE

MAX_TEST_STORIES = FIRST_VAL_STORY - FIRST_TEST_STORY
MAX_VAL_STORIES = 1_000_000 - FIRST_VAL_STORY
"""Stories are numbered with six digits."""


def render_blocks(
    out: Path,
    stories: int,
    test_stories: int,
    *,
    val_stories: int = 0,
    seed: int = 1,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Renders a data set. Frames that exist already are kept; the same seed gives the same bytes.

    Args:
        out: the folder to write.
        stories: number of training stories, up to 10,000.
        test_stories: number of test stories.
        val_stories: number of validation stories.
        seed: seed of all random choices.
        workers: number of processes; None for one per core.
        progress: called after each story with the number of stories rendered and to render.

    Raises:
        DataError: if a number is out of range, Mitsuba is not installed, the folder contains anything but a part of
            this data set, or it cannot be written.
    """
    numbers = _numbers(stories, test_stories, val_stories, seed, workers)
    incomplete = [index for index in numbers if _missing_frames(out, index)]
    source = _source(out, (stories, test_stories, val_stories), seed, bool(incomplete))
    _check_folder(out, source, set(numbers))
    if incomplete:
        if not (out / SOURCE_FILE).exists():
            write_atomically(out / SOURCE_FILE, source)
        _render_all(out, incomplete, seed, workers or _cores(), progress or (lambda done, total: None))
    _write_tables(out, numbers, seed)
    write_atomically(out / SOURCE_FILE, source)


def _numbers(stories: int, test_stories: int, val_stories: int, seed: int, workers: int | None) -> list[int]:
    """Returns the numbers of all stories; raises DataError if an argument is out of range."""
    for name, value, low, high in (
        ("stories", stories, 0, FIRST_TEST_STORY),
        ("test stories", test_stories, 0, MAX_TEST_STORIES),
        ("validation stories", val_stories, 0, MAX_VAL_STORIES),
        ("seed", seed, 0, 2**63 - 1),
        ("workers", 1 if workers is None else workers, 1, 1024),
    ):
        if not low <= value <= high:
            raise DataError(f"{name}: found {value}, expected {low} to {high}.")
    if stories + test_stories == 0:
        raise DataError("stories and test stories: found 0 of both, expected at least one.")
    return [
        *range(stories),
        *range(FIRST_TEST_STORY, FIRST_TEST_STORY + test_stories),
        *range(FIRST_VAL_STORY, FIRST_VAL_STORY + val_stories),
    ]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _missing_frames(out: Path, index: int) -> list[int]:
    """Returns the frames of story `index`, from 1, that have not been rendered yet."""
    frames = range(1, clevr.OBJECTS + 1)
    return [frame for frame in frames if not (out / IMAGES / image_name(index, frame)).is_file()]


def _render_all(
    out: Path, numbers: Sequence[int], seed: int, workers: int, progress: Callable[[int, int], None]
) -> None:
    """Renders the missing frames of stories in parallel processes."""
    scene.load_mitsuba()  # raises here rather than in a worker process, if it is not installed
    for path in (out / IMAGES).glob(f".*{PARTIAL_SUFFIX}"):
        path.unlink(missing_ok=True)
    progress(0, len(numbers))
    for done, _ in enumerate(_in_processes(out, numbers, seed, workers), start=1):
        progress(done, len(numbers))


def _in_processes(out: Path, numbers: Sequence[int], seed: int, workers: int) -> Iterator[None]:
    """Renders stories in worker processes and yields once for each story that is done."""
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(numbers)), multiprocessing.get_context("spawn"), initializer=_ignore_interrupts
    )
    try:
        tasks = [pool.submit(render_story, out, index, seed) for index in numbers]
        for task in concurrent.futures.as_completed(tasks):
            yield task.result()
    except BrokenProcessPool as error:
        raise DataError(
            f"{out}: a rendering process ended suddenly, most likely for lack of memory. Run the same command again to "
            "continue; --workers 1 takes the least memory."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    """Makes a worker process ignore Ctrl-C, which the terminal sends to every process; the main process ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def render_story(out: Path, index: int, seed: int) -> None:
    """Renders the frames of story `index` that do not exist yet."""
    items = story_objects(seed, index)
    for frame in _missing_frames(out, index):
        buffer = io.BytesIO()
        scene.render(items[:frame]).save(buffer, "PNG")
        write_atomically(out / IMAGES / image_name(index, frame), buffer.getvalue())


def _write_tables(out: Path, numbers: Sequence[int], seed: int) -> None:
    """Writes `CLEVR_dict.npy` and `stories.jsonl`."""
    vectors, lines = {}, []
    for index in numbers:
        items = story_objects(seed, index)
        frames = [items[: frame + 1] for frame in range(len(items))]
        vectors.update({image_name(index, len(shown)): clevr.to_vector(shown) for shown in frames})
        lines.append(json.dumps(_line(index, frames)) + "\n")
    buffer = io.BytesIO()
    np.save(buffer, np.array(vectors, dtype=object), allow_pickle=True)
    write_atomically(out / DICT_FILE, buffer.getvalue())
    write_atomically(out / STORIES_FILE, "".join(lines).encode())


def _line(index: int, frames: Sequence[Sequence[clevr.SceneObject]]) -> dict[str, object]:
    """Returns the line of story `index` in `stories.jsonl`; `frames` are the objects that each frame shows."""
    return {
        "story_id": story_name(index),
        "split": split_name(index),
        "sentences": story_sentences(frames[-1], index),
        "images": [f"{IMAGES}/{image_name(index, len(shown))}" for shown in frames],
        "labels": [clevr.labels_of(shown) for shown in frames],
        "objects": [[clevr.describe(item) for item in shown] for shown in frames],
    }


def _source(out: Path, counts: tuple[int, int, int], seed: int, rendering: bool) -> bytes:
    """Returns the content of `SOURCE`.

    Args:
        out: the data folder.
        counts: numbers of training, test and validation stories.
        seed: seed of all random choices.
        rendering: whether any frame must still be rendered.
    """
    stories, test_stories, val_stories = counts
    val_option = f" --val-stories {val_stories}" if val_stories else ""
    # Mitsuba need not be installed to check a complete folder again.
    mitsuba = scene.load_mitsuba().__version__ if rendering else _parameters(out).get("mitsuba", "")
    return (
        f"{BLOCKS}: stories in CLEVR-SV's style, rendered; not the public CLEVR-SV set\n"
        f"command: storygan data render --stories {stories} --test-stories {test_stories}{val_option} --seed {seed} "
        "--out DIR\n"
        f"storygan: {storygan_tf.__version__}\n"
        f"seed: {seed}\n"
        f"frames: {scene.WIDTH}x{scene.HEIGHT} RGBA\n"
        f"scene: {scene.VERSION}\n"
        f"mitsuba: {mitsuba}\n"
    ).encode()


def _parameters(out: Path, content: bytes | None = None) -> dict[str, str]:
    """Returns the values of a `SOURCE` file by key.

    Args:
        out: the data folder.
        content: content of the file; None to read that of `out`, which may not exist.
    """
    path = out / SOURCE_FILE
    if content is None:
        content = path.read_bytes() if path.is_file() else b""
    pairs = (line.partition(": ") for line in content.decode(errors="replace").splitlines())
    return {key: value for key, _, value in pairs}


def _check_folder(out: Path, source: bytes, numbers: set[int]) -> None:
    """Raises DataError unless the folder is new, empty, or contains a part of the data set to render."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: found a file, expected a folder or nothing.")
    if not out.is_dir() or all(path.name.endswith(PARTIAL_SUFFIX) for path in out.iterdir()):
        return
    if not (out / SOURCE_FILE).is_file():
        raise DataError(
            f"{out}: contains files that were not rendered here (no {SOURCE_FILE}); give an empty folder or a new one."
        )
    found, expected = _parameters(out), _parameters(out, source)
    for key in ("seed", "frames", "scene", "mitsuba"):
        if found.get(key) != expected[key]:
            raise DataError(
                f"{out}: was rendered with {key} {found.get(key)}, now {expected[key]} is required; give another "
                "folder, or delete this one."
            )
    _check_surplus(out, numbers)


def _check_surplus(out: Path, numbers: set[int]) -> None:
    """Raises DataError if the folder contains stories with other numbers."""
    existing = {int(path.name.split("_")[2]) for path in (out / IMAGES).glob("CLEVR_new_*_*.png")}
    if surplus := sorted(existing - numbers):
        raise DataError(
            f"{out}: contains {len(surplus)} stories that were not requested, such as {story_name(surplus[0])}; "
            "request as many stories, or give another folder."
        )
