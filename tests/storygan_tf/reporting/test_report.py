"""The report is one complete file, has all results, and escapes all values."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from html.parser import HTMLParser

import pytest

from storygan_tf.config.presets import load
from storygan_tf.evaluation import metric_names
from storygan_tf.evaluation.result import Check, Confusion, MetricValue
from storygan_tf.reporting import charts
from storygan_tf.reporting.report import MAX_REJECTS, PUBLISHED, ReportContent, render_report

PNG = b"\x89PNG a picture"
HISTORY = [
    {"phase": "warm_up", "epoch": 1, "step": 10, "seconds": 60.0, "losses": {"pixel": 8.0, "kl": 0.1}},
    {"phase": "warm_up", "epoch": 2, "step": 20, "seconds": 60.0, "losses": {"pixel": 4.0, "kl": 0.2}},
    {"phase": "adversarial", "epoch": 1, "step": 10, "seconds": 30.0, "losses": {"pixel": 2.0, "story": 0.7}},
]
COUNTS = {"given": 53, "accepted": 50, "rejected": {"image is missing": 3}, "splits": {"train": 40, "test": 10}}
BOARDS = {"best": PNG + b"1", "worst": PNG + b"2", "random": PNG + b"3"}


class Page(HTMLParser):
    """Collects a page's elements, what they refer to, the cells of its tables, and its text."""

    void = frozenset({"meta", "img", "br", "hr", "link", "line", "polyline", "circle"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.references, self.open, self.text, self.rows = [], [], [], "", []
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, first):
        """Returns the texts of the table row whose first cell begins so."""
        rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        return next(row for row in rows if row and row[0].startswith(first))


def page(evaluation, **content):
    return Page(render_report(ReportContent(evaluation, **content)))


def test_it_is_one_file_without_scripts_and_every_element_is_closed(rich_evaluation):
    found = page(rich_evaluation, boards=BOARDS, history=HISTORY, counts=COUNTS, statistics={"words": {"red": 1}})
    pictures = ["data:image/png;base64," + base64.b64encode(png).decode() for png in BOARDS.values()]
    assert found.references == ["data:,", *pictures]
    assert not {"script", "iframe"} & set(found.tags)
    assert found.open == []


def test_a_blessed_model_has_its_results_for_each_threshold(rich_evaluation):
    found = page(rich_evaluation)
    assert "Blessed." in found.text
    assert "Not blessed" not in found.text
    assert found.row("Passed")[1:] == [
        "SSIM 0.812 exceeds 0.780 of a random training story. (evaluation.min_ssim_over_random)", "0.0322", "0.02", ""
    ]  # fmt: skip
    assert found.row("Does not apply")[2:] == ["", "0", ""]
    assert "untrusted" not in found.text.lower()
    assert "†" not in found.text


def test_a_model_that_is_not_blessed_has_the_reason_and_the_missing_amount(rich_evaluation, failed_check):
    found = page(dataclasses.replace(rich_evaluation, checks=(failed_check,)))
    assert "Not blessed: not pushed." in found.text
    assert found.row("Failed")[1:] == [
        "Label F1 0.512 against 0.466 of a random training story. (evaluation.min_f1_over_random)",
        "0.046",
        "0.1",
        "0.054",
    ]


def test_the_missing_amount_of_an_upper_bound_has_no_sign(rich_evaluation):
    check = Check("max_fid_rise", 12.5, 0.0, False, "FID rose.")
    assert page(dataclasses.replace(rich_evaluation, checks=(check,))).row("Failed")[2:] == ["12.5", "0", "12.5"]


@pytest.mark.parametrize("checks", [(), (Check("min_f1_over_floor", None, 0.0, None, "Label F1: absent."),)])
def test_a_report_without_applicable_thresholds_says_so(rich_evaluation, checks):
    text = page(dataclasses.replace(rich_evaluation, checks=checks)).text
    assert "Not blessed: not pushed." in text
    assert "No threshold applies" in text


def test_every_row_has_its_metrics_with_intervals(rich_evaluation):
    found = page(rich_evaluation)
    assert found.row("metric") == ["metric", "model", "served model", "true frames", "random story", "background"]
    assert found.row("SSIM") == [
        "SSIM higher is better",
        "0.8120.801 to 0.823",
        "0.8000.789 to 0.811",
        "1.000",
        "0.7800.770 to 0.790",
        "0.8610.853 to 0.869",
    ]
    assert found.row("label F1")[0] == "label F1 higher is better judge f00df00df00d"
    assert found.row("FSD")[1:] == ["210.4", "255.0", "0.0", "13.0", "913.0"]
    assert found.row("diversity")[1:] == ["2.142.00 to 2.30", "1.911.80 to 2.10", "absent", "absent", "absent"]


def test_every_row_has_its_inputs_its_stories_and_its_judges(rich_evaluation):
    found = page(dataclasses.replace(rich_evaluation, skipped_frames=1))
    evaluated = "48 stories of 4 frames of the test split, without the first 1 of each story"
    assert found.row("model") == ["model", "the model", "text", evaluated, "f00df00df00d"]
    assert found.row("background")[2:] == ["-", evaluated, "f00df00df00d"]
    assert found.row("domain judge")[1:] == [
        "the frozen judge of blocks that ships with storygan",
        "f00df00df00d",
        "label F1 0.985, placed objects 0.951",
        "yes",
    ]


def test_metrics_of_an_untrusted_judge_are_marked_and_others_are_not(rich_evaluation):
    judge = dataclasses.replace(rich_evaluation.judges[0], trusted=False)
    found = page(dataclasses.replace(rich_evaluation, judges=(judge,)), boards=BOARDS)
    assert "† Untrusted: the judge of these metrics does not reach 0.95 on the true test frames." in found.text
    assert "their thresholds do not apply" in found.text
    assert found.row("label F1 †")[1] == "0.512 †0.471 to 0.551"
    for title in ("placed objects †", "FID (domain) †"):
        assert all(" †" in cell for cell in found.row(title)[1:])
    for title in ("SSIM", "object error"):
        assert not any("†" in cell for cell in found.row(title))
    assert "ranked by label F1 †." in found.text
    assert "F1 † of each single label" in found.text
    assert "that the judge detects †." in found.text


def test_without_labels_metrics_are_absent_with_the_reason(bare_evaluation):
    found = page(bare_evaluation)
    assert "label F1: the data has no labels" in found.text
    assert "placed objects: the data does not tell where objects are" in found.text
    for heading in ("Single labels", "Confused attributes", "Judges"):
        assert heading not in found.text
    assert found.row("model")[-1] == "none"
    assert found.row("metric") == ["metric", "model", "true frames", "random story", "background"]


def test_storyboards_have_the_value_that_ranks_them(rich_evaluation, bare_evaluation):
    found = page(rich_evaluation, boards=BOARDS)
    assert "ranked by label F1." in found.text
    assert re.search(r"Best s000041: 0.911, s000017: 0.874 Worst s000003: 0.111", found.text)
    assert "ranked by SSIM." in page(bare_evaluation, boards={"best": PNG}).text
    assert page(bare_evaluation, boards={"best": PNG}).tags.count("img") == 1
    assert "There are no storyboards." in page(bare_evaluation).text


def test_a_label_has_bars_for_the_model_and_the_ceiling(rich_evaluation):
    first = charts.label_bars(rich_evaluation)[0]
    assert first.name == "cube"
    assert [(bar.name, bar.text) for bar in first.bars] == [
        (metric_names.MODEL, "0.90"),
        (metric_names.SERVED, "0.80"),
        (metric_names.REAL, "0.99"),
    ]
    html = render_report(ReportContent(rich_evaluation))
    assert '<span class="bar served_model"><i style="width: 56.0%"></i>0.80</span>' in html


def test_a_heatmap_has_fractions_of_lines_and_of_right_objects():
    confusion = Confusion(("red", "blue"), {"model": ((3, 1), (0, 0))})
    heat = charts.heatmap(confusion, "model")
    assert heat.lines == (((3, 0.75), (1, 0.25)), ((0, 0.0), (0, 0.0)))
    assert heat.right == 0.75
    assert charts.heatmap(confusion, "real_frames") is None
    assert charts.heatmap(Confusion(("red",), {"model": ((0,),)}), "model").right is None


def test_the_ceiling_has_heatmaps_too(rich_evaluation):
    text = page(rich_evaluation).text
    assert text.count("The model: ") == text.count("The true frames (ceiling): ") == 2
    assert "The model: 76% right" in text


def test_published_metrics_are_not_among_the_rows(rich_evaluation):
    html = render_report(ReportContent(rich_evaluation))
    rows, published = html.split("<h2>Published metrics of other systems</h2>")
    for system, fid, f1, accuracy in PUBLISHED:
        assert f"{fid:.2f}" not in rows
        cells = "".join(f'<td class="number">{value:.2f}</td>' for value in (fid, f1, accuracy))
        assert f"<tr><td>{system}</td>{cells}</tr>" in published
    assert "gold labels" in published


def test_data_and_rejects_are_counted_and_only_the_first_are_listed(rich_evaluation):
    rejects = [{"story_id": f"s{number}", "file": "a.png", "reason": "missing"} for number in range(MAX_REJECTS + 5)]
    found = page(rich_evaluation, counts=COUNTS, rejects=rejects)
    assert found.row("set aside: image is missing")[1] == "3"
    assert found.row("in split train")[1] == "40"
    assert [row[0] for row in found.rows if row[1:] == ["a.png", "missing"]] == [f"s{n}" for n in range(MAX_REJECTS)]
    assert f"({MAX_REJECTS} of {MAX_REJECTS + 5})" in found.text


def test_anomalies_are_listed_and_their_absence_is_reported(rich_evaluation):
    anomaly = {"split": "test", "feature": "<label>", "found": "The Linfty distance is 0.4.", "stops": False}
    found = page(rich_evaluation, anomalies=[anomaly])
    assert found.row("test") == ["test", "<label>", "The Linfty distance is 0.4."]
    assert "found no anomalies" in page(rich_evaluation, anomalies=[]).text
    assert "Data Validation" not in page(rich_evaluation).text


def test_statistics_are_single_values_or_bars():
    values = {"stories": 400, "mean": 9.25, "kind": "blocks", "words": {"red": 10, "cube": 5}, "in": {"a": {"b": 1}}}
    single, bars = charts.statistics(values)
    assert single == [("stories", "400"), ("mean", "9.25"), ("kind", "blocks")]
    assert [group.name for group in bars] == ["words", "in: a"]
    assert [(bar.name, bar.text, bar.share) for bar in bars[0].bars] == [("red", "10", 1.0), ("cube", "5", 0.5)]
    assert charts.statistics({"none": {"a": 0}})[1][0].bars[0].share == 0


def test_of_many_bars_the_greatest_are_kept_in_their_order(rich_evaluation):
    many = {f"w{number}": number % 40 + 1 for number in range(40)}
    (group,) = charts.statistics({"words": many})[1]
    assert [bar.name for bar in group.bars] == [f"w{number}" for number in range(40 - charts.MAX_BARS, 40)]
    assert f"and {40 - charts.MAX_BARS} more" in page(rich_evaluation, statistics={"words": many}).text


def test_values_of_the_data_are_escaped(rich_evaluation):
    hostile = "<script>alert('a')</script><img src=http://example.org/x.png>\"'"
    evaluation = dataclasses.replace(
        rich_evaluation,
        rows=tuple(dataclasses.replace(row, description=hostile, drawn_from=hostile) for row in rich_evaluation.rows),
        absent={hostile: hostile},
        checks=(Check(hostile, 1.0, 0.0, True, hostile),),
        judges=(
            dataclasses.replace(
                rich_evaluation.judges[0], description=hostile, sha256=hostile, held_out={hostile: 1.0}
            ),
        ),
        label_names=(hostile,),
        label_f1={hostile: {metric_names.MODEL: 0.5}},
        confusions={hostile: Confusion((hostile,), {metric_names.MODEL: ((1,),)})},
        boards=dataclasses.replace(rich_evaluation.boards, best=(hostile,)),
        split=hostile,
        data=hostile,
    )
    found = page(
        evaluation,
        boards=BOARDS,
        history=[{"phase": hostile, "epoch": 1, "step": 1, "seconds": 1.0, "losses": {hostile: 1.0}}],
        counts=COUNTS | {"rejected": {hostile: 1}, "splits": {hostile: 1}},
        rejects=[{"story_id": hostile, "file": hostile, "reason": hostile}],
        statistics={hostile: {hostile: 1}, hostile * 2: hostile},
        settings={"preset": hostile, hostile: hostile},
        commands={hostile: hostile},
        lineage={hostile: hostile},
    )
    assert "script" not in found.tags
    assert found.tags.count("img") == len(BOARDS)
    assert not [reference for reference in found.references if not reference.startswith("data:")]
    assert found.text.count(hostile) > 30
    assert found.open == []


def test_settings_have_dotted_names_and_quick_has_a_note(rich_evaluation):
    settings = {"preset": "quick", "training": {"phases": [{"name": "warm_up", "epochs": 3}]}, "data": {"steps": []}}
    text = page(rich_evaluation, settings=settings).text
    for expected in ("training.phases.warm_up.epochs", "data.steps", "soft blobs", "4 settings"):
        assert expected in text
    assert "soft blobs" not in page(rich_evaluation, settings={"preset": "paper"}).text
    assert "The settings are unknown." in page(rich_evaluation).text


def test_a_report_has_commands_and_lineage(rich_evaluation):
    lineage = {"run_id": "20240501", "code": {"trainer": "c0de"}, "settings": {"training": {"seed": 77}}}
    found = page(rich_evaluation, commands={"repeat": "storygan run --data D --out R"}, lineage=lineage)
    assert "storygan run --data D --out R" in found.text
    assert found.row("run_id") == ["run_id", "20240501"]
    assert found.row("code.trainer") == ["code.trainer", "c0de"]
    assert "training.seed" not in found.text, "settings have a section of their own"
    assert "The lineage is unknown." in page(rich_evaluation).text


def test_a_dot_is_drawn_at_its_value(rich_evaluation):
    drawings = charts.dot_charts(charts.sources(rich_evaluation), rich_evaluation)
    ssim = next(chart for chart in drawings if chart.line.name == "ssim")
    model, served, real, random, background = ssim.dots
    assert served.x < model.x < background.x < real.x
    assert random.low < random.x < random.high
    assert real.low == real.x == real.high, "a metric without an interval is a dot alone"
    share = (model.x - random.low) / (real.x - random.low)
    assert share == pytest.approx((0.8123 - 0.77) / (1.0 - 0.77))
    assert [chart.line.name for chart in drawings] == list(rich_evaluation.rows[0].metrics)


def test_a_metric_of_one_row_has_no_chart_and_equal_values_have_one(rich_evaluation):
    model, served = rich_evaluation.rows[:2]
    rows = (
        dataclasses.replace(model, metrics={"ssim": MetricValue(0.5), "diversity": MetricValue(1.0)}),
        dataclasses.replace(served, metrics={"ssim": MetricValue(0.5)}),
    )
    evaluation = dataclasses.replace(rich_evaluation, rows=rows)
    (chart,) = charts.dot_charts(charts.sources(evaluation), evaluation)
    assert chart.line.name == "ssim"
    assert chart.dots[0].x == chart.dots[1].x


def test_a_value_that_rounds_to_nothing_has_no_sign():
    assert charts.format_value("ssim", -0.0001) == "0.000"
    assert charts.format_value("ssim", -0.1) == "-0.100"


def test_a_curve_for_each_loss_over_all_epochs():
    pixel, kl, story = charts.loss_curves(HISTORY)
    assert (pixel.name, pixel.low, pixel.high, pixel.last) == ("pixel", 2.0, 8.0, 2.0)
    assert [phase for _, phase in pixel.phases] == ["warm_up", "adversarial"]
    assert [len(line.split()) for line in pixel.points] == [2, 1]
    assert [len(line.split()) for line in kl.points] == [2]
    assert (story.low, story.high) == pytest.approx((0.2, 1.2))
    first, second = (tuple(map(float, point.split(","))) for point in pixel.points[0].split())
    assert first[0] < second[0]
    assert first[1] < second[1], "a smaller loss is drawn lower, where y is greater"


def test_losses_that_are_not_finite_are_left_out_and_one_epoch_is_enough(rich_evaluation):
    broken = [HISTORY[0] | {"losses": {"pixel": math.nan, "kl": 0.5}}]
    assert [curve.name for curve in charts.loss_curves(broken)] == ["kl"]
    assert charts.loss_curves([]) == []
    assert "No history of losses was given." in page(rich_evaluation).text


def test_the_settings_of_every_preset_can_be_reported(rich_evaluation):
    for name in ("paper", "quick"):
        settings = dataclasses.asdict(load(name))
        assert "training.phases.adversarial.epochs" in page(rich_evaluation, settings=settings).text
