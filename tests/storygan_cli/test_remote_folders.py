"""Folders of a command that are in a bucket of a local S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.buckets import fetch, list_files, store
from storygan_cli.main import app
from storygan_cli.remote_folders import fetch_data, local_model, read_folder, require_local_workers, synced_folder
from storygan_tf.common.errors import ConfigError, DataError, ModelError


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_folders_of_this_machine_are_used_as_they_are(tmp_path):
    with read_folder(str(tmp_path)) as data, synced_folder("runs/x/") as out, local_model("blocks") as model:
        assert (data.path, data.remote, out.path, model) == (tmp_path, False, Path("runs/x"), "blocks")
        assert out.display_path(out.path / "report.html") == "runs/x/report.html"
    assert fetch_data("stories", tmp_path) == Path("stories")


def test_a_folder_to_read_is_a_temporary_copy(bucket, tmp_path):
    store(write(tmp_path / "data", "stories.jsonl", "images/1.png"), f"{bucket}/data")
    with read_folder(f"{bucket}/data/") as data:
        assert (data.path / "images/1.png").read_text() == "images/1.png"
        assert data.display_path(data.path / "images") == f"{bucket}/data/images"
    assert not data.path.exists()
    with pytest.raises(DataError, match=f"{bucket}/none: holds nothing"), read_folder(f"{bucket}/none"):
        pass


def test_errors_name_the_bucket_and_partial_results_are_stored(bucket):
    with (
        pytest.raises(DataError, match=f"details in {bucket}/out/prepare.log"),
        synced_folder(f"{bucket}/out") as out,
    ):
        write(out.path, "prepare.log")
        raise DataError(f"details in {out.path}/prepare.log")
    assert list_files(f"{bucket}/out") == ["prepare.log"]


def test_a_model_is_its_newest_whole_version(bucket, tmp_path):
    for version in ("3", "12"):
        store(write(tmp_path / version, "saved_model.pb"), f"{bucket}/run/serving_model/storygan/{version}")
    store(write(tmp_path / "half", "variables/variables.index"), f"{bucket}/run/serving_model/storygan/13")
    base = f"{bucket}/run/serving_model/storygan"
    for given, version in ((f"{bucket}/run/", "12"), (base, "12"), (f"{base}/3", "3")):
        with local_model(given) as path:
            assert (Path(path).name, Path(path, "saved_model.pb").is_file()) == (version, True)
    with (
        pytest.raises(ModelError, match=f"--model {bucket}/none: holds no exported model"),
        local_model(f"{bucket}/none"),
    ):
        pass


def test_a_runs_data_is_fetched_to_the_same_place_anew(bucket, tmp_path):
    store(write(tmp_path / "data", "stories.jsonl", "old.png"), f"{bucket}/data")
    place = fetch_data(f"{bucket}/data", tmp_path / "run")
    (tmp_path / "data/old.png").unlink()
    store(tmp_path / "data", f"{bucket}/data")
    assert fetch_data(f"{bucket}/data", tmp_path / "run") == place
    assert [path.name for path in place.iterdir()] == ["stories.jsonl"]


def test_workers_elsewhere_see_no_copies():
    flink = ["--runner=FlinkRunner", "--parallelism=2"]
    require_local_workers([], "s3://bucket/data")
    require_local_workers(["--direct_num_workers=2"], "s3://bucket/data")
    require_local_workers(flink, "data")
    require_local_workers([*flink, "--environment_type=LOOPBACK"], "s3://bucket/data")
    with pytest.raises(ConfigError, match=r"s3://bucket/data: is in a bucket.*out of reach for workers elsewhere"):
        require_local_workers(flink, "out", "s3://bucket/data")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["run", "--data", "stories", "--out", "s3://bucket/run"], "metadata there in sqlite"),
        (["generate", "--model", "blocks", "--out", "s3://bucket/board.png"], "a picture is not stored"),
        (["prepare", "--data", "d", "--out", "o", "--init-from", "gs://bucket/m"], "part of the settings"),
    ],
)
def test_options_that_must_be_local_refuse_buckets(command, words):
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, ConfigError)
    assert "is in a bucket" in str(done.exception)
    assert words in str(done.exception)


def test_several_workers_share_no_bucket(monkeypatch):
    config = '{"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", config)
    done = CliRunner().invoke(app, ["train", "--data", "d", "--out", "s3://bucket/out"])
    assert isinstance(done.exception, ConfigError)
    assert "its 2 workers share it" in str(done.exception)


def test_commands_receive_uris_and_not_paths(bucket, tmp_path, story_folder):
    """Errors name the URI as it was passed; `Path` would turn s3:// into s3:/."""
    for command in (["prepare", "--out", str(tmp_path / "out")], ["train", "--out", str(tmp_path / "out")]):
        done = CliRunner().invoke(app, [*command, "--data", f"{bucket}/none"])
        assert isinstance(done.exception, DataError)
        assert f"{bucket}/none: holds nothing" in str(done.exception)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError):
        fetch(f"{bucket}/none", tmp_path / "got")
