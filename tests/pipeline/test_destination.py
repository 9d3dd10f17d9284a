"""A run's own push is no change of the destination; everything else is."""

from __future__ import annotations

import shutil

import pytest

from pipeline.destination import destination_key, remember_destination
from pipeline.run_directory import RunDirectory
from storygan_tf import presets


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run", presets.load("quick"), tmp_path / "data")


def push(run, version, content="weights"):
    folder = run.serving / version
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(content)


def end(run, version=None):
    """Goes through a run that pushes a version, or none; returns the key it began with."""
    key = destination_key(run)
    if version:
        push(run, version)
    run.path.mkdir(exist_ok=True)
    remember_destination(run, key)
    return key


def test_a_runs_own_push_is_no_change(run):
    first = end(run, "1")
    assert destination_key(run) == first
    assert end(run) == first
    assert end(run, "2") == first
    assert destination_key(run) == first


def test_a_push_by_others_is_a_change(run):
    first = end(run, "1")
    push(run, "7")
    changed = end(run)
    assert changed != first
    assert destination_key(run) == changed


def test_another_content_of_the_newest_version_is_a_change(run):
    first = end(run, "1")
    (run.serving / "1" / "saved_model.pb").write_text("other weights")
    assert destination_key(run) != first


def test_an_emptied_destination_is_not_what_it_was_before_the_first_push(run):
    first = end(run, "1")
    shutil.rmtree(run.serving / "1")
    emptied = end(run)
    assert emptied != first
    push(run, "2")
    shutil.rmtree(run.serving / "2")
    assert destination_key(run) == emptied


def test_a_run_that_was_killed_before_it_pushed_begins_again_with_the_same_key(run):
    end(run, "1")
    push(run, "7")
    assert destination_key(run) == destination_key(run)
