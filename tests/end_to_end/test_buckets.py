"""Stories, prepared records and the model in a bucket: `prepare`, then `train`, then a picture.

The bucket is on a local S3 server. `tests/components/test_buckets.py` tests that a command that is killed while it
writes to a bucket leaves nothing there that looks complete.
"""

from __future__ import annotations

import pytest
from PIL import Image

from components.buckets import fetch, list_files, newest_version, store

pytestmark = pytest.mark.slow


def test_from_stories_to_a_picture(bucket, cli, story_folder, tmp_path):
    store(story_folder(tmp_path / "data", train=10, test=4), f"{bucket}/data")
    prepared, trained, board = f"{bucket}/prepared", f"{bucket}/trained", tmp_path / "board.png"
    done = cli("prepare", "--data", f"{bucket}/data", "--out", prepared, "--preset", "quick")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"prepared   {prepared}\n" in done.stdout
    assert {"Split-train/data_tfrecord-00000-of-00001.gz", "made_of.json"} <= set(list_files(prepared))
    done = cli("train", "--data", prepared, "--out", trained, *cli.tiny_settings())
    assert done.returncode == 0, done.stdout + done.stderr
    version = newest_version(f"{trained}/serving_model/storygan")
    assert f"model      {trained}/serving_model/storygan/{version}\n" in done.stdout
    # Another machine could resume from this checkpoint.
    assert any(name.endswith("checkpoints/000000004/state.json") for name in list_files(trained))
    fetch(f"{trained}/settings.json", tmp_path / "settings.json")
    assert f'"data": "{prepared}"' in (tmp_path / "settings.json").read_text()
    done = cli("generate", "--model", trained, "--out", board)
    assert done.returncode == 0, done.stderr
    with Image.open(board) as picture:
        assert picture.width > 4 * 64
    assert not [name for name in list_files(bucket) if name.endswith(".storing")]
