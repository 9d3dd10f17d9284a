"""The fuzz proof: however a data set is damaged, each of its stories is accepted or rejected, and none disappears.

Valid data sets of every layout are damaged (`mutations.py`) and read in a separate process (`fuzz_program.py`). It must
neither end by itself nor take more than `SECONDS` or more memory than it is allowed for any of them.

The short form makes 35 mutations, the slow one 200. `STORYGAN_MUTATIONS=2000` makes as many; `STORYGAN_FUZZ_FIRST` is
the number of the first one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import storygan_tf
from storygan_tf.data.datasets import open_dataset
from storygan_tf.data.datasets.convert import convert

PROGRAM = Path(__file__).with_name("fuzz_program.py")
MUTATIONS = int(os.environ.get("STORYGAN_MUTATIONS", "200"))
FIRST = int(os.environ.get("STORYGAN_FUZZ_FIRST", "0"))
SECONDS = 120
"""Longest time to read and convert a mutation's data set, which takes a fraction of a second on an idle machine."""

START_SECONDS = 240
"""Longest time until a process has started and read the undamaged data sets."""


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory, story_folder, clevr_folder, pororo_folder, flintstones_folder):
    """Returns a folder of valid data sets, one or two of each layout."""
    root = tmp_path_factory.mktemp("data_sets")
    stories = open_dataset(story_folder(root / "stories", train=3, test=1))
    if importlib.util.find_spec("pyarrow"):
        convert(stories, root / "table", "parquet")
    clevr_folder(root / "clevr")
    pororo_folder(root / "pororo", clips=9)
    pororo_folder(root / "pororo_quoted", clips=10, quoted=True)
    flintstones_folder(root / "flintstones")
    flintstones_folder(root / "flintstones_bare", labels=False, following=False)
    return root


class Watched:
    """A process that makes the mutations from `first` to `end - 1`; gives the lines that it prints."""

    def __init__(self, data_sets: Path, work: Path, first: int, end: int) -> None:
        command = [sys.executable, "-W", "ignore", str(PROGRAM), str(data_sets), str(first), str(end)]
        self._errors = (work / "errors").open("w+")
        paths = os.pathsep.join([str(Path(storygan_tf.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            command, cwd=work, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=self._errors,
            text=True,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read_lines, daemon=True).start()

    def _read_lines(self) -> None:
        with contextlib.suppress(ValueError):
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put("")

    def next(self, seconds: float) -> dict | None:
        """Returns the next line, or None if the process has ended; raises queue.Empty after `seconds`."""
        line = self._lines.get(timeout=seconds)
        return json.loads(line) if line else None

    def end(self) -> str:
        """Ends the process; returns its exit status and the end of its standard error."""
        self._process.kill()
        status = self._process.wait()
        self._process.stdout.close()
        with self._errors as errors:
            errors.seek(0)
            return f"status {status}: {errors.read()[-2000:]}"


def outcomes(data_sets: Path, work: Path, first: int, end: int) -> Iterator[dict]:
    """Yields the outcome of each mutation.

    If a mutation hangs or ends the process, its outcome is a `failure`, and a new process makes the next ones. One that
    takes too long is made a second time first, because a loaded machine may have been the reason.
    """
    slow = None
    while first < end:
        watched, limit = Watched(data_sets, work, first, end), START_SECONDS
        try:
            while first < end:
                line = watched.next(limit)
                limit = SECONDS
                if line is None:
                    break
                if "begun" not in line:
                    first = line["number"] + 1
                    yield line
            failure = "" if first == end else "it ended"
        except queue.Empty:
            failure = f"no answer in {limit} s"
        status = watched.end()
        if failure.startswith("no answer") and slow != first:
            slow = first
        elif failure:
            yield {"number": first, "layout": "", "done": [], "failure": f"{failure}, {status}"}
            first += 1


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "mutations", [pytest.param(35, id="a few"), pytest.param(MUTATIONS, id="all", marks=pytest.mark.slow)]
)
def test_damaged_data_sets_are_accepted_or_rejected_story_by_story(data_sets, tmp_path, mutations):
    results = list(outcomes(data_sets, tmp_path, FIRST, FIRST + mutations))
    read = [entry for entry in results if "total" in entry]
    refused = sum("refused" in entry for entry in results)
    print(f"\n{len(results)} mutations from {FIRST} on: {len(read)} read, {refused} refused")
    for name in ("total", "accepted", "rejected"):
        print(f"stories {name}: {sum(entry[name] for entry in read)}")
    print(f"by layout: {dict(Counter(entry['layout'] for entry in results))}")
    failures = [entry for entry in results if "failure" in entry]
    for entry in failures:
        print(entry["number"], entry["layout"], entry["done"], entry["failure"], sep="\n")
    assert [entry["number"] for entry in failures] == []
    assert [entry["number"] for entry in results] == list(range(FIRST, FIRST + mutations))
    assert all(entry["accepted"] + entry["rejected"] == entry["total"] for entry in read)
    # The damage must be such that neither all stories are accepted nor all data sets refused.
    assert len(read) > mutations / 3
    assert sum(entry["rejected"] for entry in read) > mutations / 8


HARMFUL = {
    "hangs": ("print('{\"begun\": 1}', flush=True); time.sleep(600)", 0.5, "no answer in 0.5 s"),
    "ends": ("os.abort()", 120, "it ended, status -6"),
}
"""What a program does instead of mutation 1, the limit for each mutation in seconds, and the failure reported.

No limit but that for the hanging mutation can pass, however slow the machine: the first line of a process, which each
other mutation prints, has `START_SECONDS`.
"""


@pytest.mark.parametrize("harm", HARMFUL)
def test_a_mutation_that_hangs_or_ends_the_process_is_reported(tmp_path, monkeypatch, harm):
    code, limit, failure = HARMFUL[harm]
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, time\nfor number in range(int(sys.argv[2]), int(sys.argv[3])):\n"
        f"    if number == 1:\n        {code}\n"
        "    print('{\"number\": %d}' % number, flush=True)\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PROGRAM", program)
    monkeypatch.setattr(sys.modules[__name__], "SECONDS", limit)
    found = list(outcomes(tmp_path, tmp_path, 0, 3))
    assert [entry["number"] for entry in found] == [0, 1, 2]
    assert failure in found[1]["failure"]
    assert "failure" not in found[0] | found[2]
