"""An evaluation on Beam gives the figures of one in this process, however its work is shared out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions

from components.story_evaluator.beam_evaluation import CombineMoments, evaluate_on_beam
from storygan_tf.common.errors import ModelError
from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.evaluation.evaluate import evaluate
from storygan_tf.evaluation.frame_sources import ModelFrames
from storygan_tf.evaluation.plan import make_plan
from storygan_tf.metrics.frechet import Moments

RUNNER = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
SETTINGS = EvaluationConfig(replicates=40)


@pytest.fixture
def plan(examples, judge, save_model, squares):
    """Returns a function that plans an evaluation of a model that draws somewhat dark frames."""

    def plan(root=examples.uri, **spoilt):
        images = np.stack([story.images for story in squares.test]) // 4 * 3
        model = save_model(images, **spoilt)
        return make_plan(root, ModelFrames(f"{model.uri}/Format-Serving"), SETTINGS, judge.uri)

    return plan


def on_beam(plan, folder, *options, advance=None):
    folder.mkdir(exist_ok=True)
    found = evaluate_on_beam(plan, lambda: Pipeline(options=PipelineOptions([RUNNER, *options])), str(folder), advance)
    assert list(folder.iterdir()) == []
    return found


def numbers(values, where=""):
    """Yields all numbers of nested values with their names."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from numbers(value, f"{where}.{name}")
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from numbers(value, f"{where}.{index}")
    elif isinstance(values, float | int):
        yield where, values


def close(first, second):
    ours, theirs = (dict(numbers(json.loads(found.to_json()))) for found in (first, second))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize("options", [(), ("--direct_num_workers=3", "--direct_running_mode=multi_threading")])
def test_beam_gives_what_one_process_gives(plan, tmp_path, options):
    made = plan()
    close(on_beam(made, tmp_path / "aside", *options), evaluate(made))


@pytest.mark.slow
def test_the_same_question_gives_the_same_bytes(plan, tmp_path):
    made = plan()
    assert on_beam(made, tmp_path / "aside").to_json() == on_beam(made, tmp_path / "aside").to_json()


def test_any_number_of_shards_gives_the_same(plan, tmp_path, write_examples):
    expected = evaluate(plan())
    for files in (1, 4):
        close(on_beam(plan(write_examples(tmp_path / str(files), files)), tmp_path / "aside"), expected)


def test_progress_counts_every_story(plan, tmp_path, squares):
    told = []
    on_beam(plan(), tmp_path / "aside", advance=told.append)
    assert sum(told) == len(squares.test)


def test_a_failure_in_a_worker_keeps_its_words(plan, tmp_path):
    made = plan()
    object.__setattr__(made.sources["model"], "model", str(tmp_path / "gone"))
    made.sources["model"]._saved = None
    with pytest.raises(ModelError, match="no such folder"):
        on_beam(made, tmp_path / "aside")


def test_moments_are_the_same_however_they_are_combined():
    features = np.random.default_rng(3).normal(5, 2, (40, 6))
    combine = CombineMoments()
    parts = [combine.add_input(combine.create_accumulator(), part) for part in np.split(features, 8)]
    merged = combine.extract_output(combine.merge_accumulators([combine.create_accumulator(), *parts]))
    once = Moments.from_features(features)
    assert merged.count == once.count == 40
    np.testing.assert_allclose(merged.mean, once.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, once.covariance, rtol=1e-10)
