"""The StoryEvaluator on real artifacts: what it writes, what it blesses, and that stock Pusher obeys."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tfx.components.pusher import executor as pusher
from tfx.components.util import model_utils
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from components.story_evaluator.executor import Executor
from storygan_tf.config import EvaluationConfig, Settings
from storygan_tf.errors import ConfigError, ModelError
from storygan_tf.metrics.baselines import median_background

SETTINGS = Settings(preset="quick", evaluation=EvaluationConfig(classifier_epochs=12)).to_json("preset", "evaluation")
HISTORY = [{"phase": "warm_up", "epoch": 1, "step": 9, "seconds": 30.0, "losses": {"pixel": 0.5}}]
RUN_INFO = json.dumps({"commands": {"repeat": "storygan run --data D --out R"}, "settings": {"preset": "quick"}})


@pytest.fixture
def run(examples, tmp_path):
    """Returns a function that runs the executor on a model, as TFX's launcher does."""

    def run(model, settings=SETTINGS, run_info=RUN_INFO, history=HISTORY):
        outputs = SimpleNamespace(
            evaluation=standard_artifacts.ModelEvaluation(), blessing=standard_artifacts.ModelBlessing()
        )
        for name, artifact in vars(outputs).items():
            artifact.uri = str(tmp_path / name)
            Path(artifact.uri).mkdir()
        inputs = {"examples": [examples], "model": [model]}
        if history is not None:
            inputs["model_run"] = [standard_artifacts.ModelRun()]
            inputs["model_run"][0].uri = str(tmp_path)
            (tmp_path / "history.json").write_text(json.dumps(history))
        properties = {"settings": settings, "run_info": run_info}
        Executor().Do(inputs, {name: [artifact] for name, artifact in vars(outputs).items()}, properties)
        return outputs

    return run


def push(model, blessing, tmp_path):
    """Runs stock Pusher and returns the pushed versions."""
    pushed = standard_artifacts.PushedModel()
    pushed.uri = str(tmp_path / "pushed")
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(tmp_path / "serving"))
    )
    pusher.Executor().Do(
        {"model": [model], "model_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"push_destination": proto_utils.proto_to_json(destination)},
    )
    return list((tmp_path / "serving").glob("*/saved_model.pb"))


def resolved(model, blessing):
    """Returns the models that LatestBlessedModelStrategy finds."""
    inputs = {"model": [model], "model_blessing": [blessing]}
    return LatestBlessedModelStrategy().resolve_artifacts(None, inputs)["model"]


def test_a_good_model_is_blessed_and_stock_pusher_pushes_it(run, save_model, tmp_path):
    model = save_model()
    blessing = run(model).blessing
    assert model_utils.is_model_blessed(blessing)
    assert [path.name for path in Path(blessing.uri).iterdir()] == ["BLESSED"]
    assert blessing.get_string_custom_property("current_model") == model.uri
    assert blessing.get_int_custom_property("current_model_id") == 17
    assert "more than the +0.000 asked" in blessing.get_string_custom_property("reason")
    assert resolved(model, blessing) == [model]
    assert len(push(model, blessing, tmp_path)) == 1


def test_the_median_background_is_not_blessed_and_stock_pusher_does_not_push_it(run, save_model, squares, tmp_path):
    background = median_background(story.images for story in squares.train)
    model = save_model(np.broadcast_to(background, (len(squares.test), squares.frames, 64, 64, 3)))
    blessing = run(model).blessing
    assert not model_utils.is_model_blessed(blessing)
    assert [path.name for path in Path(blessing.uri).iterdir()] == ["NOT_BLESSED"]
    assert blessing.get_string_custom_property("reason").startswith("Label F1 0.000 against 0.000")
    assert resolved(model, blessing) == []
    assert push(model, blessing, tmp_path) == []


def test_what_the_evaluation_holds(run, save_model, squares):
    folder = Path(run(save_model()).evaluation.uri)
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.json", "report.html", "storyboard.png"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["blessed"] is True
    assert metrics["stories"] == len(squares.test)
    assert {row["name"]: row["ssim"] for row in metrics["rows"]}["model"] == pytest.approx(1, abs=1e-6)
    with Image.open(folder / "storyboard.png") as board:
        assert min(board.size) > squares.frames * 64
    report = (folder / "report.html").read_text()
    for told in ("Blessed.", "storygan run --data D --out R", "image is missing", "pixel: 0.5"):
        assert told in report


def test_without_a_model_run_and_run_info_there_is_a_report_all_the_same(run, save_model):
    outputs = run(save_model(), run_info=None, history=None)
    report = (Path(outputs.evaluation.uri) / "report.html").read_text()
    assert "No history of losses was given." in report
    assert "evaluation.classifier_epochs" in report


def test_a_corrupt_export_is_a_models_error(run, save_model):
    model = save_model()
    (Path(model.uri) / "Format-Serving" / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="is no usable StoryGAN export"):
        run(model)


def test_a_model_that_refuses_the_stories_is_a_models_error(run, save_model):
    with pytest.raises(ModelError, match="asked for stories test000 to test006: story 1: out of paint"):
        run(save_model(error="out of paint"))


def test_a_model_of_another_story_length_is_a_models_error(run, save_model):
    with pytest.raises(ModelError, match="found 3 sentences, expected 5"):
        run(save_model(frames=5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"settings": '{"evaluation": {"sed": 1}}'}, "unknown key 'evaluation.sed'; did you mean 'seed'"),
        ({"run_info": "{commands"}, "run_info: not JSON"),
        ({"run_info": "[]"}, "run_info: found"),
    ],
)
def test_parameters_that_are_not_valid_are_said(run, save_model, arguments, message):
    with pytest.raises(ConfigError, match=message):
        run(save_model(), **arguments)
