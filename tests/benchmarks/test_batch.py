"""The batch benchmark: the tables and targets that it computes from measurements, and a short run."""

from __future__ import annotations

import json

import pytest
from batch import Run, print_floor, print_runs, write_stories

FLOOR = {8: (90.0, 11.0), 32: (100.0, 10.0)}
START = Run(8, 2.0, 2.0, 500.0, 400.0)


def test_the_floor_is_that_of_the_best_batch_size(capsys):
    assert print_floor(FLOOR) == (100.0, 10.0)
    assert "floor: batches of 32, 100.0 stories/s" in capsys.readouterr().out


def test_rates_are_printed_with_and_without_start_up(capsys):
    print_runs(iter([START, Run(108, 4.0, 3.0, 500.0, 410.0), Run(1008, 12.0, 12.0, 600.0, 500.0)]), 100.0, 10.0)
    lines = capsys.readouterr().out.splitlines()
    assert "| 108 | 4.0 | 27.0 | 0.27 | 50.0 | 0.50 | 10.0 | 1.00 | 500 | 410 |" in lines
    assert "| 1,008 | 12.0 | 84.0 | 0.84 | 100.0 | 1.00 | 10.0 | 1.00 | 600 | 500 |" in lines
    assert lines[-1] == "no target is missed"


def test_missed_targets_are_printed(capsys):
    slow, large = Run(1008, 22.0, 12.0, 600.0, 500.0), Run(10_008, 102.0, 112.0, 700.0, 500.0)
    print_runs(iter([START, slow, large]), 100.0, 10.0)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "missed: 1,008 stories: 0.50 of the floor's rate, expected 0.8",
        "missed: 10,008 stories: 700 MB, expected at most 660",
    ]


def test_all_sentences_differ(tmp_path):
    write_stories(tmp_path / "a.jsonl", 20, 3)
    stories = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    sentences = [sentence for story in stories for sentence in story["sentences"]]
    assert len(stories) == 20
    assert len(sentences) == len(set(sentences)) == 60


@pytest.mark.slow
def test_a_short_run(run_benchmark):
    printed = run_benchmark("batch", "--preset", "quick", "--sizes", "20", "40", "--floor-seconds", "0.2")
    assert [line.split(" | ")[0] for line in printed.splitlines() if line[:3] in ("| 2", "| 4")] == ["| 20", "| 40"]
