"""The benchmark of training steps: its protocol with real programs, its rows and its ratios.

No test here depends on how fast anything is: measurements are compared with what a program measures itself, or clocks
are replaced.
"""

from __future__ import annotations

import functools
import json
import sys
import textwrap

import pytest
import train_step
from step_program import serve
from train_step import RATIO, Program, Step, Subject, matrix_peak, print_rows, show, subjects, summary

from storygan_tf.common.errors import ConfigError
from storygan_tf.config import presets

TINY = [
    "model.frames=2",
    "model.generator_width=8",
    "model.discriminator_width=2",
    "training.phases.adversarial.image_batch=3",
    "training.phases.adversarial.story_batch=2",
]


@pytest.fixture
def other(tmp_path):
    """Returns a function that writes a program that follows the protocol, with `body` as its step."""

    def make(body: str = "pass", name: str = "other", answer: str = "step") -> list[str]:
        path = tmp_path / f"{name}.py"
        source = f"""
            import os, sys, time

            print("what a program says first")
            print("READY", flush=True)
            for line in sys.stdin:
                assert line == "step\\n"
                {body}
                print("in between")
                print({answer!r}, flush=True)
        """
        path.write_text(textwrap.dedent(source))
        return [sys.executable, str(path)]

    return make


def test_a_step_is_timed_from_the_request_to_the_answer(other):
    with Program(other("time.sleep(0.1)")) as program:
        step = program.step()
    assert step.seconds >= 0.1


def test_processor_time_is_that_of_the_program(other, tmp_path):
    log = tmp_path / "times.json"
    work = "before = os.times(); all(time.process_time() < before.user + before.system + 0.3 for _ in iter(int, 1))"
    note = f"after = os.times(); open({str(log)!r}, 'w').write(f'[{{list(before[:2])}}, {{list(after[:2])}}]')"
    with Program(other(f"{work}; {note}")) as program:
        step = program.step()
    before, after = json.loads(log.read_text())
    assert step.user == pytest.approx(after[0] - before[0], abs=0.05)
    assert step.system == pytest.approx(after[1] - before[1], abs=0.05)


def test_memory_is_the_peak_of_the_program(other):
    with Program(other("block = bytes(range(250)) * 400_000")) as program:
        before = program.peak_memory()
        program.step()
        assert program.peak_memory() - before > 95


def test_a_round_repeats_steps_until_they_fill_a_second(other, monkeypatch):
    durations = iter([0.5, 0.25, 0.75, 9.0, 2.0])
    monkeypatch.setattr(Program, "step", lambda program: Step(next(durations), 0, 0))
    with Program(other()) as program:
        assert program.round().seconds == 0.5
        assert program.round().seconds == 9
    assert list(durations) == [2]


def test_programs_do_not_work_at_the_same_time(other, tmp_path):
    log = tmp_path / "log"

    def noting(name: str) -> list[str]:
        begin = f"file = open({str(log)!r}, 'a'); file.write(f'{{time.monotonic()}} ')"
        return other(f"{begin}; time.sleep(0.02); print(time.monotonic(), {name!r}, file=file, flush=True)", name)

    commands = [noting("ours"), noting("theirs")]
    with Program(commands[0]) as ours, Program(commands[1]) as theirs:
        for _ in range(3):
            ours.step()
            theirs.step()
    words = log.read_text().split()
    moments = [float(word) for number, word in enumerate(words) if number % 3 < 2]
    assert moments == sorted(moments)
    assert words[2::3] == ["ours", "theirs"] * 3


def test_a_program_ends_with_its_input(other, tmp_path):
    with Program([*other(), "argument"]) as program:
        process = program.process
    assert process.returncode == 0


def test_a_program_that_dies_is_named_with_its_exit_code(other):
    with (
        pytest.raises(SystemExit, match=r"other.py: ended \(exit code 3\) before a line 'step'"),
        Program(other("sys.exit(3)")) as program,
    ):
        program.step()


def test_a_program_that_never_gets_ready_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("raise SystemExit(5)")
    with pytest.raises(SystemExit, match=r"broken.py: ended \(exit code 5\) before a line 'READY'"):
        Program([sys.executable, str(tmp_path / "broken.py")])


def test_the_mean_of_steps():
    assert Step.mean([Step(1, 2, 3), Step(3, 4, 5)]) == Step(2, 3, 4)


def test_every_phase_of_every_preset_is_a_row_at_every_batch_size():
    rows = list(subjects(["quick", "joint"], [6, 12], [], xla=True))
    assert [(row.name, row.phase.name, row.phase.story_batch, row.settings.training.xla) for row in rows] == [
        (name, phase, batch, xla)
        for name, phase in (("quick", "warm_up"), ("quick", "adversarial"), ("joint", "adversarial"))
        for batch in (6, 12)
        for xla in (False, True)
    ]


def test_joint_is_the_schedule_of_released_alone():
    (row,) = subjects(["joint"], [], [], xla=False)
    assert sorted(row.settings.changes(presets.load("released"))) == [
        'training.phases.adversarial.decay="constant"',
        "training.phases.adversarial.mismatched=false",
    ]
    assert row.stories == 24


