"""`storygan run`: the files that it writes, the steps that it repeats, and how it fails."""

from __future__ import annotations

import copy
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storygan_tf.training.training_state import read_history

pytestmark = pytest.mark.slow


def steps_that(output: str, ending: str) -> list[str]:
    """Returns the steps whose line in the output of a run starts with `ending`, in order."""
    return re.findall(rf"^\[.*\] (\w+): {ending}", output, re.MULTILINE)


def executed(output: str) -> list[str]:
    """Returns the steps that a run executed, because they were not in the cache."""
    return steps_that(output, "done in")


def cached(output: str) -> list[str]:
    return steps_that(output, "unchanged")


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def versions(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "serving_model" / "storygan").iterdir())


def first_story(data: Path) -> dict:
    return json.loads((data / "stories.jsonl").read_text().splitlines()[0])


def test_a_run_writes_all_files_under_stable_names(finished_run, steps):
    _, run_dir, output = finished_run
    assert executed(output) == steps
    assert "judged     StoryEvaluator: SSIM" in output
    for name in (
        "storyboard.png",
        "report.html",
        "metrics.json",
        "inputs.json",
        "rejects.jsonl",
        "history.json",
        "metadata.sqlite",
        "settings.json",
    ):
        assert (run_dir / name).is_file(), name
    assert list((run_dir / "tensorboard").glob("events*"))
    assert picture(run_dir / "storyboard.png").shape[1] > 400
    assert [entry["phase"] for entry in json.loads((run_dir / "history.json").read_text())] == [
        "warm_up",
        "warm_up",
        "adversarial",
    ]
    assert len(versions(run_dir)) == 1


def test_the_pushed_model_draws_in_a_process_with_tensorflow_alone(finished_run, draw_elsewhere):
    data, run_dir, _ = finished_run
    sentences = first_story(data)["sentences"]
    shapes, modules = draw_elsewhere(versions(run_dir)[0], sentences)
    assert shapes == str([[64, 64, 3]] * len(sentences))
    assert modules.startswith("False")


def test_generate_draws_the_suggested_story(finished_run, cli, tmp_path):
    _, run_dir, _ = finished_run
    suggested = cli("generate", "--model", run_dir)
    assert suggested.returncode == 0, suggested.stderr
    assert suggested.stdout.count("\n1.\n") == suggested.stdout.count("\n3.\n") == 1
    command = suggested.stdout.strip().splitlines()[-1].strip()
    drawn = subprocess.run(
        command.replace("storygan", f"{sys.executable} -m storygan_cli", 1).replace(
            "board.png", str(tmp_path / "b.png")
        ),
        shell=True,
        capture_output=True,
        text=True,
        **{key: value for key, value in cli.options().items() if key != "text"},
    )
    assert drawn.returncode == 0, drawn.stderr
    assert picture(tmp_path / "b.png").std() > 1


