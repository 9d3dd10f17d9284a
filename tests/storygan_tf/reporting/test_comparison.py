"""Comparisons: only comparable models, baselines once, everything on the page."""

from __future__ import annotations

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from storygan_tf.common.errors import DataError
from storygan_tf.data.storyboard import FRAME
from storygan_tf.evaluation import metric_names
from storygan_tf.evaluation.result import Judge, MetricValue
from storygan_tf.reporting.comparison import (
    TERMINAL_WIDTH,
    ComparedModel,
    StoryToShow,
    comparison_table,
    render_comparison,
)

SENTENCES = ("A red cube.", "A blue ball.", "Rain.", "The end.")
COLOURS = {"true": 0, "first": 80, "second": 160}


def frames(grey):
    return np.full((4, 64, 64, 3), grey, np.uint8)


def with_row(evaluation, name, **values):
    """Returns an evaluation with other metrics in a row."""
    changed = {key: MetricValue(value) for key, value in values.items()}
    rows = (
        dataclasses.replace(row, metrics={**row.metrics, **changed}) if row.name == name else row
        for row in evaluation.rows
    )
    return dataclasses.replace(evaluation, rows=tuple(rows))


@pytest.fixture
def compared(rich_evaluation):
    second = with_row(rich_evaluation, metric_names.MODEL, ssim=0.7)
    return [
        ComparedModel("first", rich_evaluation, {"s1": frames(COLOURS["first"])}),
        ComparedModel("second", second, {"s1": frames(COLOURS["second"])}),
    ]


STORIES = [StoryToShow("s1", SENTENCES, frames(COLOURS["true"]))]


def rows_of(table):
    """Returns the cells of a plain table by the row's name, over all its blocks."""
    cells = {}
    for line in table.splitlines():
        name, *values = re.split(r"\s{2,}", line)
        cells.setdefault(name, []).extend(values)
    return cells


def test_the_table_has_each_model_and_the_baselines_once(compared):
    rows = rows_of(comparison_table(compared))
    assert rows[""][:2] == ["SSIM", "object error"]
    assert rows["first"][0] == "0.812 (0.801 to 0.823)"
    assert rows["second"][0] == "0.700"
    assert rows["background"][0] == "0.861 (0.853 to 0.869)"
    assert {len(rows[name]) for name in ("", "first", "second", "true frames", "random story", "background")} == {10}
    assert not [name for name in rows if "served" in name]
    assert rows["true frames"][rows[""].index("diversity")] == "absent"


def test_the_table_fits_a_terminal_and_names_the_judge_and_the_conditions(compared):
    text = comparison_table(compared)
    assert max(map(len, text.splitlines())) <= TERMINAL_WIDTH
    assert "48 stories of 4 frames, split test, seed 1" in text
    assert "judge f00df00df00d: domain judge" in text
    assert "absent: FID: no network was given" in text
    assert "untrusted" not in text


def test_the_table_has_columns_that_only_one_model_has(compared):
    first, second = compared
    wider = dataclasses.replace(second, evaluation=with_row(second.evaluation, metric_names.MODEL, fid=99.0))
    text = comparison_table([first, wider])
    rows = rows_of(text)
    column = rows[""].index("FID")
    assert (rows["first"][column], rows["second"][column]) == ("absent", "99.0")
    assert "absent: FID:" not in text


def test_untrusted_metrics_are_marked(compared):
    judged = [
        dataclasses.replace(
            entry,
            evaluation=dataclasses.replace(
                entry.evaluation, judges=(dataclasses.replace(entry.evaluation.judges[0], trusted=False),)
            ),
        )
        for entry in compared
    ]
    text = comparison_table(judged)
    rows = rows_of(text)
    assert rows["first"][rows[""].index("label F1 †")] == "0.512 (0.471 to 0.551) †"
    assert "† untrusted: on the true frames the judge does not reach 0.95" in text
    assert "† Untrusted:" in render_comparison(judged, [])


