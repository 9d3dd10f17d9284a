"""StoryEvaluator on real artifacts: its files, its blessing, and that TFX's Pusher follows the blessing."""

from __future__ import annotations

import functools
import json
import shutil
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
from storygan_tf.common.errors import ConfigError, ModelError
from storygan_tf.config.schema import EvaluationConfig, Settings
from storygan_tf.data.background import median_background
from storygan_tf.evaluation.judge.judge import read_judge
from storygan_tf.export.lineage import Lineage, model_fingerprint

EVALUATION = EvaluationConfig(replicates=40)
SETTINGS = Settings(preset="quick", evaluation=EVALUATION).to_json("preset", "evaluation")
HISTORY = [{"phase": "warm_up", "epoch": 1, "step": 9, "seconds": 30.0, "losses": {"pixel": 0.5}}]
RUN_INFO = json.dumps({"commands": {"repeat": "storygan run --data D --out R"}, "settings": {"preset": "quick"}})


@pytest.fixture(scope="module")
def run_in(examples, judge, beam_executor):
    """Returns a function that runs the executor on a model, as TFX's launcher does, with outputs in a folder."""

    def run(folder, model, settings=SETTINGS, run_info=RUN_INFO, history=HISTORY, serving_dir=None):
        outputs = SimpleNamespace(
            evaluation=standard_artifacts.ModelEvaluation(), blessing=standard_artifacts.ModelBlessing()
        )
        for name, artifact in vars(outputs).items():
            artifact.uri = str(folder / name)
            Path(artifact.uri).mkdir(exist_ok=True)
        inputs = {"examples": [examples], "model": [model], "judge": [judge]}
        if history is not None:
            inputs["model_run"] = [standard_artifacts.ModelRun()]
            inputs["model_run"][0].uri = str(folder)
            (folder / "history.json").write_text(json.dumps(history))
        properties = {"settings": settings, "run_info": run_info, "serving_dir": serving_dir, "data_fingerprint": "d1"}
        output_dict = {name: [artifact] for name, artifact in vars(outputs).items()}
        beam_executor(Executor).Do(inputs, output_dict, properties)
        return outputs

    return run


@pytest.fixture
def run(run_in, tmp_path):
    """Returns a function that runs the executor on a model, with outputs in this test's folder."""
    return functools.partial(run_in, tmp_path)


@pytest.fixture(scope="module")
def good(run_in, painter_model, tmp_path_factory):
    """Returns a model that draws the test stories exactly, and the outputs for it."""
    folder = tmp_path_factory.mktemp("good")
    model = painter_model(folder / "model")
    return SimpleNamespace(model=model, **vars(run_in(folder, model)))


def push(model, blessing, tmp_path):
    """Runs TFX's Pusher and returns the pushed versions."""
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
    """Returns the models that LatestBlessedModelStrategy selects."""
    inputs = {"model": [model], "model_blessing": [blessing]}
    return LatestBlessedModelStrategy().resolve_artifacts(None, inputs)["model"]


def test_a_good_model_is_blessed_and_pusher_pushes_it(good, tmp_path):
    model, blessing = good.model, good.blessing
    assert model_utils.is_model_blessed(blessing)
    assert [path.name for path in Path(blessing.uri).iterdir()] == ["BLESSED"]
    assert blessing.get_string_custom_property("current_model") == model.uri
    assert blessing.get_int_custom_property("current_model_id") == 17
    assert "more than the required +0.000" in blessing.get_string_custom_property("reason")
    assert resolved(model, blessing) == [model]
    assert len(push(model, blessing, tmp_path)) == 1


def test_the_median_background_is_not_blessed_and_pusher_does_not_push_it(run, save_model, squares, tmp_path):
    background = median_background(story.images for story in squares.train)
    model = save_model(np.broadcast_to(background, (len(squares.test), squares.frames, 64, 64, 3)))
    blessing = run(model).blessing
    assert not model_utils.is_model_blessed(blessing)
    assert [path.name for path in Path(blessing.uri).iterdir()] == ["NOT_BLESSED"]
    assert "label F1 0.000 against 0.000" in blessing.get_string_custom_property("reason")
    assert resolved(model, blessing) == []
    assert push(model, blessing, tmp_path) == []


