"""`storygan lineage`: a table for people and JSON for programs, read from the exported model alone."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from storygan_cli.lineage import lineage
from storygan_tf.common.errors import ModelError
from storygan_tf.export.lineage import LINEAGE_FILE, Lineage, settings_fingerprint

SETTINGS = {"preset": "quick", "training": {"seed": 1}}
LINEAGE = Lineage(
    run_id="20240501-120000",
    storygan_version="0.1.0",
    data_fingerprint="da7a" * 16,
    data={"counts": {"train": 360}},
    code={"trainer": "c0de" * 16},
    settings=SETTINGS,
    settings_sha256=settings_fingerprint(SETTINGS),
    metrics={"ssim": 0.8123},
    blessed=True,
    reason="SSIM 0.812\nexceeds 0.780.",
    judges={},
    lock="",
    packages="bacc" * 16,
    python="3.10.13",
    tensorflow="2.15.1",
    model_sha256="beef" * 16,
)


@pytest.fixture
def run_dir(tmp_path):
    model = tmp_path / "serving_model" / "storygan" / "3"
    (model / "assets.extra").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"a graph")
    (model / "assets.extra" / LINEAGE_FILE).write_text(LINEAGE.to_json())
    return tmp_path


def run(*arguments):
    app = typer.Typer()
    app.command()(lineage)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_table_has_a_line_for_each_entry(run_dir):
    done = run(run_dir)
    assert done.exit_code == 0, done.output
    entries = dict(line.split(maxsplit=1) for line in done.output.splitlines() if line.strip())
    assert entries["run_id"] == "20240501-120000"
    assert entries["code.trainer"] == "c0de" * 16
    assert entries["data.counts.train"] == "360"
    assert entries["metrics.ssim"] == "0.8123"
    assert entries["blessed"] == "true"
    assert entries["reason"] == "SSIM 0.812 exceeds 0.780."
    assert entries["settings"] == "2 of preset quick; --json prints them"
    assert entries["lock"] == "none"
    assert "judges" not in entries
    starts = {len(line) - len(line.split(maxsplit=1)[1]) for line in done.output.splitlines() if len(line.split()) == 2}
    assert len(starts) == 1, "values stand in one column"


def test_json_is_the_whole_lineage(run_dir):
    done = run(run_dir, "--json")
    assert done.output == LINEAGE.to_json()
    assert json.loads(done.output)["settings"] == SETTINGS


def test_a_model_without_one_is_an_error_for_the_user(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"a graph")
    done = run(tmp_path)
    assert isinstance(done.exception, ModelError)
    assert "has no lineage" in str(done.exception)
