"""An evaluation on Beam has the same figures as one in this process, with any number of workers and files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions

from components.beam_options import beam_options
from components.story_evaluator.beam_evaluation import CombineMoments, evaluate_on_beam
from storygan_tf.common.errors import ModelError
from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.evaluation.evaluate import evaluate
from storygan_tf.evaluation.frame_sources import ModelFrames
from storygan_tf.evaluation.plan import make_plan
from storygan_tf.metrics.frechet import Moments

SETTINGS = EvaluationConfig(replicates=40)


@pytest.fixture
def plan(examples, judge, save_model, squares):
    """Returns a function that plans an evaluation of a model that draws darker frames than the test stories have."""

    def plan(root=examples.uri, **faults):
        images = np.stack([story.images for story in squares.test]) // 4 * 3
        model = save_model(images, **faults)
        return make_plan(root, ModelFrames(f"{model.uri}/Format-Serving"), SETTINGS, judge.uri)

    return plan


def on_beam(plan, folder, *options, advance=None):
    folder.mkdir(exist_ok=True)
    evaluation = evaluate_on_beam(
        plan, lambda: Pipeline(options=PipelineOptions(beam_options(options))), str(folder), advance
    )
    assert list(folder.iterdir()) == []
    return evaluation


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


def assert_close(first, second):
    ours, theirs = (dict(numbers(json.loads(evaluation.to_json()))) for evaluation in (first, second))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], rel=1e-6, abs=1e-6), name


def test_beam_and_one_process_have_the_same_metrics(plan, tmp_path, write_examples, squares):
    expected = evaluate(plan())
    threads = ("--direct_num_workers=3", "--direct_running_mode=multi_threading")
    four_files = plan(write_examples(tmp_path / "four", 4))
    for evaluation_plan, options in ((plan(), ()), (plan(), threads), (four_files, ())):
        counts = []
        assert_close(on_beam(evaluation_plan, tmp_path / "scratch", *options, advance=counts.append), expected)
        assert sum(counts) == len(squares.test)


@pytest.mark.slow
def test_the_same_plan_has_the_same_bytes(plan, tmp_path):
    evaluation_plan = plan()
    first, second = (on_beam(evaluation_plan, tmp_path / "scratch").to_json() for _ in range(2))
    assert first == second


def test_an_error_in_a_worker_keeps_its_message(plan, tmp_path):
    evaluation_plan = plan()
    object.__setattr__(evaluation_plan.sources["model"], "model", str(tmp_path / "gone"))
    evaluation_plan.sources["model"]._saved = None
    with pytest.raises(ModelError, match="no such folder"):
        on_beam(evaluation_plan, tmp_path / "scratch")


def test_moments_do_not_depend_on_the_batches():
    features = np.random.default_rng(3).normal(5, 2, (40, 6))
    combine = CombineMoments()
    parts = [combine.add_input(combine.create_accumulator(), part) for part in np.split(features, 8)]
    merged = combine.extract_output(combine.merge_accumulators([combine.create_accumulator(), *parts]))
    once = Moments.from_features(features)
    assert merged.count == once.count == 40
    np.testing.assert_allclose(merged.mean, once.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, once.covariance, rtol=1e-10)
