"""JudgeTrainer on real artifacts: the judge that it writes, its description, and its errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from components.judge_trainer.executor import Executor
from storygan_tf.common.errors import ConfigError, ModelError
from storygan_tf.config.schema import EvaluationConfig, Settings
from storygan_tf.evaluation.judge.judge import BLOCKS, read_judge


@pytest.fixture
def run(examples, tmp_path):
    """Returns a function that runs the executor on the examples, as TFX's launcher does."""

    def run(uri=examples.uri, text=None, **settings):
        given, judge = standard_artifacts.Examples(), standard_artifacts.Model()
        given.uri, judge.uri = uri, str(tmp_path / "judge" / "3")
        given.split_names = examples.split_names
        Path(judge.uri).mkdir(parents=True)
        whole = Settings(evaluation=EvaluationConfig(classifier_epochs=2, **settings))
        properties = {"settings": text or whole.to_json("model.frames", "evaluation")}
        Executor().Do({"examples": [given]}, {"judge": [judge]}, properties)
        return judge

    return run


def test_a_judge_is_trained_on_the_training_stories(run, squares, capsys):
    artifact = run()
    judge, _ = read_judge(artifact.uri)
    assert judge.label_names == tuple(squares.labels)
    assert judge.held_out["training_frames"] == squares.frames * 28
    assert artifact.get_string_custom_property("what") == judge.description
    assert "training the judge: 1/2 epochs (50%)" in capsys.readouterr().out
    assert [path.name for path in Path(artifact.uri).parent.iterdir()] == ["3"]


def test_data_without_labels_and_objects_has_no_judge(run, examples, tmp_path):
    bare = tmp_path / "examples"
    (bare / "Split-train").mkdir(parents=True)
    for path in Path(examples.uri, "Split-train").iterdir():
        (bare / "Split-train" / path.name).write_bytes(path.read_bytes())
    (bare / "labels.json").write_text("[]")
    artifact = run(str(bare))
    assert read_judge(artifact.uri)[0] is None
    assert artifact.get_string_custom_property("what") == "none: the data has neither labels nor objects"


def test_a_judge_with_other_labels_than_the_data_is_an_error(run):
    with pytest.raises(ModelError, match="expected those of the data"):
        run(judge=str(BLOCKS))


def test_invalid_settings_are_an_error(run):
    with pytest.raises(ConfigError, match="unknown key"):
        run(text='{"evaluatoin": {}}')
