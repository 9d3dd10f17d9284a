"""Folders in a bucket of a local S3 server, which runs as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from tfx.types import standard_artifacts
from tfx.utils import json_utils

from components import buckets, record_files
from components.buckets import BucketError, Copy, fetch, is_remote, kept, list_files, newest_version, store, store_file
from components.staging import staged
from storygan_tf.common.errors import ConfigError, DataError

REPOSITORY = Path(__file__).parents[2]


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def watch(monkeypatch):
    """Returns a list that receives the keys of all objects stored from now on, in order."""
    keys = []
    put = buckets._S3.put

    def watched(self, path, bucket, key):
        keys.append(key)
        put(self, path, bucket, key)

    monkeypatch.setattr(buckets._S3, "put", watched)
    return keys


STORE_AND_DIE = """
import itertools, os, pathlib, signal, sys
from components import buckets

put, number = buckets._S3.put, itertools.count(1)

def put_and_die(self, path, bucket, key):
    put(self, path, bucket, key)
    if next(number) == 12:
        os.kill(os.getpid(), signal.SIGKILL)

buckets._S3.put = put_and_die
buckets.store(pathlib.Path(sys.argv[1]), sys.argv[2])
"""
"""Stores a folder, and kills its own process after the twelfth object, while other threads store more of them."""

MODEL = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets/none": b"", "fingerprint.pb": b"f"}


def test_what_is_remote():
    assert is_remote("s3://bucket/folder")
    assert is_remote("gs://bucket")
    assert not is_remote("/mnt/s3://")
    assert not is_remote("runs/quick")


def test_a_folder_there_and_back(bucket, tmp_path):
    given = write(tmp_path / "given", MODEL | {"large": os.urandom(9_000_000)})
    store(given, f"{bucket}/a/model/")
    assert list_files(f"{bucket}/a/model") == sorted(read(given))
    fetch(f"{bucket}/a/model", tmp_path / "got")
    assert read(tmp_path / "got") == read(given)
    fetch(f"{bucket}/a/model/assets/none", tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == b""


def test_a_folder_in_place_of_another(bucket, tmp_path):
    store(write(tmp_path / "old", {"a": b"1", "gone": b"2", "sub/made_of.json": b"3"}), f"{bucket}/folder")
    store(write(tmp_path / "beside", {"b": b"4"}), f"{bucket}/folder2")
    store(write(tmp_path / "new", {"a": b"5", "sub/b": b"6"}), f"{bucket}/folder")
    fetch(f"{bucket}/folder", tmp_path / "got")
    assert read(tmp_path / "got") == {"a": b"5", "sub/b": b"6"}
    assert list_files(f"{bucket}/folder2") == ["b"]


def test_the_newest_whole_version(bucket, tmp_path):
    assert newest_version(f"{bucket}/base") == ""
    for version in ("9", "10", "unfinished-11"):
        store(write(tmp_path / version, MODEL), f"{bucket}/base/{version}")
    store(write(tmp_path / "half", {"variables/variables.index": b""}), f"{bucket}/base/11")
    assert newest_version(f"{bucket}/base/") == "10"


def test_files_that_mark_others_as_complete_are_stored_last(bucket, tmp_path, monkeypatch):
    order = watch(monkeypatch)
    local = write(tmp_path / "run", {f"serving_model/storygan/7/{name}": content for name, content in MODEL.items()})
    write(local, {"work/k/ended.json": b"{}", "work/k/checkpoints/1/state.json": b"{}", "work/k/checkpoints/1/w": b"w"})
    store(local, f"{bucket}/run")
    names = [name.removeprefix("run/") for name in order]
    assert names[0] == ".storing"
    ends = ["work/k/checkpoints/1/state.json", "serving_model/storygan/7/saved_model.pb", "work/k/ended.json"]
    assert names[-3:] == ends


def test_a_copy_stores_changed_files_and_removes_deleted_ones(bucket, tmp_path, monkeypatch):
    store(write(tmp_path / "given", {"a": b"1", "b": b"2", "c": b"3"}), f"{bucket}/f")
    copy = Copy(f"{bucket}/f", tmp_path / "copy")
    copy.fetch()
    stored = watch(monkeypatch)
    copy.store()
    assert not stored
    write(copy.local, {"a": b"one", "new/d": b"4", "writing-9/half": b"", ".e.12.part": b""})
    (copy.local / "b").unlink()
    copy.store()
    assert sorted(stored[1:]) == ["f/a", "f/new/d"]
    assert list_files(f"{bucket}/f") == ["a", "c", "new/d"]


def test_a_kept_folder_is_stored_at_intervals_and_after_an_error(bucket):
    with pytest.raises(ZeroDivisionError), kept(f"{bucket}/work", seconds=0.1) as copy:
        write(copy.local, {"first": b"1"})
        deadline = time.monotonic() + 300
        while list_files(f"{bucket}/work") != ["first"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        write(copy.local, {"second": b"2"})
        raise ZeroDivisionError
    with kept(f"{bucket}/work") as copy:
        assert read(copy.local) == {"first": b"1", "second": b"2"}


def test_a_folder_whose_storing_was_cut_off_is_refused(bucket, tmp_path):
    """A process is killed while it stores a model of many files; the next call stores all of them."""
    uri = f"{bucket}/base/3"
    given = write(tmp_path / "model", {f"assets/{number}": b"x" for number in range(60)} | MODEL)
    process = subprocess.run([sys.executable, "-c", STORE_AND_DIE, str(given), uri], cwd=REPOSITORY, timeout=400)
    assert process.returncode == -signal.SIGKILL
    left = list_files(uri)
    assert "saved_model.pb" not in left
    assert 10 <= len(left) < 60
    assert newest_version(f"{bucket}/base") == ""
    with pytest.raises(DataError, match=r"storing it was cut off .*\.storing is there"):
        fetch(uri, tmp_path / "got")
    with pytest.raises(ZeroDivisionError), kept(uri, seconds=None) as copy:
        assert copy.cut_off
        raise ZeroDivisionError
    with pytest.raises(DataError, match="storing it was cut off"):
        fetch(uri, tmp_path / "got")
    store(given, uri)
    assert newest_version(f"{bucket}/base") == "3"
    fetch(uri, tmp_path / "whole")
    assert read(tmp_path / "whole") == read(given)


def test_errors_name_the_bucket_and_how_to_mend_them(bucket, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=f"{bucket}/nothing: holds nothing"):
        fetch(f"{bucket}/nothing", tmp_path / "got")
    no_bucket = r"s3://no-such-bucket/a: .*NoSuchBucket.* Make the bucket s3://no-such-bucket"
    with pytest.raises(BucketError, match=no_bucket):
        list_files("s3://no-such-bucket/a")
    with pytest.raises(BucketError, match=no_bucket):
        store_file(write(tmp_path / "f", {"a": b""}) / "a", "s3://no-such-bucket/a")
    with pytest.raises(ConfigError, match="expected s3://BUCKET/FOLDER"):
        list_files("s3:///folder")
    buckets.forget_connections()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BucketError, match="found no credentials; expected AWS_ACCESS_KEY_ID"):
        list_files(f"{bucket}/a")


def test_an_endpoint_that_does_not_respond_is_an_error(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    buckets.forget_connections()
    with pytest.raises(BucketError, match=r"Could not connect to the endpoint URL.*Look whether s3://"):
        list_files(f"{bucket}/a")


def test_an_error_about_a_missing_package_names_its_extra(monkeypatch):
    buckets.forget_connections()
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(BucketError, match=r"needs the package boto3.*storygan\[s3\]"):
        list_files("s3://bucket/a")


def test_beams_workers_write_and_read_there(bucket):
    record_files.write_files([(f"{bucket}/r/a", b"content"), (f"{bucket}/r/empty", b"")], f"{bucket}/r/writing")
    record_files.write_records(f"{bucket}/r/b.gz", [b"one", b"two"], f"{bucket}/r/writing")
    assert record_files.list_files(f"{bucket}/r/*") == [f"{bucket}/r/{name}" for name in ("a", "b.gz", "empty")]
    assert record_files.read_file(f"{bucket}/r/a") == b"content"
    assert list(record_files.read_records(f"{bucket}/r/b.gz")) == [b"one", b"two"]
    store_file(REPOSITORY / "setup.py", f"{bucket}/r/writing/x")
    record_files.remove_folder(f"{bucket}/r/writing")
    assert list_files(f"{bucket}/r") == ["a", "b.gz", "empty"]


def artifact(kind, uri):
    new = kind()
    new.uri = uri
    return new


def test_a_step_works_on_copies(bucket, tmp_path):
    store(write(tmp_path / "examples", {"Split-train/a.gz": b"a"}), f"{bucket}/examples")
    store(write(tmp_path / "data", {"stories.jsonl": b"{}"}), f"{bucket}/data")
    for version in ("3", "4"):
        store(write(tmp_path / version, MODEL), f"{bucket}/serving/{version}")
    examples = artifact(standard_artifacts.Examples, f"{bucket}/examples")
    here = artifact(standard_artifacts.Schema, str(tmp_path))
    model = artifact(standard_artifacts.Model, f"{bucket}/model")
    properties = {
        "data_dir": f"{bucket}/data",
        "rejects_path": f"{bucket}/rejects.jsonl",
        "serving_dir": f"{bucket}/serving",
        "push_destination": json.dumps({"filesystem": {"base_directory": f"{bucket}/serving"}}),
        "custom_config": json_utils.dumps({"work_dir": f"{bucket}/work", "settings": "{}"}),
        "seed": 3,
    }
    with staged({"examples": [examples], "schema": [here]}, {"model": [model]}, properties) as local:
        assert read(Path(examples.uri)) == {"Split-train/a.gz": b"a"}
        assert here.uri == str(tmp_path)
        assert read(Path(local["data_dir"])) == {"stories.jsonl": b"{}"}
        assert [path.name for path in Path(local["serving_dir"]).iterdir()] == ["4"]
        assert local["seed"] == 3
        write(Path(model.uri), MODEL)
        write(Path(json_utils.loads(local["custom_config"])["work_dir"]), {"k/checkpoint": b"w"})
        pushed = Path(json.loads(local["push_destination"])["filesystem"]["base_directory"], "5")
        write(pushed, MODEL)
        model.set_string_custom_property("pushed_destination", str(pushed))
        model.set_string_custom_property("current_model", examples.uri)
        Path(local["rejects_path"]).write_bytes(b"reject")
    assert (examples.uri, model.uri) == (f"{bucket}/examples", f"{bucket}/model")
    assert model.get_string_custom_property("pushed_destination") == f"{bucket}/serving/5"
    assert model.get_string_custom_property("current_model") == f"{bucket}/examples"
    assert list_files(f"{bucket}/model") == sorted(MODEL)
    assert newest_version(f"{bucket}/serving") == "5"
    assert list_files(f"{bucket}/work") == ["k/checkpoint"]
    assert buckets.is_remote(examples.uri)
    fetch(f"{bucket}/rejects.jsonl", tmp_path / "rejects")
    assert (tmp_path / "rejects").read_bytes() == b"reject"


def test_a_failed_step_stores_its_working_folder_only(bucket):
    model = artifact(standard_artifacts.Model, f"{bucket}/model")
    config = {"custom_config": json_utils.dumps({"work_dir": f"{bucket}/work"})}
    with pytest.raises(ZeroDivisionError), staged({}, {"model": [model]}, config) as local:
        write(Path(model.uri), {"half": b""})
        write(Path(json_utils.loads(local["custom_config"])["work_dir"]), {"checkpoint": b"w"})
        raise ZeroDivisionError
    assert model.uri == f"{bucket}/model"
    assert list_files(f"{bucket}/model") == []
    assert list_files(f"{bucket}/work") == ["checkpoint"]
    with staged({}, {}, config) as local:
        assert read(Path(json_utils.loads(local["custom_config"])["work_dir"])) == {"checkpoint": b"w"}


def test_properties_of_a_step_without_buckets_do_not_change(tmp_path):
    properties = {"data_dir": str(tmp_path), "push_destination": '{"filesystem": {"base_directory": "a"}}', "n": 1}
    with staged({}, {}, properties) as local:
        assert local == properties


def test_the_server_is_s3(bucket):
    """Uses Amazon's own client without replacing any part of it."""
    found = boto3.session.Session().client("s3").list_buckets()["Buckets"]
    assert bucket.removeprefix("s3://") in [entry["Name"] for entry in found]