def test_the_files_of_an_evaluation(good, squares):
    folder = Path(good.evaluation.uri)
    assert sorted(path.name for path in folder.iterdir()) == [
        "lineage.json",
        "metrics.json",
        "model_card.md",
        "report.html",
        "storyboard.png",
    ]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["blessed"] is True
    assert metrics["stories"] == len(squares.test)
    assert {row["name"]: row["figures"]["ssim"]["value"] for row in metrics["rows"]}["model"] == pytest.approx(1)
    with Image.open(folder / "storyboard.png") as board:
        assert min(board.size) > squares.frames * 64
    report = (folder / "report.html").read_text()
    for text in ("Blessed.", "storygan run --data D --out R", "image is missing", "pixel: 0.5"):
        assert text in report


def test_the_lineage_names_the_origins_of_the_model(good, judge):
    folder = Path(good.evaluation.uri)
    lineage = Lineage.from_json((folder / "lineage.json").read_text())
    assert (lineage.run_id, lineage.data_fingerprint) == ("run-7", "d1")
    assert lineage.data["splits"] == {"train": 32, "test": 7}
    assert lineage.judges == {"labels": read_judge(judge.uri)[0].sha256}
    assert lineage.model_sha256 == model_fingerprint(f"{good.model.uri}/Format-Serving")
    assert lineage.metrics["ssim"] == pytest.approx(1)
    assert lineage.blessed
    card = (folder / "model_card.md").read_text()
    assert lineage.model_sha256[:12] in card


def serve(model, tmp_path, version="1"):
    """Puts a model under the push destination."""
    shutil.copytree(f"{model.uri}/Format-Serving", tmp_path / "serving" / version)
    return str(tmp_path / "serving")


def test_a_model_worse_than_the_served_one_is_not_blessed(run, save_model, squares, tmp_path):
    true = np.stack([story.images for story in squares.test])
    serving_dir = serve(save_model(), tmp_path)
    worse = save_model(true // 4 * 3)
    outputs = run(worse, serving_dir=serving_dir)
    assert not model_utils.is_model_blessed(outputs.blessing)
    reason = outputs.blessing.get_string_custom_property("reason")
    assert "of the served model" in reason
    assert "surely worse" in reason
    metrics = json.loads((Path(outputs.evaluation.uri) / "metrics.json").read_text())
    assert [row["what"] for row in metrics["rows"]][:2] == ["the model", "the served model, version 1"]
    assert "surely worse" in (Path(outputs.evaluation.uri) / "report.html").read_text()
    assert push(worse, outputs.blessing, tmp_path) == [tmp_path / "serving" / "1" / "saved_model.pb"]


@pytest.mark.slow
def test_the_newest_complete_version_is_the_served_model(run, save_model, squares, tmp_path):
    true = np.stack([story.images for story in squares.test])
    serve(save_model(), tmp_path, "9")
    serving_dir = serve(save_model(true // 4 * 3), tmp_path, "10")
    (tmp_path / "serving" / "11").mkdir()
    outputs = run(save_model(true // 4 * 3), serving_dir=serving_dir)
    assert model_utils.is_model_blessed(outputs.blessing)
    assert "version 10" in (Path(outputs.evaluation.uri) / "metrics.json").read_text()


def test_a_served_model_that_does_not_load_is_named(run, save_model, tmp_path):
    serving_dir = serve(save_model(), tmp_path)
    (tmp_path / "serving" / "1" / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"the served model, version 1.*is no usable StoryGAN export"):
        run(save_model(), serving_dir=serving_dir)


@pytest.mark.slow
def test_a_report_without_model_run_and_run_info(run, save_model):
    outputs = run(save_model(), run_info=None, history=None)
    report = (Path(outputs.evaluation.uri) / "report.html").read_text()
    assert "No history of losses was given." in report
    assert "evaluation.classifier_epochs" in report


def test_a_corrupt_export_is_a_model_error(run, save_model):
    model = save_model()
    (Path(model.uri) / "Format-Serving" / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="is no usable StoryGAN export"):
        run(model)


def test_a_model_that_refuses_the_stories_is_a_model_error(run, save_model):
    with pytest.raises(ModelError, match="drawing stories test000 to test006: story 1: out of paint"):
        run(save_model(error="out of paint"))


def test_a_model_of_another_story_length_is_a_model_error(run, save_model):
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
def test_invalid_parameters_are_errors(run, save_model, arguments, message):
    with pytest.raises(ConfigError, match=message):
        run(save_model(), **arguments)
