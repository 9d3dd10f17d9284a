"""The fingerprint of a data folder changes if and only if its files do."""

from __future__ import annotations

import os
import shutil

import pytest

from storygan_tf.common.errors import DataError
from storygan_tf.data.datasets.data_fingerprint import data_fingerprint


@pytest.fixture
def folder(tmp_path, story_folder):
    return story_folder(tmp_path / "data", train=2, test=1)


def replace_an_image(folder):
    (folder / "images/s000_1.png").write_bytes((folder / "images/s001_3.png").read_bytes())


def edit_a_line(folder):
    path = folder / "stories.jsonl"
    path.write_text(path.read_text().replace("square", "block", 1))


def add_a_file(folder):
    (folder / "note.txt").write_text("")


def rename_a_file(folder):
    (folder / "images/s000_1.png").rename(folder / "images/t.png")


def remove_a_file(folder):
    (folder / "images/s000_1.png").unlink()


def add_a_link(folder):
    (folder / "more").symlink_to(folder.parent)


@pytest.mark.parametrize(
    "change", [replace_an_image, edit_a_line, add_a_file, rename_a_file, remove_a_file, add_a_link]
)
def test_any_change_changes_it(folder, change):
    before = data_fingerprint(folder)
    change(folder)
    assert data_fingerprint(folder) != before
    assert len(before) == 64


def test_content_does_not_move_between_names(tmp_path):
    for name, files in (("one", {"ab": "c", "d": ""}), ("two", {"a": "bc", "d": ""}), ("three", {"ab": "", "d": "c"})):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_text(content)
    assert len({data_fingerprint(tmp_path / name) for name in ("one", "two", "three")}) == 3


def test_location_and_times_do_not_change_it(folder, tmp_path):
    before = data_fingerprint(folder)
    shutil.copytree(folder, tmp_path / "copy")
    os.utime(tmp_path / "copy/stories.jsonl", (0, 0))
    assert data_fingerprint(tmp_path / "copy") == before


@pytest.fixture
def cache(folder, tmp_path, monkeypatch):
    """Returns a cache file with the digests of the folder's files, which are cached although they are new."""
    monkeypatch.setattr("storygan_tf.data.datasets.data_fingerprint._SETTLED_NS", -(10**9))
    data_fingerprint(folder, tmp_path / "cache.json")
    return tmp_path / "cache.json"


def unread(monkeypatch):
    monkeypatch.setattr("storygan_tf.data.datasets.data_fingerprint._content_digest", pytest.fail)


def test_cached_files_are_not_read_again(folder, cache, monkeypatch):
    before = data_fingerprint(folder)
    unread(monkeypatch)
    assert data_fingerprint(folder, cache) == before


@pytest.mark.parametrize(
    "change", [replace_an_image, edit_a_line, add_a_file, rename_a_file, remove_a_file, add_a_link]
)
def test_any_change_is_detected_with_a_cache(folder, cache, change):
    before = data_fingerprint(folder)
    change(folder)
    after = data_fingerprint(folder, cache)
    assert after != before
    assert after == data_fingerprint(folder) == data_fingerprint(folder, cache)


def test_a_change_that_keeps_size_and_time_is_detected(folder, cache):
    path = folder / "images/s000_1.png"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert data_fingerprint(folder, cache) == data_fingerprint(folder)


def test_a_file_that_was_changed_less_than_10_seconds_ago_is_not_cached(folder, tmp_path, monkeypatch):
    changed = [path.stat().st_ctime_ns for path in folder.rglob("*") if path.is_file()]
    monkeypatch.setattr("time.time_ns", lambda: min(changed) + 9_900_000_000)
    data_fingerprint(folder, tmp_path / "cache.json")
    assert not (tmp_path / "cache.json").exists()
    monkeypatch.setattr("time.time_ns", lambda: max(changed) + 10_100_000_000)
    data_fingerprint(folder, tmp_path / "cache.json")
    assert (tmp_path / "cache.json").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b"\xff"])
def test_an_unreadable_cache_is_ignored(folder, cache, content):
    cache.write_bytes(content)
    assert data_fingerprint(folder, cache) == data_fingerprint(folder)


def test_a_missing_folder_is_reported(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        data_fingerprint(tmp_path / "none")