@pytest.mark.parametrize(
    ("changes", "stories"),
    [
        (["schedule=joint", "story_batch=5", "story_steps=3"], 5),
        (["story_batch=5", "story_steps=3"], 15),
        (["story_steps=0", "image_batch=7", "image_steps=2"], 14),
        (["schedule=pixel", "l1_weight=1", "story_batch=5", "story_steps=3"], 15),
    ],
)
def test_the_stories_of_a_step(changes, stories):
    assignments = [f"training.phases.adversarial.{change}" for change in changes]
    (row,) = subjects(["paper"], [], assignments, xla=False)
    assert row.stories == stories


def test_an_unknown_setting_is_refused():
    with pytest.raises(ConfigError, match="generator_width"):
        list(subjects(["quick"], [], ["model.generater_width=8"], xla=False))


def test_our_program_makes_a_step_for_each_request(capsys):
    small = ["model.frames=2", "model.context_size=16", "model.filter_count=4", "model.filter_length=12"]
    settings = presets.load("quick").override([*TINY, *small, "training.phases.warm_up.story_batch=2"])
    serve(settings, 0, ["step", "step"])
    ready, *steps = capsys.readouterr().out.splitlines()
    assert ready == "READY"
    assert [line.split()[0] for line in steps] == ["step", "step"]
    assert min(float(line.split()[1]) for line in steps) > 0


def test_a_row_has_executed_and_needed_operations_of_one_story(monkeypatch):
    monkeypatch.setattr(train_step, "step_executed", lambda gan, data, phase: 12e9)
    monkeypatch.setattr(train_step, "needed", lambda model, phase: 4e9)
    (subject,) = subjects(["joint"], [], [], xla=False)
    sizes = [f"training.phases.adversarial.{size}" for size in ("story_batch=2", "image_batch=3")]
    row = Subject("joint", subject.settings.override([*TINY, *sizes]), 0).row()
    assert row["stories + frames"] == "2 + 3"
    assert (row["GFLOP a story"], row["needed"]) == (6, 2)


def test_the_fastest_matrix_product_counts(monkeypatch):
    moments = iter([0.0, 1.0, 10.0, 10.5, 20.0, 22.0])
    monkeypatch.setattr(train_step.time, "perf_counter", lambda: next(moments))
    assert matrix_peak(size=64, times=3) == 2 * 64**3 / 0.5


def test_ratios_are_of_stories_a_second():
    seconds = [(2.0, 6.0), (1.0, 4.0), (2.0, 10.0)]
    rows = [{"ours s": ours, "theirs s": theirs, RATIO: 0.5 * theirs / ours} for ours, theirs in seconds]
    assert summary(rows, stories=0.5) == (
        "stories a second, ours / theirs: smallest 1.50, median 2.00, largest 2.50; fastest against fastest 2.00"
    )


@pytest.mark.parametrize(
    ("value", "shown"), [(123.4, "123"), (12.34, "12.3"), (0.01234, "0.0123"), (7, "7"), ("yes", "yes"), (0.0, "0")]
)
def test_cells_have_three_digits(value, shown):
    assert show(value) == shown


def test_rows_are_printed_as_a_markdown_table(capsys):
    rows = [{"a": 1, "b": 2.5}, {"a": 3, "b": 4.0}]
    assert print_rows(iter(rows)) == rows
    assert capsys.readouterr().out == "| a | b |\n|---|---|\n| 1 | 2.5 |\n| 3 | 4 |\n"


@pytest.mark.slow
def test_a_comparison_from_the_command_line(benchmark, other, tmp_path):
    out = tmp_path / "rows.json"
    command = " ".join(other("time.sleep(0.1)"))
    options = ["--preset", "joint", "--rounds", "2", "--compare-cmd", command, "--compare-stories", "4", "--json", out]
    printed = benchmark(*options, "--set", *TINY)
    assert "| round | matrix product GFLOP/s | ours s |" in printed
    assert "stories a second, ours / theirs: smallest" in printed
    found = json.loads(out.read_text())
    assert found["machine"]["TensorFlow"]
    assert [row["round"] for row in found["rows"]] == [1, 2]
    for row in found["rows"]:
        assert row[RATIO] == pytest.approx(row["theirs s"] / row["ours s"] * 2 / 4)


@pytest.mark.slow
def test_a_table_from_the_command_line(benchmark):
    printed = benchmark("--preset", "quick", "--rounds", "1", "--set", *TINY, "training.phases.warm_up.story_batch=2")
    head, _, *rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("|")]
    found = [dict(zip(head, row, strict=True)) for row in rows]
    assert [(row["phase"], row["schedule"], row["widths"]) for row in found] == [
        ("warm_up", "pixel", "8, 2"),
        ("adversarial", "algorithm1", "8, 2"),
    ]
    for row in found:
        assert row["GFLOP a story"] == row["needed"]
        assert float(row["stories a s"]) == pytest.approx(2 / float(row["fastest s"]), rel=0.02)
        assert 100 < float(row["peak MB"]) < 4000


@pytest.fixture
def benchmark(run_benchmark):
    """A function that runs the benchmark with the given options and returns its output."""
    return functools.partial(run_benchmark, "train_step")
