"""`create_pipeline` is pure: it returns the steps with their parameters for given settings and paths."""

from __future__ import annotations

import json

import pytest

from pipeline.pipeline import RunInfo, create_pipeline
from storygan_tf.config import presets

pytestmark = pytest.mark.usefixtures("cached_fingerprints")

QUICK = presets.load("quick")


@pytest.fixture
def create(tmp_path):
    def make(settings=QUICK, fingerprint="f1", **options):
        pipeline = create_pipeline(
            settings,
            data_dir="data",
            pipeline_root=str(tmp_path / "pipeline"),
            serving_dir="serving",
            work_dir="work",
            metadata_path=str(tmp_path / "metadata.sqlite"),
            data_fingerprint=fingerprint,
            **options,
        )
        return {component.id: component for component in pipeline.components}

    return make


def parameters(component):
    return {key: str(value) for key, value in component.exec_properties.items()}


def changed(before, after):
    return [step for step in before if parameters(before[step]) != parameters(after[step])]


def test_the_steps_are_in_their_order(create, steps):
    assert list(create()) == steps


def test_bulk_inference_is_off_by_default_and_obeys_the_blessing(create, steps):
    components = create(QUICK.override(["serving.bulk_infer=test"]))
    assert set(components) == {*steps, "BulkInferrer"}
    inferrer = components["BulkInferrer"]
    assert json.loads(inferrer.exec_properties["data_spec"]) == {"example_splits": ["test"]}
    assert json.loads(inferrer.exec_properties["model_spec"]) == {"model_signature_name": ["generate_from_examples"]}
    assert inferrer.inputs["model_blessing"].producer_component_id == "StoryEvaluator"


def test_no_file_is_written(create, tmp_path):
    create()
    assert list(tmp_path.iterdir()) == []


def test_changed_data_changes_the_parameters_of_the_first_step(create):
    assert changed(create(), create(fingerprint="f2")) == ["StoryExampleGen", "StoryEvaluator"]


@pytest.mark.parametrize(
    ("assignment", "steps"),
    [
        ("training.seed=3", ["Trainer"]),
        ("evaluation.seed=3", ["JudgeTrainer"]),
        ("evaluation.max_f1_drop=0.5", []),
        ("data.encoder=other", ["Transform", "Trainer"]),
        ("training.init_from=other", ["Transform", "Trainer"]),
        ("data.test_fraction=0.5", ["StoryExampleGen"]),
        ("serving.bulk_infer=test", []),
        ("model.labels=9", ["ExampleValidator", "Trainer"]),
        ("model.frames=5", ["StoryExampleGen", "ExampleValidator", "JudgeTrainer", "Transform", "Trainer"]),
    ],
)
def test_a_setting_changes_only_the_steps_that_use_it_and_the_report(create, assignment, steps):
    assert changed(create(), create(QUICK.override([assignment]))) == [*steps, "StoryEvaluator"]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"inputs_fingerprint": "1:17:abc"}, ["StoryEvaluator"]),
        ({"judge_fingerprint": "abc"}, ["JudgeTrainer"]),
        ({"initial_fingerprint": "abc"}, ["Transform", "Trainer"]),
        ({"label_names": ["red", "blue"]}, ["Trainer"]),
        ({"run_info": RunInfo({"repeat": "storygan run"})}, ["StoryEvaluator"]),
    ],
)
def test_a_fingerprint_changes_the_step_that_depends_on_it(create, options, steps):
    assert changed(create(), create(**options)) == steps


def test_the_evaluator_gets_the_fingerprint_of_the_code_of_each_step(create):
    run_info = json.loads(create()["StoryEvaluator"].exec_properties["run_info"])
    steps_with_code = {"StoryExampleGen", "ExampleValidator", "Transform", "Trainer", "JudgeTrainer", "StoryEvaluator"}
    assert set(run_info["code"]) == steps_with_code
    assert run_info["code"]["Trainer"] == json.loads(create()["Trainer"].exec_properties["custom_config"])["code"]
    assert run_info["settings"]["preset"] == "quick"
    assert run_info["initial"] == {}


def test_the_trainer_gets_its_settings_as_one_string(create):
    custom_config = json.loads(create()["Trainer"].exec_properties["custom_config"])
    assert set(custom_config) == {"settings", "code", "work_dir", "initial", "labels"}
    assert json.loads(custom_config["settings"])["training"]["seed"] == QUICK.training.seed
