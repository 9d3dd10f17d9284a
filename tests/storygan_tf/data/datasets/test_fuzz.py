"""The fuzz proof: whatever is done to a data set, its stories are accepted or set aside, and none disappears.

Valid data sets of every layout are damaged (`mutations.py`) and read in a process of their own (`fuzz_program.py`) that
is watched: it must not end, nor take longer than `SECONDS` or more memory than it is allowed over any of them.

The short form makes 200 mutations. `STORYGAN_MUTATIONS=2000` makes as many; `STORYGAN_FUZZ_FIRST` begins elsewhere.
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
SECONDS = 30
"""A mutation's data set is read and converted in less; all of it is a fraction of a second's work."""

START = 60
"""Seconds until a process has read the undamaged data sets."""


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
    """A process that makes mutations, from `first` on, and what it says."""

    def __init__(self, data_sets: Path, work: Path, first: int, end: int) -> None:
        command = [sys.executable, "-W", "ignore", str(PROGRAM), str(data_sets), str(first), str(end)]
        self._errors = (work / "errors").open("w+")
        paths = os.pathsep.join([str(Path(storygan_tf.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            command, cwd=work, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=self._errors,
            text=True,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(ValueError):
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put("")

    def next(self, seconds: float) -> dict | None:
        """Returns what is said next, nothing where the process has ended; raises queue.Empty where it takes longer."""
        line = self._lines.get(timeout=seconds)
        return json.loads(line) if line else None

    def end(self) -> str:
        """Ends it; returns how it ended and the last of what it complained of."""
        self._process.kill()
        status = self._process.wait()
        self._process.stdout.close()
        with self._errors as errors:
            errors.seek(0)
            return f"status {status}: {errors.read()[-2000:]}"


def outcomes(data_sets: Path, work: Path, first: int, end: int) -> Iterator[dict]:
    """Yields what became of each mutation; of one that hangs or ends the process a `failure`, and others go on.

    One that takes too long is made once more, for a loaded machine may stand still for a while; what hangs hangs again.
    """
    slow = None
    while first < end:
        watched, limit = Watched(data_sets, work, first, end), START
        try:
            while first < end:
                told = watched.next(limit)
                limit = SECONDS
                if told is None:
                    break
                if "begun" not in told:
                    first = told["number"] + 1
                    yield told
            failure = "" if first == end else "it ended"
        except queue.Empty:
            failure = f"no answer in {limit} s"
        how = watched.end()
        if failure.startswith("no answer") and slow != first:
            slow = first
        elif failure:
            yield {"number": first, "layout": "", "done": [], "failure": f"{failure}, {how}"}
            first += 1


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "mutations", [pytest.param(35, id="a few"), pytest.param(MUTATIONS, id="all", marks=pytest.mark.slow)]
)
def test_damaged_data_sets_are_accepted_or_set_aside_story_by_story(data_sets, tmp_path, mutations):
    told = list(outcomes(data_sets, tmp_path, FIRST, FIRST + mutations))
    read = [entry for entry in told if "given" in entry]
    print(f"\n{len(told)} mutations from {FIRST} on: {len(read)} read, {sum('refused' in e for e in told)} refused")
    for name in ("given", "accepted", "set_aside"):
        print(f"stories {name}: {sum(entry[name] for entry in read)}")
    print(f"by layout: {dict(Counter(entry['layout'] for entry in told))}")
    failures = [entry for entry in told if "failure" in entry]
    for entry in failures:
        print(entry["number"], entry["layout"], entry["done"], entry["failure"], sep="\n")
    assert [entry["number"] for entry in failures] == []
    assert [entry["number"] for entry in told] == list(range(FIRST, FIRST + mutations))
    assert all(entry["accepted"] + entry["set_aside"] == entry["given"] for entry in read)
    # The damage is such that neither everything is accepted nor everything refused.
    assert len(read) > mutations / 3
    assert sum(entry["set_aside"] for entry in read) > mutations / 8


HARMFUL = {
    "hangs": ("import time; time.sleep(99)", "no answer in 2 s"),
    "ends": ("import os; os.abort()", "it ended, status -6"),
}


@pytest.mark.parametrize("harm", HARMFUL)
def test_a_mutation_that_hangs_or_ends_the_process_is_told(tmp_path, monkeypatch, harm):
    code, failure = HARMFUL[harm]
    program = tmp_path / "program.py"
    told = "print('{\"number\": %d}' % number, flush=True)"
    program.write_text(
        "import sys\nfor number in range(int(sys.argv[2]), int(sys.argv[3])):\n"
        f"    if number == 1:\n        {code}\n    {told}\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PROGRAM", program)
    monkeypatch.setattr(sys.modules[__name__], "START", 2)
    monkeypatch.setattr(sys.modules[__name__], "SECONDS", 2)
    found = list(outcomes(tmp_path, tmp_path, 0, 3))
    assert [entry["number"] for entry in found] == [0, 1, 2]
    assert failure in found[1]["failure"]
    assert "failure" not in found[0] | found[2]
