"""Which models are blessed: thresholds over baselines and against the served model."""

from __future__ import annotations

import pytest

from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.evaluation.evaluate import evaluate
from storygan_tf.evaluation.gate import gate
from storygan_tf.evaluation.result import Judge, MetricValue, Row

BASELINES = {
    "real_frames": {"ssim": 1.0, "object_error": 0.0, "label_f1": 0.98, "placed_accuracy": 0.95, "fid_domain": 0.0},
    "random_story": {"ssim": 0.78, "object_error": 50.0, "label_f1": 0.6, "placed_accuracy": 0.05, "fid_domain": 1.0},
    "median_background": {
        "ssim": 0.86, "object_error": 40.0, "label_f1": 0.0, "placed_accuracy": 0.02, "fid_domain": 99.0,
    },
}  # fmt: skip
GOOD = {"ssim": 0.9, "object_error": 20.0, "label_f1": 0.8, "placed_accuracy": 0.5, "fid_domain": 9.0}


def rows(model, served=None, without=()):
    values = {"model": model} | ({"served_model": served} if served else {}) | BASELINES
    return [
        Row(name, name, "text", {key: MetricValue(value) for key, value in metrics.items() if key not in without})
        for name, metrics in values.items()
    ]


def decide(model, served=None, *, trusted=("labels", "placed"), without=(), interval=None, **settings):
    """Returns the checks by name; a difference to the served model has an interval of its value +- `interval`."""

    def difference(metric):
        if interval is None:
            return None
        apart = model[metric] - served[metric]
        return apart - interval, apart + interval

    judges = [Judge(role, "a judge", "0" * 64, {}, role in trusted) for role in ("labels", "placed")]
    checks = gate(rows(model, served, without), judges, EvaluationConfig(**settings), difference)
    return {check.name: check for check in checks}


def blessed(checks):
    return all(check.passed for check in checks.values() if check.passed is not None)


def test_a_good_model_passes_every_threshold():
    checks = decide(GOOD)
    assert [name for name, check in checks.items() if check.passed] == [
        "min_ssim_over_random",
        "min_f1_over_floor",
        "min_f1_over_random",
        "min_placed_over_random",
    ]
    assert checks["min_object_gain"].passed is None
    assert checks["min_f1_over_random"].why == (
        "label F1 0.800 against 0.600 of a random training story: +0.200, more than the required +0.000."
    )


@pytest.mark.parametrize(
    ("metric", "value", "missed"),
    [
        ("ssim", 0.78, "min_ssim_over_random"),
        ("label_f1", 0.6, "min_f1_over_random"),
        ("placed_accuracy", 0.05, "min_placed_over_random"),
    ],
)
def test_a_model_that_equals_a_random_story_is_not_blessed(metric, value, missed):
    checks = decide(GOOD | {metric: value})
    assert [name for name, check in checks.items() if check.passed is False] == [missed]
    assert "not more than the required +0.000, 0.000 short." in checks[missed].why


def test_thresholds_are_those_of_the_settings_and_null_has_no_check():
    checks = decide(GOOD, min_ssim_over_random=0.2, min_f1_over_floor=None)
    assert not checks["min_ssim_over_random"].passed
    assert checks["min_ssim_over_random"].why.endswith("+0.120, not more than the required +0.200, 0.080 short.")
    assert "min_f1_over_floor" not in checks


def test_an_untrusted_judges_thresholds_do_not_apply_but_that_on_the_object_error_does():
    checks = decide(GOOD | {"label_f1": 0.0}, trusted=())
    assert checks["min_f1_over_floor"].passed is None
    assert "untrusted, its threshold does not apply: label F1 of the true frames is 0.980" in (
        checks["min_f1_over_floor"].why
    )
    assert "placed objects of the true frames is 0.950" in checks["min_placed_over_random"].why
    assert checks["min_object_gain"].passed
    assert blessed(checks)


def test_placed_objects_are_trusted_apart_from_labels():
    checks = decide(GOOD, trusted=("labels",))
    assert checks["min_placed_over_random"].passed is None
    assert checks["min_f1_over_random"].passed
    assert checks["min_object_gain"].passed is None


