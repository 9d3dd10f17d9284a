"""Cached folders are rebuilt when their inputs change, and only then."""

from __future__ import annotations

import pytest

from storygan_tf.common.cache import STAMP, build_once, is_up_to_date, write_stamp


def builder(content):
    """Returns a function that builds a folder with one file."""

    def build(path):
        path.mkdir()
        (path / "file").write_text(content)

    return build


def never(path):
    pytest.fail("built again")


def test_a_folder_is_built_once_for_the_same_inputs(tmp_path):
    folder = tmp_path / "cache"
    build_once(folder, {"a": 1, "b": [2]}, builder("first"))
    assert is_up_to_date(folder, {"b": [2], "a": 1})
    build_once(folder, {"b": [2], "a": 1}, never)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["file", STAMP])


def test_a_folder_is_replaced_when_its_inputs_change(tmp_path):
    folder = tmp_path / "cache"
    build_once(folder, {"a": 1}, builder("first"))
    build_once(folder, {"a": 2}, builder("second"))
    assert (folder / "file").read_text() == "second"
    assert is_up_to_date(folder, {"a": 2})
    assert not is_up_to_date(folder, {"a": 1})


def test_a_folder_without_a_description_is_incomplete(tmp_path):
    assert not is_up_to_date(tmp_path / "missing", {})
    builder("half")(tmp_path / "cache")
    assert not is_up_to_date(tmp_path / "cache", {})
    build_once(tmp_path / "cache", {}, builder("whole"))
    assert (tmp_path / "cache" / "file").read_text() == "whole"


def test_a_failed_build_keeps_the_old_folder(tmp_path):
    build_once(tmp_path / "cache", {"a": 1}, builder("old"))

    def fail(path):
        builder("half")(path)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        build_once(tmp_path / "cache", {"a": 2}, fail)
    assert is_up_to_date(tmp_path / "cache", {"a": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_the_stamp_can_be_written_last(tmp_path):
    write_stamp(tmp_path, {"a": 1})
    assert is_up_to_date(tmp_path, {"a": 1})
