"""A lineage is read from the model alone, and damaged ones are errors."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from storygan_tf.common.errors import DataError, ModelError
from storygan_tf.export.lineage import (
    LINEAGE_FILE,
    Lineage,
    flatten,
    lineage_summary,
    lock_fingerprint,
    model_fingerprint,
    packages_fingerprint,
    read_lineage,
    settings_fingerprint,
)

SETTINGS = {"preset": "quick", "training": {"seed": 1, "phases": [{"name": "warm_up", "epochs": 3}]}}
LINEAGE = Lineage(
    run_id="20240501-120000",
    storygan_version="0.1.0",
    data_fingerprint="da7a" * 16,
    data={"source": "runs/data/quick", "counts": {"train": 360, "test": 40}},
    code={"trainer": "c0de" * 16},
    settings=SETTINGS,
    settings_sha256=settings_fingerprint(SETTINGS),
    metrics={"ssim": 0.8123, "label_f1": 0.5},
    blessed=True,
    reason="SSIM 0.812 exceeds 0.780.",
    judges={"labels": "f00d" * 16},
    lock="10cc" * 16,
    packages="bacc" * 16,
    python="3.10.13",
    tensorflow="2.15.1",
    model_sha256="beef" * 16,
)


def make_model(path, content=b"a graph"):
    """Writes what a SavedModel looks like from outside."""
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(content)
    (path / "variables" / "variables.index").write_bytes(b"weights")
    (path / "assets.extra").mkdir()
    return path


@pytest.fixture
def run_dir(tmp_path):
    for version in ("1", "12"):
        model = make_model(tmp_path / "serving_model" / "storygan" / version)
        lineage = dataclasses.replace(LINEAGE, run_id=version)
        (model / "assets.extra" / LINEAGE_FILE).write_text(lineage.to_json())
    return tmp_path


def test_json_holds_all_of_it_and_repeats_byte_for_byte():
    text = LINEAGE.to_json()
    assert Lineage.from_json(text) == LINEAGE
    assert Lineage.from_json(text).to_json() == text
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_the_initial_model_is_optional():
    lineage = dataclasses.replace(LINEAGE, initial={"model": "blocks", "sha256": "1417" * 16})
    assert Lineage.from_json(lineage.to_json()) == lineage
    earlier = json.loads(LINEAGE.to_json())
    del earlier["initial"]
    assert Lineage.from_json(json.dumps(earlier)) == LINEAGE


def test_the_lineage_of_a_run_a_base_and_a_version_directory_is_read(run_dir):
    base = run_dir / "serving_model" / "storygan"
    assert read_lineage(run_dir).run_id == read_lineage(str(base)).run_id == "12"
    assert read_lineage(base / "1").run_id == "1"


def test_the_error_of_a_model_without_a_lineage_says_how_to_get_one(tmp_path):
    make_model(tmp_path / "7")
    with pytest.raises(ModelError, match=r"has no lineage, expected .*lineage.json.*`storygan run` pushes"):
        read_lineage(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        read_lineage(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", b'{"run_id": ', b"\xff\xfe", b"[]", b"null", b'{"metrics": {"ssim": NaN}}'])
def test_a_damaged_lineage_is_named(run_dir, content):
    path = run_dir / "serving_model" / "storygan" / "12" / "assets.extra" / LINEAGE_FILE
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: .*[Pp]ush the model again"):
        read_lineage(run_dir)


def changed(**values):
    return json.dumps({**json.loads(LINEAGE.to_json()), **values})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(colour="red"), "field 'colour' is unknown"),
        (json.dumps({"run_id": "7"}), "field 'blessed' is missing; field 'code' is missing"),
        (changed(blessed=1), "field 'blessed': found 1, expected true or false"),
        (changed(run_id=7), "field 'run_id': found 7, expected text"),
        (changed(code={"trainer": 1}), "field 'code': .* expected an object of texts"),
        (changed(metrics={"ssim": "good"}), "field 'metrics': .* expected an object of numbers"),
        (changed(metrics={"ssim": True}), "field 'metrics': .* expected an object of numbers"),
        (changed(data=[1]), r"field 'data': found \[1\], expected an object"),
        (changed(data={"mean": math.nan}), "is not JSON .found NaN, expected a number"),
        (changed(settings={"preset": "paper"}), "settings_sha256: found .* expected .* one of the two was changed"),
    ],
)
def test_a_lineage_of_other_fields_is_refused(text, message):
    with pytest.raises(DataError, match=f"lineage.json: .*{message}"):
        Lineage.from_json(text)


def test_settings_have_the_same_fingerprint_in_any_order():
    assert settings_fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == settings_fingerprint(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )
    assert settings_fingerprint({"a": 1}) != settings_fingerprint({"a": 2})
    with pytest.raises(ValueError, match="JSON compliant"):
        settings_fingerprint({"a": math.nan})


def test_the_fingerprint_depends_on_neither_the_path_nor_the_extra_assets(tmp_path):
    first, second = make_model(tmp_path / "1"), make_model(tmp_path / "elsewhere" / "2")
    before = model_fingerprint(first)
    (second / "assets.extra" / LINEAGE_FILE).write_text("{}")
    assert model_fingerprint(second) == before == model_fingerprint(str(first))
    index = b"variables/variables.index 7\nweights"
    assert before == hashlib.sha256(b"saved_model.pb 7\na graph" + index).hexdigest()


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index", "variables/more", "assets.extra.txt"])
def test_a_model_that_differs_in_a_file_has_another_fingerprint(tmp_path, name):
    model = make_model(tmp_path)
    before = model_fingerprint(model)
    (model / name).write_bytes(b"something else")
    assert model_fingerprint(model) != before


def test_a_folder_without_a_model_has_no_fingerprint(tmp_path):
    with pytest.raises(ModelError, match=r"found no saved_model\.pb"):
        model_fingerprint(tmp_path)


def test_the_fingerprint_of_a_missing_lock_is_empty(tmp_path):
    (tmp_path / "requirements.lock").write_bytes(b"numpy==1.26.4\n")
    assert lock_fingerprint(tmp_path / "requirements.lock") == hashlib.sha256(b"numpy==1.26.4\n").hexdigest()
    assert lock_fingerprint(tmp_path / "missing") == ""


def install(folder, name, version):
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_the_fingerprint_of_packages_depends_on_names_and_versions_alone(tmp_path, monkeypatch):
    before = packages_fingerprint()
    install(tmp_path / "a", "Story_Package", "1.0")
    monkeypatch.syspath_prepend(tmp_path / "a")
    with_package = packages_fingerprint()
    lines = {f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions()}
    assert "Story_Package==1.0" in lines
    assert with_package != before
    install(tmp_path / "b", "story-package", "1.0")
    monkeypatch.syspath_prepend(tmp_path / "b")
    assert packages_fingerprint() == with_package, "a name has many spellings"
    install(tmp_path / "c", "story-package", "1.1")
    monkeypatch.syspath_prepend(tmp_path / "c")
    assert packages_fingerprint() != with_package


def test_nested_values_go_by_dotted_names():
    assert dict(flatten(SETTINGS)) == {
        "preset": "quick",
        "training.seed": "1",
        "training.phases.warm_up.name": "warm_up",
        "training.phases.warm_up.epochs": "3",
    }
    assert list(flatten({})) == []
    assert list(flatten({"data": {}})) == [("data", "{}")]


def test_a_summary_leaves_out_what_reports_have_sections_for():
    summary = dict(lineage_summary(dataclasses.asdict(LINEAGE)))
    assert summary["data.counts.train"] == "360"
    assert not [name for name in summary if name.startswith(("settings.", "metrics", "reason", "blessed"))]


def test_lineages_do_not_import_tensorflow():
    code = (
        "import storygan_tf.export.lineage as l, sys; l.packages_fingerprint(); assert 'tensorflow' not in sys.modules"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root if (root / "storygan_tf").is_dir() else None)