def test_a_negative_threshold_does_not_replace_that_on_the_object_error():
    empty = BASELINES["median_background"]
    checks = decide(
        empty, min_f1_over_floor=-0.01, min_f1_over_random=None, min_placed_over_random=None, min_ssim_over_random=None
    )
    assert checks["min_f1_over_floor"].passed
    assert checks["min_object_gain"].passed is False


def test_without_an_interval_thresholds_against_the_served_model_do_not_apply():
    checks = decide(GOOD | {"label_f1": 0.1}, GOOD, min_f1_over_random=None)
    assert checks["max_f1_drop"].passed is None
    assert "too few stories to tell a difference from chance" in checks["max_f1_drop"].why


def test_without_labels_the_threshold_on_the_object_error_applies():
    labels = ("label_f1", "placed_accuracy", "fid_domain")
    good, empty = decide(GOOD, without=labels), decide(GOOD | {"object_error": 40.0}, without=labels)
    assert good["min_object_gain"].why == (
        "Object error 20.0 against 40.0 of the median background: 50.0% less, more than the required 0.0%."
    )
    assert good["min_f1_over_floor"].why == "label F1: absent, its threshold does not apply."
    assert blessed(good)
    assert not blessed(empty)


@pytest.mark.parametrize(
    ("metric", "worse", "missed"),
    [
        ("ssim", 0.85, "max_ssim_drop"),
        ("label_f1", 0.7, "max_f1_drop"),
        ("placed_accuracy", 0.4, "max_placed_drop"),
        ("object_error", 25.0, "max_object_error_rise"),
        ("fid_domain", 12.0, "max_fid_rise"),
    ],
)
def test_a_model_surely_worse_than_the_served_one_is_not_blessed(metric, worse, missed):
    checks = decide(GOOD | {metric: worse}, GOOD, interval=0.02)
    assert [name for name, check in checks.items() if check.passed is False] == [missed]
    assert "of the served model" in checks[missed].why
    assert "surely worse by more than" in checks[missed].why


def test_a_difference_within_its_interval_is_no_reason():
    assert blessed(decide(GOOD | {"label_f1": 0.79}, GOOD, interval=0.02))
    assert not blessed(decide(GOOD | {"label_f1": 0.79}, GOOD, interval=0.005))
    assert blessed(decide(GOOD | {"label_f1": 0.79}, GOOD, interval=0.005, max_f1_drop=0.01))


def test_a_better_model_than_the_served_one_is_blessed():
    better = {"ssim": 0.95, "object_error": 10.0, "label_f1": 0.9, "placed_accuracy": 0.7, "fid_domain": 4.0}
    assert blessed(decide(better, GOOD, interval=0.001))


def test_the_served_models_label_thresholds_need_a_trusted_judge():
    checks = decide(GOOD | {"label_f1": 0.1}, GOOD, trusted=(), interval=0.0)
    assert checks["max_f1_drop"].passed is None
    assert checks["max_f1_drop"].why.startswith("Against the served model: label F1: untrusted")


@pytest.mark.parametrize("has_judge", [True, False])
def test_the_median_background_cannot_be_blessed(plan, painters, world, no_judge, tmp_path, judge, has_judge):
    root = world.write_examples(
        tmp_path, {"train": world.train, "test": world.test}, labelled=has_judge, placed=has_judge
    )
    evaluation = evaluate(plan(painters.background, root, judge if has_judge else no_judge))
    assert evaluation.row("model").value("ssim") > evaluation.row("random_story").value("ssim")
    assert not evaluation.blessed


def test_noise_is_not_blessed(plan, painters):
    evaluation = evaluate(plan(painters.noise))
    assert not evaluation.blessed
    assert evaluation.reason.startswith("SSIM 0.0")


def test_what_is_worse_than_the_served_model_is_not_blessed(plan, painters):
    candidate, served = painters.blurred, painters.of(painters.truth.draw, "the served model, version 7")
    evaluation = evaluate(plan(candidate, served=served))
    assert [row.name for row in evaluation.rows][:2] == ["model", "served_model"]
    assert evaluation.row("served_model").description == "the served model, version 7"
    assert not evaluation.blessed
    assert "of the served model" in evaluation.reason
    assert evaluate(plan(served, served=candidate)).blessed
