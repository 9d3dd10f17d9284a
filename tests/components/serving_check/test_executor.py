"""ServingCheck on real artifacts and in real processes, and that TFX's Pusher follows its blessing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.pusher import executor as pusher
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from components.serving_check import executor
from components.serving_check.executor import Executor


@pytest.fixture
def run(examples, tmp_path, monkeypatch):
    """Returns a function that runs the executor, in a working directory outside of the project."""
    monkeypatch.chdir(tmp_path)

    def run(model, timeout_seconds=400, evaluation=None):
        blessing = standard_artifacts.InfraBlessing()
        blessing.uri = str(tmp_path / "blessing")
        Path(blessing.uri).mkdir()
        properties = {"timeout_seconds": timeout_seconds}
        inputs = {"model": [model], "examples": [examples]} | ({"evaluation": [evaluation]} if evaluation else {})
        Executor().Do(inputs, {"blessing": [blessing]}, properties)
        return blessing

    return run


def push(blessing, tmp_path):
    """Runs TFX's Pusher on the InfraBlessing alone, and returns the folders of the pushed versions."""
    pushed = standard_artifacts.PushedModel()
    pushed.uri = str(tmp_path / "pushed")
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(tmp_path / "serving"))
    )
    pusher.Executor().Do(
        {"infra_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"push_destination": proto_utils.proto_to_json(destination)},
    )
    return [path.parent for path in (tmp_path / "serving").glob("*/saved_model.pb")]


def test_a_good_export_is_blessed_and_pusher_pushes_the_stamped_copy(run, save_model, squares, tmp_path):
    blessing = run(save_model())
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_int_custom_property("has_model") == 1
    assert (Path(blessing.uri) / "INFRA_BLESSED").is_file()
    (version,) = push(blessing, tmp_path)
    stamp = json.loads((version / "assets.extra" / "serving_check.json").read_text())
    assert stamp["story_id"] == "test000"
    assert stamp["asked"] == {"signature": "serving_default", "sentences": squares.test[0].sentences}
    assert stamp["versions"]["tensorflow"] == tf.__version__
    answer = tf.saved_model.load(str(version)).signatures["serving_default"](sentences=[squares.test[0].sentences])
    pictures = list(answer["image_bytes"][0].numpy())
    assert stamp["png_sha256"] == [hashlib.sha256(picture).hexdigest() for picture in pictures]
    np.testing.assert_array_equal([tf.io.decode_png(picture) for picture in pictures], squares.test[0].images)


def test_the_model_card_and_the_lineage_are_copied_into_the_model(run, save_model, tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "run_probe", lambda model, story, timeout_seconds: {"reason": ""})
    evaluation = standard_artifacts.ModelEvaluation()
    evaluation.uri = str(tmp_path / "evaluation")
    Path(evaluation.uri).mkdir()
    for name in ("model_card.md", "lineage.json"):
        (Path(evaluation.uri) / name).write_text(f"content of {name}")
    (version,) = push(run(save_model(), evaluation=evaluation), tmp_path)
    for name in ("model_card.md", "lineage.json"):
        assert (version / "assets.extra" / name).read_text() == f"content of {name}"


def assert_not_blessed(blessing, tmp_path, reason):
    assert blessing.get_int_custom_property("blessed") == 0
    assert not blessing.get_int_custom_property("has_model")
    assert [path.name for path in Path(blessing.uri).iterdir()] == ["INFRA_NOT_BLESSED"]
    assert reason in blessing.get_string_custom_property("reason")
    assert push(blessing, tmp_path) == []


def test_a_corrupt_export_is_not_blessed(run, save_model, tmp_path):
    model = save_model()
    (Path(model.uri) / "Format-Serving" / "saved_model.pb").write_bytes(b"not a model")
    assert_not_blessed(run(model), tmp_path, "the export cannot be loaded: OSError: Cannot parse file")


def test_an_export_that_takes_too_long_is_not_blessed(run, save_model, tmp_path):
    assert_not_blessed(run(save_model(), timeout_seconds=0), tmp_path, "did not load and answer within 0 s")


def test_an_export_whose_process_ends_with_an_error_is_not_blessed(run, save_model, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))  # the interpreter does not start
    assert_not_blessed(run(save_model()), tmp_path, "the process that loaded the export ended with code ")