def test_generate_repeats_by_seed_and_names_unknown_words(finished_run, cli, tmp_path):
    data, run_dir, _ = finished_run
    sentences = [*first_story(data)["sentences"][:-1], "A zeppelin appears."]
    (tmp_path / "story.txt").write_text("\n".join(sentences))
    arguments = ["generate", "--model", versions(run_dir)[0], "--story", tmp_path / "story.txt"]
    for name, seed in (("a.gif", 3), ("b.gif", 3), ("c.gif", 4)):
        done = cli(*arguments, "--seed", seed, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert "zeppelin" in done.stderr
    pictures = [(tmp_path / name).read_bytes() for name in ("a.gif", "b.gif", "c.gif")]
    assert pictures[0] == pictures[1] != pictures[2]
    refused = cli(*arguments, "--strict", "--out", tmp_path / "d.png")
    assert refused.returncode == 1
    assert "zeppelin" in refused.stderr
    assert not (tmp_path / "d.png").exists()


def test_a_rerun_without_a_change_takes_everything_from_the_cache(run_to_change, cli, steps):
    data, run_dir = run_to_change
    done = cli(*cli.tiny_run(data, run_dir))
    assert done.returncode == 0, done.stderr
    assert cached(done.stdout) == steps
    assert len(versions(run_dir)) == 1


def replace_image(data: Path) -> None:
    Image.new("RGB", (64, 64), (200, 10, 10)).save(data / first_story(data)["images"][0])


def edit_line(data: Path) -> None:
    path = data / "stories.jsonl"
    lines = path.read_text().splitlines()
    story = json.loads(lines[0])
    story["sentences"][0] += " Really."
    path.write_text("\n".join([json.dumps(story), *lines[1:]]) + "\n")


def add_file(data: Path) -> None:
    (data / "note.txt").write_text("one more file")


@pytest.mark.parametrize("change", [edit_line, add_file])
def test_any_change_of_the_data_runs_the_first_step_again(run_to_change, cli, change):
    data, run_dir = run_to_change
    change(data)
    with cli.fork(*cli.tiny_run(data, run_dir)) as running:
        line = next(line for line in running.stdout if line.startswith("[1/10] StoryExampleGen:"))
        running.kill()
    assert "done in" in line


def test_an_edit_of_project_code_runs_the_steps_that_depend_on_it_again(run_to_change, cli, tmp_path, steps):
    data, run_dir = run_to_change
    edited = copy.copy(cli)
    edited.code = tmp_path / "code"
    for room in ("storygan_tf", "storygan_cli", "components", "pipeline", "serving"):
        shutil.copytree(cli.code / room, edited.code / room)
    with (edited.code / "storygan_tf/models/losses.py").open("a") as file:
        file.write("\n# An edit.\n")
    done = edited(*cli.tiny_run(data, run_dir))
    assert done.returncode == 0, done.stderr
    assert cached(done.stdout) == steps[:6]
    assert executed(done.stdout) == ["Trainer", "StoryEvaluator", "ServingCheck", "Pusher"]


def kill_within(cli, arguments, step) -> str:
    """Kills a command during a step and returns the output until then."""
    printed = ""
    with cli.fork(*arguments) as running:
        for line in running.stdout:
            printed += line
            if line.strip().endswith(f"] {step}"):
                break
        time.sleep(2)
        running.send_signal(signal.SIGKILL)
    return printed


def test_a_replaced_image_runs_every_step_again_even_if_the_run_is_killed_in_between(run_to_change, cli, steps):
    data, run_dir = run_to_change
    replace_image(data)
    before = executed(kill_within(cli, cli.tiny_run(data, run_dir), "StoryEvaluator"))
    assert before == steps[:7]
    assert len(versions(run_dir)) == 1
    done = cli(*cli.tiny_run(data, run_dir))
    assert done.returncode == 0, done.stdout + done.stderr
    assert cached(done.stdout) == before
    assert executed(done.stdout) == steps[7:]
    assert len(versions(run_dir)) == 2


def test_a_training_stopped_by_sigterm_is_continued_by_the_same_command(run_to_change, cli):
    data, run_dir = run_to_change
    any_drop = ("evaluation.max_f1_drop=1", "evaluation.max_placed_drop=1")
    arguments = cli.tiny_run(data, run_dir, "training.phases.warm_up.epochs=60", *any_drop)
    before = set(run_dir.glob("work/*/checkpoints/00*"))
    with cli.fork(*arguments, "--reconfigure") as running:
        while running.poll() is None and not set(run_dir.glob("work/*/checkpoints/00*")) - before:
            time.sleep(0.1)
        running.send_signal(signal.SIGTERM)
        printed = running.stdout.read()
    assert running.returncode == 143, printed
    assert "training was stopped by SIGTERM after" in printed
    assert "The same command goes on from the last checkpoint." in printed
    done = cli(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(read_history(run_dir)) == 61
    assert len(versions(run_dir)) == 2


def test_a_failed_step_is_named_with_its_reason_in_the_last_lines(run_to_change, cli):
    data, run_dir = run_to_change
    done = cli(*cli.tiny_run(data, run_dir, "training.phases.warm_up.generator_learning_rate=1e30"), "--reconfigure")
    assert done.returncode == 1
    assert "Trainer" in done.stderr.strip().splitlines()[-1]
    assert "diverged" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_model_below_its_thresholds_is_not_pushed(run_to_change, cli):
    data, run_dir = run_to_change
    done = cli(*cli.tiny_run(data, run_dir, "evaluation.min_ssim_over_random=0.9"), "--reconfigure")
    assert done.returncode == 1
    assert "was not pushed. StoryEvaluator: " in done.stderr
    assert "0.9" in done.stderr
    assert len(versions(run_dir)) == 1
    assert "Trainer" in cached(done.stdout)


def test_a_run_directory_of_another_configuration_is_refused(run_to_change, cli):
    data, run_dir = run_to_change
    done = cli(*cli.tiny_run(data, run_dir, "model.noise_size=5"))
    assert done.returncode == 1
    assert "model.noise_size was 4, now 5" in done.stderr
    assert "--reconfigure" in done.stderr


LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
runpy.run_module("storygan_cli", run_name="__main__")
"""
"""Runs `storygan` with files limited to 150 kB, so that writing fails with real errors, as on a full disk."""


def test_too_many_rejects_fail_a_first_run_before_training_and_after_a_kill_and_a_full_disk_a_rerun_finishes(
    cli, forked_python, story_folder, tmp_path
):
    data = story_folder(tmp_path / "data", train=10, test=4)
    (data / first_story(data)["images"][1]).unlink()
    done = cli(*cli.tiny_run(data, tmp_path / "run"))
    assert done.returncode == 1
    assert "StoryExampleGen" in done.stderr
    assert first_story(data)["story_id"] in (tmp_path / "run" / "rejects.jsonl").read_text()
    assert "Trainer" not in done.stdout
    allowed = [*cli.tiny_run(data, tmp_path / "run"), "--max-reject-fraction", "0.2"]
    kill_within(cli, [*allowed, "--reconfigure"], "Transform")
    (tmp_path / "limited.py").write_text(LIMITED)
    environment = cli.options()["env"]
    full = forked_python.run(["-m", "limited", *allowed], cwd=tmp_path, env=environment, timeout=1700)
    assert full.returncode == 1, full.stdout + full.stderr
    assert full.stderr.startswith("storygan: ")
    assert "Traceback" not in full.stderr
    assert not list(tmp_path.glob("run/serving_model/storygan/*"))
    finished = cli(*allowed)
    assert finished.returncode == 0, finished.stderr
    assert len(versions(tmp_path / "run")) == 1
    (reject,) = map(json.loads, (tmp_path / "run/rejects.jsonl").read_text().splitlines())
    file = first_story(data)["images"][1]
    assert reject == {"story_id": first_story(data)["story_id"], "file": file, "reason": "missing image"}
    report = " ".join((tmp_path / "run/report.html").read_text().split())
    assert '<td>set aside: missing image</td><td class="number">1</td>' in report
    assert f"<td>{reject['story_id']}</td><td>{file}</td><td>missing image</td>" in report
    assert "TensorFlow Data Validation" in report


def test_broken_data_stops_a_run_before_training_with_a_reason(cli, story_folder, tmp_path):
    data = story_folder(tmp_path / "data", train=10, test=4)
    for path in (data / "images").iterdir():
        Image.new("RGB", (96, 72), (128, 128, 128)).save(path)
    done = cli(*cli.tiny_run(data, tmp_path / "run"))
    assert done.returncode == 1
    assert "ExampleValidator: no model can be trained on these stories:" in done.stderr
    assert "train: look: " in done.stderr
    assert "Trainer" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preset", "quik"], "did you mean 'quick'"),
        (["--set", "training.sead=1"], "did you mean 'seed'"),
        (["--set", "model.frames=four"], "expected a whole number"),
        (["--out", "/proc/storygan"], "choose another folder"),
        (["--data", "no/such/folder"], "no such folder"),
    ],
)
def test_wrong_arguments_end_with_one_readable_paragraph(cli, story_folder, tmp_path, arguments, expected):
    data = story_folder(tmp_path / "data", train=2, test=1)
    done = cli("run", "--data", data, "--out", tmp_path / "run", *arguments)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
