"""The script of the Flink cluster: what is missing is told, and nobody else's process is stopped."""

from __future__ import annotations

import json
import os
import sys

import pytest

SCRIPT = "scripts/flink/cluster.py"
MISSING = 3


def cluster(machine, *arguments, **environment):
    return machine.run(sys.executable, SCRIPT, *arguments, **environment)


def fetched(machine):
    """Makes it look as if Flink had been fetched."""
    (machine.checkout / ".flink/python/lib/python3.10/site-packages/pyflink/lib").mkdir(parents=True)


def java(machine, version):
    machine.command("java", f"echo 'openjdk version \"{version}\"' >&2")


def test_without_java_it_says_how_to_get_it(machine):
    done = cluster(machine, "up")
    assert done.returncode == MISSING
    assert done.stderr.startswith("flink: found no java. Flink 1.19 needs Java 11 or 17: apt-get install")


@pytest.mark.parametrize("version", ["1.8.0_392", "21.0.1"])
def test_another_java_is_refused(machine, version):
    java(machine, version)
    done = cluster(machine, "up")
    assert done.returncode == MISSING
    assert f'found openjdk version "{version}". Flink 1.19 needs Java 11 or 17' in done.stderr


def test_without_maven_it_says_how_to_get_it(machine):
    java(machine, "17.0.15")
    fetched(machine)
    done = cluster(machine, "up")
    assert done.returncode == MISSING
    assert "found no Maven, which builds Beam's job server: apt-get install maven" in done.stderr


def test_what_cannot_be_fetched_or_built_is_told(machine):
    java(machine, "17.0.15")
    done = cluster(machine, "up")
    assert (done.returncode, "no environment for Flink: `uv` failed." in done.stderr) == (MISSING, True)
    fetched(machine)
    machine.command("mvn", "echo '[ERROR] no answer'; exit 1")
    done = cluster(machine, "up")
    assert (done.returncode, "no job server: `mvn` failed. [ERROR] no answer" in done.stderr) == (MISSING, True)


def test_a_process_that_took_a_stopped_ones_number_is_left_alone(machine):
    folder = machine.checkout / ".flink/cluster"
    folder.mkdir(parents=True)
    (folder / "processes.json").write_text(json.dumps([{"name": "jobmanager", "pid": os.getpid(), "started": "1"}]))
    assert cluster(machine, "down").returncode == 0
    assert not (folder / "processes.json").exists()


def test_to_stop_what_does_not_run_does_no_harm(machine):
    assert cluster(machine, "down").returncode == 0
