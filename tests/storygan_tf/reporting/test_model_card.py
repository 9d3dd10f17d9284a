"""The model card describes the model and its evaluation, and its example works as written."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
import tensorflow as tf

from storygan_tf.config.presets import load
from storygan_tf.config.schema import StoryGANConfig
from storygan_tf.evaluation.result import Check
from storygan_tf.export.signatures import StoryGANExport
from storygan_tf.models.story_generator import StoryGenerator
from storygan_tf.reporting.model_card import render_model_card

SETTINGS = json.loads(load("quick").to_json())
LINEAGE = {"run_id": "20240501", "data": {"train": 360}, "code": {"trainer": "c0de"}, "metrics": {"ssim": 0.123456}}
STORY = ["A red cube.", 'It\'s "big".', "```", "The `end` \\ now."]
INFO = {"frames": 4, "image_size": 64, "preset": "quick", "encoder": "embedded", "examples": [STORY], "words": ["a"]}


def card(evaluation, settings=SETTINGS, lineage=LINEAGE, info=INFO):
    return render_model_card(evaluation, settings, lineage, info)


def tables(text):
    """Returns each table of a card as rows of cells, without its line of dashes."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    split = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in row] for row in rows if set(row) != {"---"}] for rows in split]


def test_it_describes_the_model_and_its_training(rich_evaluation):
    text = card(rich_evaluation)
    assert text.startswith("# StoryGAN quick\n")
    for expected in (
        "(embedded)",
        "exactly 4 sentences",
        "it knows 1 words",
        "seed 1",
        "- train: 360",
        "- labels: cube,",
    ):
        assert expected in text
    phases = tables(text)[0]
    assert [row[0] for row in phases[1:]] == [
        phase["name"].replace("_", r"\_") for phase in SETTINGS["training"]["phases"]
    ]


def test_it_has_metrics_of_model_and_baselines_with_intervals(rich_evaluation):
    rows = {row[0]: row[1:] for row in tables(card(rich_evaluation))[1]}
    assert rows["metric"] == ["model", "served model", "true frames", "random story", "background"]
    assert rows["SSIM, higher is better"][:3] == ["0.812 (0.801 to 0.823)", "0.800 (0.789 to 0.811)", "1.000"]
    assert rows["diversity, higher is better"][2:] == ["absent"] * 3
    assert len(rows) == 1 + len(rich_evaluation.rows[0].metrics)


def test_every_table_has_as_many_cells_in_each_row(rich_evaluation, bare_evaluation):
    for evaluation in (rich_evaluation, bare_evaluation):
        for table in tables(card(evaluation)):
            assert len({len(row) for row in table}) == 1


def test_it_has_judges_verdict_and_lineage(rich_evaluation, failed_check):
    text = card(dataclasses.replace(rich_evaluation, checks=(failed_check,)))
    assert f"SHA-256 `{'f00d' * 16}`" in text
    assert "**Not blessed.** Label F1 0.512 against 0.466" in text
    assert r"- Failed: min\_f1\_over\_random: Label F1" in text
    assert r"| run\_id | 20240501 |" in text
    assert "| code.trainer | c0de |" in text
    assert "0.123456" not in text, "metrics have a section of their own"
    assert "**Blessed.**" in card(rich_evaluation)


def test_untrusted_metrics_are_marked(rich_evaluation):
    judge = dataclasses.replace(rich_evaluation.judges[0], trusted=False)
    text = card(dataclasses.replace(rich_evaluation, judges=(judge,)))
    assert "| label F1 †, higher is better | 0.512 (0.471 to 0.551) † |" in text
    assert "† Untrusted" in text
    assert "| SSIM, higher is better |" in text
    assert "†" not in card(rich_evaluation)


def test_missing_parts_are_mentioned(bare_evaluation):
    text = card(bare_evaluation, {}, {}, {})
    assert text.startswith("# StoryGAN\n")
    for expected in (
        "the metrics are computed from pixels alone",
        "- label F1: the data has no labels",
        "Its settings are unknown.",
        "Its lineage is unknown.",
        '    "A sentence.",\n' * 4,
    ):
        assert expected in text


def test_values_of_the_data_are_escaped(rich_evaluation):
    hostile = "<script>x</script> **bold** [a](http://example.org) | cell\n# heading\n```\n$x$"
    evaluation = dataclasses.replace(
        rich_evaluation,
        label_names=(hostile,),
        absent={"fid": hostile},
        checks=(Check(hostile, 1.0, 0.0, True, hostile),),
        rows=tuple(dataclasses.replace(row, description=hostile, drawn_from=hostile) for row in rich_evaluation.rows),
        split=hostile,
    )
    text = card(evaluation, {**SETTINGS, "preset": hostile}, {"run_id": hostile}, {**INFO, "encoder": hostile})
    expected = r"&lt;script&gt;x&lt;/script&gt; \*\*bold\*\* \[a\](http://example.org) \| cell # heading \`\`\` \$x\$"
    assert text.count(expected) > 10
    assert "<script" not in text
    assert "# heading" not in [line[: len("# heading")] for line in text.splitlines()]
    assert text.count("```") == 2 + 1, "the block of code and, within it, the story's own"
    assert len({len(row) for row in tables(text)[-1]}) == 1


class LengthVectorizer(tf.Module):
    """A sentence's length as its vector."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, sentences):
        return tf.tile(tf.cast(tf.strings.length(sentences), tf.float32)[:, tf.newaxis], [1, 8])


@pytest.fixture(scope="module")
def export():
    generator = StoryGenerator(StoryGANConfig(sentence_size=8, noise_size=2, generator_width=8))
    generator(tf.zeros([1, 4, 8]))
    return StoryGANExport(generator, LengthVectorizer(), INFO, 1000)


def test_the_way_to_load_it_works_as_written(rich_evaluation, export, tmp_path):
    # Only the signature of the example is saved, because saving all of them takes long.
    tf.saved_model.save(export, str(tmp_path), signatures={"generate": export.signatures()["generate"]})
    (code,) = re.findall(r"```python\n(.*?)^```", card(rich_evaluation), re.DOTALL | re.MULTILINE)
    assert '"path/of/this/version"' in code
    names = {}
    exec(code.replace("path/of/this/version", str(tmp_path)), names)
    assert names["story"] == STORY
    assert [picture[:4] for picture in names["pictures"]] == [b"\x89PNG"] * 4


def test_every_signature_of_the_export_is_documented(rich_evaluation, export):
    assert set(re.findall(r"^\| `(\w+)` \|", card(rich_evaluation), re.MULTILINE)) == set(export.signatures())