def test_a_baseline_that_differs_has_a_row_for_each_model(compared):
    first, second = compared
    same_in_print = dataclasses.replace(
        second, evaluation=with_row(second.evaluation, metric_names.BACKGROUND, frame_accuracy=1e-9)
    )
    assert "background" in rows_of(comparison_table([first, same_in_print]))
    other = dataclasses.replace(second, evaluation=with_row(second.evaluation, metric_names.BACKGROUND, ssim=0.5))
    rows = rows_of(comparison_table([first, other]))
    assert rows["background of first"][0].startswith("0.861")
    assert rows["background of second"][0] == "0.500"
    assert "random story" in rows


def test_a_model_without_labels_has_a_table_too(bare_evaluation):
    text = comparison_table([ComparedModel("bare", bare_evaluation)])
    assert rows_of(text)["bare"] == ["0.812 (0.801 to 0.823)", "31.4 (30.1 to 32.8)"]
    assert "absent: label F1: the data has no labels" in text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 2}, "seed: found 1 and 2"),
        ({"split": "validation"}, "split: found test and validation"),
        ({"data": "0" * 64}, "stories .*: found da7a.* and 0000"),
        ({"judges": ()}, "judges: found labels f00d.* and none"),
        (
            {"judges": (Judge(metric_names.LABELS, "another", "ab" * 32),)},
            "judges: found labels f00d.* and labels abab",
        ),
        ({"skipped_frames": 1}, "skipped first frames: found 0 and 1"),
        ({"frames": 5}, "frames: found 4 and 5"),
    ],
)
def test_models_that_do_not_compare_are_refused_and_both_are_named(compared, changed, message):
    first, second = compared
    other = dataclasses.replace(second, evaluation=dataclasses.replace(second.evaluation, **changed))
    for show in (comparison_table, lambda entries: render_comparison(entries, STORIES)):
        with pytest.raises(DataError, match=f"first and second do not compare: {message}"):
            show([first, other])


def test_no_model_two_of_a_name_and_an_evaluation_without_a_model_are_refused(compared):
    with pytest.raises(DataError, match="found no model"):
        comparison_table([])
    with pytest.raises(DataError, match="found 'first' more than once"):
        comparison_table([compared[0], compared[0]])
    headless = dataclasses.replace(compared[0].evaluation, rows=compared[0].evaluation.rows[1:])
    with pytest.raises(DataError, match="first: its evaluation has no row 'model'"):
        comparison_table([ComparedModel("first", headless)])


def test_the_page_has_the_table_and_the_judges(compared):
    html = render_comparison(compared, STORIES)
    assert "<title>StoryGAN: first, second</title>" in html
    assert '<th class="number model">first</th><th class="number model">second</th>' in html
    assert "f00df00df00d" in html
    assert "<script" not in html
    references = re.findall(r'(?:src|href)="([^"]*)', html)
    assert all(reference.startswith("data:") for reference in references)


def test_the_page_shows_each_story_true_first_then_by_each_model(compared):
    html = render_comparison(compared, STORIES)
    (encoded,) = re.findall(r'src="data:image/png;base64,([^"]*)', html)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
    column = picture[:, picture.shape[1] - FRAME // 2, 0]
    shown = [value for value in dict.fromkeys(column.tolist()) if value in COLOURS.values()]
    assert shown == list(COLOURS.values())
    assert "<h3>s1</h3>" in html


def test_a_model_may_be_called_as_the_true_frames_are(compared):
    first, second = compared
    html = render_comparison([dataclasses.replace(first, name="true"), second], STORIES)
    (encoded,) = re.findall(r'src="data:image/png;base64,([^"]*)', html)
    column = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))[:, -FRAME // 2, 0]
    assert set(COLOURS.values()) <= set(column.tolist())


def test_frames_that_are_missing_are_named(compared):
    story = StoryToShow("s2", SENTENCES, frames(0))
    with pytest.raises(DataError, match="first: found no frames of story 's2'"):
        render_comparison(compared, [story])


def test_values_of_the_data_are_escaped(compared):
    hostile = "<script>alert('a')</script>"
    entry = ComparedModel(hostile, compared[0].evaluation, {hostile: frames(0)})
    html = render_comparison([entry], [StoryToShow(hostile, (hostile,) * 4, frames(0))])
    assert "<script" not in html
    assert "&lt;script&gt;" in html
