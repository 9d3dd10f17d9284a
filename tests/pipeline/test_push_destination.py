"""The push of a run itself does not change the key of the destination; every other change does."""

from __future__ import annotations

import shutil

import pytest

from pipeline.push_destination import PushDestination
from pipeline.run_directory import RunDirectory
from storygan_tf.config import presets


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run", presets.load("quick"), tmp_path / "data")


def push(run, version, content="weights"):
    folder = run.serving / version
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(content)
    return folder


def key(run, owner="a"):
    return PushDestination.from_run(run, owner).key


def end(run, version=None, owner="a"):
    """Simulates a run that pushes a version, or none; returns the key at its start."""
    destination = PushDestination.from_run(run, owner)
    pushed = push(run, version) if version else None
    run.path.mkdir(exist_ok=True)
    destination.save(run, pushed)
    return destination.key


def test_a_runs_own_push_is_no_change(run):
    first = end(run, "1")
    assert key(run) == first
    assert end(run, "2") == first
    assert key(run) == first


def test_a_run_that_pushes_nothing_changes_nothing(run):
    first = end(run)
    assert end(run) == first == key(run)


def test_a_push_by_others_is_a_change(run):
    first = end(run, "1")
    push(run, "7")
    changed = end(run)
    assert changed != first
    assert key(run) == changed


def test_a_push_by_others_while_the_run_went_on_is_a_change(run):
    destination = PushDestination.from_run(run, "a")
    pushed = push(run, "1")
    push(run, "7")
    run.path.mkdir(exist_ok=True)
    destination.save(run, pushed)
    assert key(run) != destination.key


def test_another_content_of_the_newest_version_is_a_change(run):
    first = end(run, "1")
    (run.serving / "1" / "saved_model.pb").write_text("other weights")
    assert key(run) != first


def test_an_emptied_destination_is_not_what_it_was_before_the_first_push(run):
    first = end(run, "1")
    shutil.rmtree(run.serving / "1")
    emptied = end(run)
    assert emptied != first
    push(run, "2")
    shutil.rmtree(run.serving / "2")
    assert key(run) == emptied


def test_another_configuration_is_never_taken_for_the_one_that_pushed(run):
    """Run A is evaluated without a served model and killed, then B is pushed: A must be evaluated again, against B."""
    killed = key(run, "a")
    end(run, "1", "b")
    assert key(run, "a") != killed


def test_a_run_that_was_killed_before_it_pushed_begins_again_with_the_same_key(run):
    end(run, "1")
    push(run, "7")
    assert key(run) == key(run)
