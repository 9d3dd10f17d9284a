"""Standard error goes to the log file within the context, and a crash is still reported on the terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from pipeline.log_file import stderr_to_file

print("before", file=sys.stderr)
with stderr_to_file(Path(sys.argv[1])):
    print("from this process", file=sys.stderr)
    subprocess.run([sys.executable, "-c", "import sys; print('from another', file=sys.stderr)"], check=True)
    if sys.argv[2] == "crash":
        os.abort()
print("after", file=sys.stderr)
"""


def run(log: Path, ending: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(log), ending]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_standard_error_of_all_processes_goes_to_the_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("first\n")
    done = run(log, "end")
    assert (done.returncode, done.stderr) == (0, "before\nafter\n")
    assert log.read_text() == "first\nfrom this process\nfrom another\n"


def test_a_crash_is_reported_on_the_terminal(tmp_path):
    done = run(tmp_path / "log", "crash")
    assert done.returncode < 0
    assert done.stderr.startswith("before\nFatal Python error: Aborted\n")
