"""The report is whole in one file, says what was found, and lets nothing in the data speak as HTML."""

from __future__ import annotations

import base64
import dataclasses
import math
from html.parser import HTMLParser

import pytest

from storygan_tf.evaluation import Check, Evaluation, Judge, Row
from storygan_tf.presets import load
from storygan_tf.report import MOST_REJECTS, Content, charts, render_report

ROWS = (
    Row("model", "the model, given the sentences and a seed", 0.8123, 0.7, 0.25),
    Row("real_frames", "the true test frames themselves (ceiling)", 1.0, 0.96, 0.6),
    Row("random_story", "the true frames of a random other test story", 0.78, 0.6, 0.0),
    Row("median_background", "the median background of the training frames (floor)", 0.86, 0.0, 0.0),
)
JUDGE = Judge("f00d" * 16, 840, held_out_f1=0.955, held_out_frame_accuracy=0.55, trusted=True)
PASSED = Check("min_ssim_over_random", 0.03, 0.02, True, "SSIM 0.812 against 0.780 of a random other real story.")
FAILED = Check("min_f1_over_floor", 0.0, 0.1, False, "Label F1 0.000 against 0.000 of the median background.")
EVALUATION = Evaluation(ROWS, (PASSED,), JUDGE, "", ("red", "cube"), stories=48, frames=4, seed=1)
PNG = b"\x89PNG a picture"
HISTORY = [
    {"phase": "warm_up", "epoch": 1, "step": 10, "seconds": 60.0, "losses": {"pixel": 8.0, "kl": 0.1}},
    {"phase": "warm_up", "epoch": 2, "step": 20, "seconds": 60.0, "losses": {"pixel": 4.0, "kl": 0.2}},
    {"phase": "adversarial", "epoch": 1, "step": 10, "seconds": 30.0, "losses": {"pixel": 2.0, "story": 0.7}},
]
COUNTS = {"given": 53, "accepted": 50, "rejected": {"image is missing": 3}, "splits": {"train": 40, "test": 10}}


class Page(HTMLParser):
    """Collects a page's elements, what they refer to, and its text."""

    void = frozenset({"meta", "img", "br", "hr", "link", "line", "polyline"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.references, self.open, self.text = [], [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page(evaluation=EVALUATION, **content):
    return Page(render_report(Content(evaluation, PNG, **content)))


def test_it_is_one_file_without_scripts_and_every_element_is_closed():
    found = page(history=HISTORY, counts=COUNTS)
    assert found.references == ["data:image/png;base64," + base64.b64encode(PNG).decode()]
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert found.open == []


def test_it_says_that_the_model_is_blessed_with_its_figures_and_baselines():
    text = page().text
    assert "Blessed." in text
    assert "Passed: SSIM 0.812 against 0.780" in text
    for row in ROWS:
        assert row.what in text
        assert f"{row.ssim:.3f}" in text
    assert "untrusted" not in text


def test_it_says_why_a_model_is_not_blessed():
    text = page(dataclasses.replace(EVALUATION, checks=(PASSED, FAILED))).text
    assert "Not blessed: not pushed." in text
    assert "Failed: Label F1 0.000 against 0.000" in text


def test_a_judge_below_the_ceiling_is_called_untrusted():
    judge = dataclasses.replace(JUDGE, trusted=False)
    assert "The label figures are untrusted:" in page(dataclasses.replace(EVALUATION, judge=judge)).text


def test_absent_label_figures_are_absent_with_the_reason():
    rows = tuple(dataclasses.replace(row, label_f1=None, frame_accuracy=None) for row in ROWS)
    check = Check("min_f1_over_floor", None, 0.1, None, "Label F1: absent.")
    bare = dataclasses.replace(EVALUATION, rows=rows, judge=None, no_labels="the data has no labels", checks=(check,))
    text = page(bare).text
    assert "Label figures are absent: the data has no labels." in text
    assert "Does not apply: Label F1: absent." in text
    assert text.count("absent") >= 2 * len(ROWS)


def test_data_and_rejects_are_counted_and_only_the_first_are_listed():
    rejects = [{"story_id": f"s{number}", "file": "a.png", "reason": "missing"} for number in range(MOST_REJECTS + 5)]
    text = page(counts=COUNTS, rejects=rejects).text
    assert "set aside: image is missing" in text
    assert f"s{MOST_REJECTS - 1}" in text
    assert f"s{MOST_REJECTS}" not in text
    assert f"({MOST_REJECTS} of {MOST_REJECTS + 5})" in text


def test_what_the_data_says_is_text():
    hostile = "<script>alert('a')</script><img src=http://example.org/x.png>"
    rejects = [{"story_id": hostile, "file": hostile, "reason": hostile}]
    found = page(counts=COUNTS | {"rejected": {hostile: 1}}, rejects=rejects, commands={"repeat": hostile})
    assert "script" not in found.tags
    assert found.tags.count("img") == 1
    assert hostile in found.text


def test_settings_go_by_their_dotted_names_and_quick_is_told_honestly():
    settings = {"preset": "quick", "training": {"phases": [{"name": "warm_up", "epochs": 3}]}, "data": {"steps": []}}
    text = page(settings=settings).text
    for told in ("training.phases.warm_up.epochs", "data.steps", "soft blobs", "4 settings"):
        assert told in text
    assert "soft blobs" not in page(settings={"preset": "paper"}).text


def test_commands_are_there_to_repeat_it():
    text = page(commands={"repeat": "storygan run --data D --out R"}).text
    assert "storygan run --data D --out R" in text


def test_a_chart_for_each_loss_over_all_epochs():
    pixel, kl, story = charts(HISTORY)
    assert (pixel.name, pixel.low, pixel.high, pixel.last) == ("pixel", 2.0, 8.0, 2.0)
    assert [phase for _, phase in pixel.phases] == ["warm_up", "adversarial"]
    assert [len(line.split()) for line in pixel.points] == [2, 1]
    assert [len(line.split()) for line in kl.points] == [2]
    assert (story.low, story.high) == pytest.approx((0.2, 1.2))
    first, second = (tuple(map(float, point.split(","))) for point in pixel.points[0].split())
    assert first[0] < second[0]
    assert first[1] < second[1], "a smaller loss is drawn lower, where y is greater"


def test_losses_that_are_not_finite_are_left_out_and_one_epoch_is_enough():
    broken = [HISTORY[0] | {"losses": {"pixel": math.nan, "kl": 0.5}}]
    assert [chart.name for chart in charts(broken)] == ["kl"]
    assert charts([]) == []
    assert "No history of losses was given." in page().text


def test_the_settings_of_every_preset_can_be_told():
    for name in ("paper", "quick"):
        assert "training.phases.adversarial.epochs" in page(settings=dataclasses.asdict(load(name))).text
